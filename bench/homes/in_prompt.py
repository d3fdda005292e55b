"""What is typed at a prompt, or run in a notebook's cell: one line, and the prompt is back."""

import app

server = app.start()
