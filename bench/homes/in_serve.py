"""A script that serves until it is told to stop."""

import app

app.start().serve()
