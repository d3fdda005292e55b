"""As `in_prompt`, beside a window of Tk that was opened before the server, or after it (`WINDOW`)."""

import os
import tkinter

import app

if os.environ["WINDOW"] == "before":
    window = tkinter.Tk()
server = app.start()
if os.environ["WINDOW"] == "after":
    window = tkinter.Tk()
