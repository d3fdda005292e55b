"""A Tk window: Tk watches one descriptor, and callbacks run on its thread, so they may touch its widgets."""

import sys
import tkinter

import portico

root = tkinter.Tk()
label = tkinter.Label(root, text="Nobody yet", width=40)
label.pack()


def call(req):
    if req.path == "/close":
        root.after(100, root.destroy)
    label["text"] = f"Last: {req.path}"
    return f"The window says: {label['text']}\n"


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with portico.start_server("127.0.0.1", port, call, quiet=True) as server:
    print(server.url, flush=True)
    root.createfilehandler(portico.fileno(), tkinter.READABLE, lambda *_: portico.service(0))
    root.mainloop()  # until the window is closed; then the server stops
