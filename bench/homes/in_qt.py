"""A Qt application."""

import app
from PySide6.QtCore import QCoreApplication, QSocketNotifier

import portico

qt = QCoreApplication([])
app.start()
notifier = QSocketNotifier(portico.fileno(), QSocketNotifier.Type.Read)
notifier.activated.connect(lambda *_: portico.service(0))
qt.exec()
