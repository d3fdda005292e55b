//! Bytes ⇄ events for HTTP/1.1 (RFC 9112) and WebSocket (RFC 6455, compressed as in RFC 7692), both roles.
//!
//! In scope: request and response heads, bodies, trailers; the WebSocket handshake, frames, messages
//! and closing; the limits that bound them; every refusal with its status or close code.
//! Out of scope: sockets, clocks, threads, Python, routing.
//!
//! Thread: any (pure).
#![forbid(unsafe_code)]

pub mod error;
pub mod file_path;
pub mod http_body;
pub mod http_coding;
pub mod http_compression;
pub mod http_conditions;
pub mod http_cors;
mod http_encode;
mod http_fields;
mod http_framing;
pub mod http_gzip;
pub mod http_head;
pub mod http_range;
mod http_request;
mod http_response;
mod http_status;
mod http_target;
pub mod http_vary;
mod ws_assembly;
pub mod ws_close;
pub mod ws_deflate;
mod ws_extensions;
pub mod ws_frame;
pub mod ws_handshake;
pub mod ws_message;
