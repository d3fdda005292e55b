//! Who may talk to a server that a browser can reach: the Host and Origin checks.
//!
//! A page on any web site can make a browser connect to 127.0.0.1, and can give its own name that address (DNS
//! rebinding). The Host field tells such a name from ours; the Origin field tells a foreign page's WebSocket from our own
//! page's, which no other rule of the browser does (cross-site WebSocket hijacking).
//!
//! Thread: any (pure).

use std::net::{IpAddr, Ipv6Addr};

/// May a request with this Host authority be answered? Loopback names and addresses always may.
pub fn is_host_allowed(authority: &str, allowed: &[String]) -> bool {
    let name = host_name(authority);
    is_loopback(name)
        || allowed
            .iter()
            .any(|entry| entry.eq_ignore_ascii_case(authority) || host_name(entry).eq_ignore_ascii_case(name))
}

/// May a page of `origin` open a WebSocket on the server it calls `authority`? `null` never may. Whoever can change what
/// arrives by plain HTTP must not speak to a server with TLS through it: the page has to come by https itself. (The
/// other way round, TLS may end at a proxy.)
pub fn is_origin_allowed(origin: &[u8], authority: &str, allowed: &[String], is_tls: bool) -> bool {
    let Ok(origin) = std::str::from_utf8(origin) else {
        return false;
    };
    if allowed.iter().any(|entry| entry.trim_end_matches('/').eq_ignore_ascii_case(origin)) {
        return origin != "null";
    }
    let Some((scheme, host)) = origin.split_once("://") else {
        return false;
    };
    if is_tls && scheme != "https" {
        return false;
    }
    let port = default_port(scheme);
    without_port(host, port).eq_ignore_ascii_case(without_port(authority, port))
}

fn is_loopback(name: &str) -> bool {
    let is_local_name = name.eq_ignore_ascii_case("localhost")
        || name.len() > 10
            && name.is_char_boundary(name.len() - 10)
            && name[name.len() - 10..].eq_ignore_ascii_case(".localhost");
    is_local_name
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        || bracketed(name).is_some_and(|address| address.is_loopback())
}

fn bracketed(name: &str) -> Option<Ipv6Addr> {
    name.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

/// The authority without its port.
fn host_name(authority: &str) -> &str {
    match authority.rfind(':') {
        Some(colon) if !authority[colon..].contains(']') => &authority[..colon],
        _ => authority,
    }
}

fn without_port<'a>(authority: &'a str, default: &str) -> &'a str {
    authority.strip_suffix(default).filter(|rest| !default.is_empty() && !rest.is_empty()).unwrap_or(authority)
}

fn default_port(scheme: &str) -> &'static str {
    match scheme {
        "http" | "ws" => ":80",
        "https" | "wss" => ":443",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> Vec<String> {
        entries.iter().map(|entry| (*entry).to_owned()).collect()
    }

    #[test]
    fn loopback_hosts_pass_and_rebound_names_do_not() {
        for good in [
            "localhost",
            "localhost:8000",
            "LOCALHOST",
            "127.0.0.1:1",
            "127.3.2.1",
            "[::1]:80",
            "[::1]",
            "a.localhost:9",
        ] {
            assert!(is_host_allowed(good, &[]), "{good}");
        }
        for bad in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "[::2]",
            "10.0.0.1",
            "xlocalhost",
            "é.localhos",
        ] {
            assert!(!is_host_allowed(bad, &[]), "{bad}");
        }
        assert!(is_host_allowed("lab.example:8000", &list(&["lab.example"])));
        assert!(is_host_allowed("lab.example:8000", &list(&["LAB.example:8000"])));
        assert!(!is_host_allowed("lab.example.net", &list(&["lab.example"])));
    }

    #[test]
    fn only_the_same_origin_passes() {
        let same = |origin: &str, host: &str| is_origin_allowed(origin.as_bytes(), host, &[], false);
        assert!(same("http://localhost:8000", "localhost:8000"));
        assert!(same("http://localhost", "localhost:80"));
        assert!(same("https://a.example:443", "a.example"));
        for bad in [
            "null",
            "http://localhost:8001",
            "http://localhost.evil.net",
            "http://evil.net",
            "localhost:8000",
            "",
            "http://",
        ] {
            assert!(!same(bad, "localhost:8000"), "{bad}");
        }
        assert!(is_origin_allowed(b"https://a.example", "a.example", &[], true));
        assert!(is_origin_allowed(b"https://a.example", "a.example:443", &[], true));
        assert!(!is_origin_allowed(b"http://a.example", "a.example", &[], true));
        assert!(is_origin_allowed(b"http://a.example", "a.example", &list(&["http://a.example"]), true));
        assert!(is_origin_allowed(b"https://app.example", "localhost:8000", &list(&["https://app.example/"]), false));
        assert!(!is_origin_allowed(
            b"https://app.example.evil.net",
            "localhost:8000",
            &list(&["https://app.example"]),
            false
        ));
        assert!(!is_origin_allowed(b"null", "localhost:8000", &list(&["null"]), false));
        assert!(!is_origin_allowed(b"\xff", "localhost", &[], false));
    }
}
