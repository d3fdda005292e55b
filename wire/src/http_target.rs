//! Request targets and authorities (RFC 9112 §3.2, RFC 3986 §3.2): which form, where the path is, is the host well-formed.
//! Not percent-decoding, and not whether the host is ours.
//!
//! Thread: any (pure).

use crate::error::HttpRefusal;
use crate::http_fields::{Span, bad_request};
use std::net::Ipv6Addr;

/// A request target taken apart; the spans are relative to the bytes it was found in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Target {
    /// Empty only for an absolute form without a path, which means "/" (RFC 9110 §4.2.3).
    pub(crate) path: Span,
    pub(crate) query: Span,
    /// Empty unless the target is in absolute form.
    pub(crate) authority: Span,
    pub(crate) default_port: &'static str,
}

/// `bytes[span]` is visible ASCII without `#`.
pub(crate) fn split_target(bytes: &[u8], span: Span, method: &[u8]) -> Result<Target, HttpRefusal> {
    let target = span.of(bytes);
    match target.first() {
        Some(b'/') => Ok(split_path(target, span.start(), 0)),
        Some(b'*') if target.len() == 1 => {
            if method != b"OPTIONS" {
                return bad_request("the target * belongs to OPTIONS");
            }
            Ok(split_path(target, span.start(), 0))
        }
        _ => split_absolute(target, span.start()),
    }
}

fn split_path(target: &[u8], offset: usize, path_start: usize) -> Target {
    let rest = &target[path_start..];
    let path_len = memchr::memchr(b'?', rest).unwrap_or(rest.len());
    let path_end = path_start + path_len;
    let query_start = (path_end + 1).min(target.len());
    Target {
        path: Span::new(offset + path_start, offset + path_end),
        query: Span::new(offset + query_start, offset + target.len()),
        ..Target::default()
    }
}

fn split_absolute(target: &[u8], offset: usize) -> Result<Target, HttpRefusal> {
    let Some((scheme_len, default_port)) = scheme_of(target) else {
        return bad_request("the target must be a path that begins with /, an http URL, or *");
    };
    let rest = &target[scheme_len..];
    let end = memchr::memchr2(b'/', b'?', rest).unwrap_or(rest.len());
    // Also refuses user:password@, which RFC 9110 §4.2.4 calls an error because it disguises the host.
    if !is_authority(&rest[..end]) {
        return bad_request("the authority in the target is not a host with an optional port");
    }
    Ok(Target {
        authority: Span::new(offset + scheme_len, offset + scheme_len + end),
        default_port,
        ..split_path(target, offset, scheme_len + end)
    })
}

fn scheme_of(target: &[u8]) -> Option<(usize, &'static str)> {
    let schemes = [("http://", ":80"), ("https://", ":443"), ("ws://", ":80"), ("wss://", ":443")];
    schemes.into_iter().find_map(|(scheme, port)| {
        let start = target.get(..scheme.len())?;
        start.eq_ignore_ascii_case(scheme.as_bytes()).then_some((scheme.len(), port))
    })
}

/// Whether `bytes` is `host` or `host:port`, nothing around it.
///
/// Narrower than RFC 3986 on purpose: percent escapes and sub-delims can't stand in a name that resolves,
/// and decoded later they bring back the `/ ? # @` that poison a rebuilt URL. An empty port is refused too.
pub(crate) fn is_authority(bytes: &[u8]) -> bool {
    let (host_is_good, port) = if let Some(rest) = bytes.strip_prefix(b"[") {
        let Some(close) = memchr::memchr(b']', rest) else {
            return false;
        };
        (is_ipv6(&rest[..close]), &rest[close + 1..])
    } else {
        let end = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
        (is_host_name(&bytes[..end]), &bytes[end..])
    };
    host_is_good && (port.is_empty() || is_port(port))
}

fn is_ipv6(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.parse::<Ipv6Addr>().is_ok())
}

fn is_host_name(bytes: &[u8]) -> bool {
    let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    !bytes.is_empty() && bytes.iter().all(allowed)
}

fn is_port(bytes: &[u8]) -> bool {
    let Some(digits) = bytes.strip_prefix(b":") else {
        return false;
    };
    let value = digits.iter().try_fold(0u32, |value, digit| {
        digit.is_ascii_digit().then(|| (value * 10 + u32::from(digit - b'0')).min(65536))
    });
    !digits.is_empty() && value.is_some_and(|port| port <= 65535)
}

/// Whether two authorities name the same host and port, a scheme's default port counting as none.
pub(crate) fn same_authority(one: &[u8], other: &[u8], default_port: &str) -> bool {
    let bare = |authority: &[u8]| -> usize {
        let port_len = default_port.len();
        let with_port = authority.ends_with(default_port.as_bytes());
        authority.len() - if with_port { port_len } else { 0 }
    };
    one[..bare(one)].eq_ignore_ascii_case(&other[..bare(other)])
}
