//! What one server is told when it starts: its limits and whom it answers. Plain values.
//!
//! Thread: any.

use crate::timers::Millis;
use std::path::PathBuf;
use wire::http_cors::Cors;
use wire::http_gzip::GzipPool;
use wire::http_head::HeadLimits;
use wire::ws_deflate::{DeflateOptions, InflaterPool};
use wire::ws_frame::Opcode;
use wire::ws_message::MessageLimits;

/// The names and meanings of `portico.Limits`; `None` switches a time-out off.
#[derive(Clone, Debug)]
pub struct Limits {
    pub head: HeadLimits,
    pub message: MessageLimits,
    pub max_body_bytes: u64,
    pub max_body_in_memory_bytes: u64,
    pub max_inbox_messages: usize,
    pub max_inbox_bytes: usize,
    pub max_outbox_bytes: usize,
    pub max_connections: usize,
    pub max_connections_per_address: Option<usize>,
    pub handshake_timeout: Option<Millis>,
    pub head_timeout: Option<Millis>,
    pub body_timeout: Option<Millis>,
    pub idle_timeout: Option<Millis>,
    pub write_timeout: Option<Millis>,
    pub answer_timeout: Option<Millis>,
    pub ping_interval: Option<Millis>,
    pub pong_timeout: Option<Millis>,
    pub close_timeout: Option<Millis>,
}

/// What connections of one server have in common.
#[derive(Debug)]
pub struct Settings {
    pub limits: Limits,
    /// Names beside the loopback ones that the Host field may have; `None`: any (RFC 9110 §7.2).
    pub allowed_hosts: Option<Vec<String>>,
    /// Origins beside the server's own that may open WebSockets; `None`: any (RFC 6455 §10.2).
    pub allowed_origins: Option<Vec<String>>,
    /// Which pages of other origins may read answers; `None`: not the server's business.
    pub cors: Option<Cors>,
    /// Connections over TCP want TCP_NODELAY.
    pub is_tcp: bool,
    /// Requests and answers are told to Python, for the access log.
    pub logs_access: bool,
    /// Where bodies go that are too long for memory.
    pub spool_directory: PathBuf,
    /// Lent to a connection for as long as a compressed message lasts.
    pub inflaters: InflaterPool,
    /// Lent to an answer for as long as it is compressed.
    pub gzippers: GzipPool,
}

impl Settings {
    /// For a connection that we open: nobody is let in, and no requests are served.
    pub fn outbound(limits: Limits, is_tcp: bool) -> Settings {
        Settings {
            limits,
            allowed_hosts: None,
            allowed_origins: None,
            cors: None,
            is_tcp,
            logs_access: false,
            spool_directory: PathBuf::new(),
            inflaters: InflaterPool::new(),
            gzippers: GzipPool::new(),
        }
    }
}

/// What happens when a message finds no room in the outbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SlowClient {
    /// Close with 1013: a client that comes back finds a live server.
    #[default]
    Close,
    /// Refuse the message.
    DropNew,
    /// Take it, in place of the oldest ones.
    DropOldest,
}

/// How one route speaks WebSocket.
#[derive(Debug, Default)]
pub struct WebSocketOptions {
    /// In the server's order of preference.
    pub subprotocols: Vec<String>,
    /// Refuse a client that offers none of them.
    pub requires_subprotocol: bool,
    pub deflate: Option<DeflateOptions>,
    pub slow_client: SlowClient,
    /// What all messages are, both ways; `None`: what their sender made them.
    pub frames: Option<Opcode>,
    /// In place of the server's; with `*`, any.
    pub allowed_origins: Option<Vec<String>>,
}

#[cfg(test)]
pub fn test_settings() -> Settings {
    let limits = Limits {
        head: HeadLimits::default(),
        message: MessageLimits::default(),
        max_body_bytes: 1 << 20,
        max_body_in_memory_bytes: 1 << 16,
        max_inbox_messages: 100,
        max_inbox_bytes: 1 << 20,
        max_outbox_bytes: 1 << 20,
        max_connections: 100,
        max_connections_per_address: None,
        handshake_timeout: None,
        head_timeout: None,
        body_timeout: None,
        idle_timeout: None,
        write_timeout: None,
        answer_timeout: None,
        ping_interval: None,
        pong_timeout: None,
        close_timeout: None,
    };
    Settings {
        limits,
        allowed_hosts: None,
        allowed_origins: None,
        cors: None,
        is_tcp: true,
        logs_access: false,
        spool_directory: std::env::temp_dir(),
        inflaters: InflaterPool::new(),
        gzippers: GzipPool::new(),
    }
}
