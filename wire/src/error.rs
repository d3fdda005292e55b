//! Every refusal this crate can utter, with its HTTP status or its WebSocket close code.
//!
//! Thread: any (pure).

/// Why a request is refused: the status to answer with, and one sentence for the client and the log.
/// After any refusal the connection is closed, because the position in the byte stream is no longer
/// agreed on (RFC 9112 §9.3, §11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    /// 400, 408, 413, 414, 417, 426, 431, 501 or 505.
    pub status: u16,
    /// What was expected; names the option that changes it, if one does.
    pub reason: &'static str,
}

/// Why a WebSocket connection fails: the close code to send (RFC 6455 §7.4.1) and the reason beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsRefusal {
    /// 1002 (protocol error), 1003, 1007 (not UTF-8), 1008 or 1009 (too big).
    pub code: u16,
    /// At most 123 bytes, fit for a close frame.
    pub reason: &'static str,
}
