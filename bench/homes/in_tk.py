"""A Tk window."""

import tkinter

import app

import portico

root = tkinter.Tk()
app.start()
root.createfilehandler(portico.fileno(), tkinter.READABLE, lambda *_: portico.service(0))
root.mainloop()
