//! Sockets, the reactor and the seam to Python. `wire` turns bytes into events; this crate moves them.
//!
//! Thread: see each file. No thread of this crate ever attaches to the interpreter; the only folder that knows Python is `seam`.
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "linux"))]
compile_error!("portico runs on Linux so far: src/poller.rs knows epoll, timerfd and eventfd; kqueue would go there");

mod access;
mod access_log;
mod calling;
mod certificate;
mod connection;
mod dial;
mod disk;
mod engine;
mod file_answer;
mod files;
mod gate;
mod http;
mod http_answer;
mod http_compress;
mod http_stream;
mod inflow;
mod keep_alive;
mod listen;
mod mailbox;
mod mask_keys;
mod number;
mod outbox;
mod outgoing;
mod pace;
mod poller;
mod reactor;
mod request_body;
mod route_table;
mod seam;
mod settings;
mod signals;
mod spool;
mod static_files;
mod stream;
mod timers;
mod tls;
mod tls_config;
mod topics;
mod watchman;
mod websocket;
mod websocket_send;
