"""A Qt window: Qt watches one descriptor, and callbacks run on its thread, so they may touch its widgets."""

import sys

from PySide6.QtCore import QSocketNotifier, QTimer
from PySide6.QtWidgets import QApplication, QLabel

import portico

app = QApplication(sys.argv[:1])
label = QLabel("Nobody yet")
label.show()


def call(req):
    if req.path == "/close":
        QTimer.singleShot(100, label.close)
    label.setText(f"Last: {req.path}")
    return f"The window says: {label.text()}\n"


port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
with portico.start_server("127.0.0.1", port, call, quiet=True) as server:
    print(server.url, flush=True)
    notifier = QSocketNotifier(portico.fileno(), QSocketNotifier.Type.Read)
    notifier.activated.connect(lambda *_: portico.service(0))
    app.exec()  # until the window is closed; then the server stops
