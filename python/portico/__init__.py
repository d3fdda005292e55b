"""Portico: an HTTP and WebSocket server that moves into the Python process you already have open.

    server = portico.start_server("127.0.0.1", 8000, lambda req: "hello")

One call starts it and returns at once; its I/O goes on while Python is busy, and your callbacks run on the thread that
started it, when that thread is idle (in a running asyncio loop) or asks for them (`service()`, `server.serve()`).
"""

import sys
from typing import TYPE_CHECKING

if sys.platform != "linux":
    raise ImportError(f"portico runs on Linux so far, and this is {sys.platform}")

from portico.body import BodyError, RequestStream
from portico.call import CertificateError, HandshakeError, HandshakeRefused
from portico.client import Client, ConnectionClosed, connect
from portico.comment_tags import RouteFileError
from portico.cors import Cors
from portico.doors.api import Api, api, api_message
from portico.doors.app import (
    fileno,
    run_server,
    run_static_server,
    service,
    start_pipe_server,
    start_server,
    stop_all_servers,
    stop_server,
)
from portico.doors.context import (
    Context,
    FrameHeader,
    create_context,
    create_server,
    daemonize,
    http_response,
    http_vars,
    set_callback,
    static_file_service,
    static_text_service,
    websocket,
    websocket_broadcast,
    websocket_close,
    websocket_write,
)
from portico.doors.handlers import (
    format_sse,
    handler,
    handler_directory,
    handler_file,
    handler_inline,
    handler_redirect,
    handler_stream,
    handler_ws,
    http_server,
)
from portico.forms import Form, Upload
from portico.headers import Headers
from portico.home import interrupt
from portico.reconnecting import reconnect
from portico.request import Request
from portico.request_header import RequestHeader
from portico.response import Response
from portico.routes import Deflate, Gzip, Limits
from portico.server import Server, list_servers
from portico.static_paths import (
    ExcludedStaticPath,
    StaticPath,
    StaticPathOptions,
    exclude_static_path,
    static_path,
    static_path_options,
)
from portico.stream_connection import StreamConnection
from portico.tls import Certificate, CertPair, TlsConfig, tls_config, write_cert
from portico.websocket_connection import SendResult, WebSocket

if TYPE_CHECKING:
    __version__: str
else:

    def __getattr__(name):
        # Reading the installed metadata takes longer than importing all of portico.
        if name == "__version__":
            from importlib.metadata import version

            return version("portico")
        raise AttributeError(f"module 'portico' has no attribute {name!r}")


__all__ = [
    "Api",
    "BodyError",
    "CertPair",
    "Certificate",
    "CertificateError",
    "Client",
    "ConnectionClosed",
    "Context",
    "Cors",
    "Deflate",
    "ExcludedStaticPath",
    "Form",
    "FrameHeader",
    "Gzip",
    "HandshakeError",
    "HandshakeRefused",
    "Headers",
    "Limits",
    "Request",
    "RequestHeader",
    "RequestStream",
    "Response",
    "RouteFileError",
    "SendResult",
    "Server",
    "StaticPath",
    "StaticPathOptions",
    "StreamConnection",
    "TlsConfig",
    "Upload",
    "WebSocket",
    "api",
    "api_message",
    "connect",
    "create_context",
    "create_server",
    "daemonize",
    "exclude_static_path",
    "fileno",
    "format_sse",
    "handler",
    "handler_directory",
    "handler_file",
    "handler_inline",
    "handler_redirect",
    "handler_stream",
    "handler_ws",
    "http_response",
    "http_server",
    "http_vars",
    "interrupt",
    "list_servers",
    "reconnect",
    "run_server",
    "run_static_server",
    "service",
    "set_callback",
    "start_pipe_server",
    "start_server",
    "static_file_service",
    "static_path",
    "static_path_options",
    "static_text_service",
    "stop_all_servers",
    "stop_server",
    "tls_config",
    "websocket",
    "websocket_broadcast",
    "websocket_close",
    "websocket_write",
    "write_cert",
]
