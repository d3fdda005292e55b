"""As `in_prompt`, beside a window of Qt."""

import app
from PySide6.QtGui import QGuiApplication, QWindow

qt = QGuiApplication([])
server = app.start()
window = QWindow()
window.show()
