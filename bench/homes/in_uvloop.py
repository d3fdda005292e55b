"""An asyncio program on uvloop."""

import uvloop
from in_asyncio import main

uvloop.run(main())
