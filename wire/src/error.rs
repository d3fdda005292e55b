//! Every refusal this crate can utter, with its HTTP status or its WebSocket close code.
//!
//! Thread: any (pure).

use crate::http_status::reason_phrase;

/// Why a request is refused: the status to answer with, and one sentence for the client and the log.
/// After any refusal the connection is closed, because the position in the byte stream is no longer
/// agreed on (RFC 9112 §9.3, §11.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HttpRefusal {
    /// 400, 408, 413, 414, 417, 426, 431, 501 or 505.
    pub status: u16,
    /// What was expected, without a capital or a full stop; names the option that changes it, if one does.
    pub reason: &'static str,
}

/// The body of every error that no application answers: one line, `404 Not Found` or `400 Bad Request: why`.
pub fn error_body(status: u16, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    format!("{status} {}{colon}{why}\n", reason_phrase(status))
}

/// Why a WebSocket connection fails: the close code to send (RFC 6455 §7.4.1) and the reason beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WsRefusal {
    /// 1002 (protocol error), 1003, 1007 (not UTF-8), 1008 or 1009 (too big).
    pub code: u16,
    /// At most 123 bytes, fit for a close frame.
    pub reason: &'static str,
}

/// Why a client does not believe that the other side speaks WebSocket (RFC 6455 §4.1, second list).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerRefusal {
    /// Any status but 101; the answer is an ordinary HTTP response.
    Status,
    /// `Upgrade` is not `websocket`.
    Upgrade,
    /// `Connection` does not name `upgrade`.
    Connection,
    /// `Sec-WebSocket-Accept` is missing, repeated or does not fit our key.
    Accept,
    /// An extension that we did not offer, or more than one.
    Extension,
    /// `Sec-WebSocket-Extensions` is malformed, or says of our extension what the offer does not allow.
    ExtensionParameters,
    /// A protocol that we did not offer, or more than one.
    Protocol,
}

impl AnswerRefusal {
    /// One sentence for an exception.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Status => "the server did not answer 101 Switching Protocols",
            Self::Upgrade => "the server's Upgrade field is not websocket",
            Self::Connection => "the server's Connection field does not name upgrade",
            Self::Accept => "the server's Sec-WebSocket-Accept does not answer our key",
            Self::Extension => "the server chose an extension that was not offered",
            Self::ExtensionParameters => "the server's Sec-WebSocket-Extensions does not answer our offer",
            Self::Protocol => "the server chose a subprotocol that was not offered",
        }
    }
}
