//! Sockets, the reactor and the seam to Python. `wire` turns bytes into events; this crate moves them.
//!
//! Thread: see each file. No thread of this crate ever attaches to the interpreter; the only file that knows Python is `py`.
#![deny(unsafe_op_in_unsafe_fn)]

#[cfg(not(target_os = "linux"))]
compile_error!("portico runs on Linux so far: src/poller.rs knows epoll, timerfd and eventfd; kqueue would go there");

mod access;
mod connection;
mod engine;
mod http;
mod listen;
mod mailbox;
mod number;
mod outbox;
mod poller;
mod py;
mod reactor;
mod route_table;
mod settings;
mod stream;
mod timers;
mod watchman;
mod websocket;
