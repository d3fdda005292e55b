"""`python -m portico`: the same as the `portico` command. Thread: main."""

import sys

from portico.cli import main

sys.exit(main())
