//! Close frames (RFC 6455 §5.5.1, §7.4): their codes and their payload. When to send one is decided in `core`.
//!
//! Thread: any (pure).

use crate::error::WsRefusal;
use crate::ws_frame::{MAX_CONTROL_BYTES, Opcode, encode_frame};

/// The purpose is fulfilled.
pub const NORMAL: u16 = 1000;
/// The server stops, or the browser leaves the page.
pub const GOING_AWAY: u16 = 1001;
/// The peer broke RFC 6455.
pub const PROTOCOL_ERROR: u16 = 1002;
/// This endpoint cannot take that kind of message, say binary.
pub const UNSUPPORTED_DATA: u16 = 1003;
/// Never sent: the close frame carried no code (§7.1.5).
pub const NO_STATUS: u16 = 1005;
/// Never sent: the connection ended without a close frame (§7.1.5).
pub const ABNORMAL: u16 = 1006;
/// A text message or a close reason was not UTF-8.
pub const INVALID_PAYLOAD: u16 = 1007;
/// Refused for a reason that has no code of its own.
pub const POLICY_VIOLATION: u16 = 1008;
/// A message is larger than this endpoint takes.
pub const MESSAGE_TOO_BIG: u16 = 1009;
/// A client needed an extension that the server did not agree to.
pub const MANDATORY_EXTENSION: u16 = 1010;
/// The server met a condition it did not expect.
pub const INTERNAL_ERROR: u16 = 1011;
/// The service restarts (IANA registry).
pub const SERVICE_RESTART: u16 = 1012;
/// The service is overloaded (IANA registry).
pub const TRY_AGAIN_LATER: u16 = 1013;
/// A gateway got a bad answer from the server behind it (IANA registry).
pub const BAD_GATEWAY: u16 = 1014;
/// Never sent: TLS failed before there was a WebSocket (§7.4.1).
pub const TLS_HANDSHAKE: u16 = 1015;

/// The longest reason, in bytes: a control frame less the two bytes of the code (§5.5).
pub const MAX_REASON_BYTES: usize = MAX_CONTROL_BYTES - 2;

/// Whether an application may close with `code`: 1000–1003, 1007–1014, 3000–4999.
///
/// 1005, 1006 and 1015 describe closings without a code and must never be sent (§7.4.1); 1004 and
/// 1016–2999 are reserved for future versions of the protocol (§7.4.2).
pub const fn is_sendable(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

/// Whether a peer's close frame may carry `code`; anything else is answered with 1002.
///
/// The same set as [`is_sendable`]. A second name, because registering a new code one day will let us
/// receive it before we let applications send it.
pub const fn is_receivable(code: u16) -> bool {
    is_sendable(code)
}

/// Append a whole close frame.
///
/// 1005, and every other code that must not travel, gives an empty payload, which is how "no code" is said
/// (§7.1.5). `reason` is cut at a character to [`MAX_REASON_BYTES`], because cutting inside one would make
/// the peer fail us with 1007.
pub fn encode_close(out: &mut Vec<u8>, code: u16, reason: &str, mask: Option<[u8; 4]>) {
    if !is_sendable(code) {
        encode_frame(out, Opcode::Close, &[], mask);
        return;
    }
    let reason = cut_reason(reason);
    let mut payload = [0; MAX_CONTROL_BYTES];
    payload[..2].copy_from_slice(&code.to_be_bytes());
    payload[2..2 + reason.len()].copy_from_slice(reason);
    encode_frame(out, Opcode::Close, &payload[..2 + reason.len()], mask);
}

fn cut_reason(reason: &str) -> &[u8] {
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1; // ends at 0 at the latest, which is a boundary
    }
    &reason.as_bytes()[..end]
}

/// The code and the reason in a close frame's unmasked payload; 1005 and "" if it is empty.
///
/// Errors: 1002 for half a code or a code that must not travel, 1007 for a reason that is not UTF-8.
pub fn decode_close(payload: &[u8]) -> Result<(u16, &str), WsRefusal> {
    match payload {
        [] => Ok((NO_STATUS, "")),
        [_] => Err(refusal(PROTOCOL_ERROR, "close frame with half a code")),
        [high, low, reason @ ..] => {
            let code = u16::from_be_bytes([*high, *low]);
            if !is_receivable(code) {
                return Err(refusal(PROTOCOL_ERROR, "close frame with a code that must not be sent"));
            }
            let reason = simdutf8::basic::from_utf8(reason)
                .map_err(|_| refusal(INVALID_PAYLOAD, "close reason is not UTF-8"))?;
            Ok((code, reason))
        }
    }
}

fn refusal(code: u16, reason: &'static str) -> WsRefusal {
    WsRefusal { code, reason }
}
