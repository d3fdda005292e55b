//! Which answers may be compressed for whom, and what their fields say then (RFC 9110 §8.4, §12.5.3). The bytes are made
//! in `http_gzip`.
//!
//! Thread: any (pure).

use crate::http_coding::{Coding, choose_coding};
use crate::http_conditions::names_weakly_only;
use crate::http_fields::list_members;
use crate::http_vary::add_vary;

/// How the answers of a route are compressed.
#[derive(Clone, Debug)]
pub struct GzipOptions {
    /// 1 is the fastest, 9 the smallest.
    pub level: u8,
    /// Shorter ones are sent as they are.
    pub min_bytes: u64,
    /// `type/subtype`, `type/*`, `*+suffix` or `*/*`, in any case.
    pub types: Vec<String>,
}

/// What is known of an answer when its head is made.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// From 200 up.
    pub status: u16,
    /// As the application gave them.
    pub fields: &'a [(&'a str, &'a str)],
    /// Of the body, which for HEAD is that of GET; `None`: it comes piece by piece.
    pub length: Option<u64>,
}

/// What the request says that matters here: all values of the field.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes<'a> {
    /// `Accept-Encoding`.
    pub accept_encoding: &'a [&'a [u8]],
    /// `If-None-Match`.
    pub if_none_match: &'a [&'a [u8]],
}

/// What becomes of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// No client would get it compressed.
    AsItIs,
    /// Another client might get it compressed, this one doesn't.
    Identity,
    /// Compressed, unless that makes it no smaller.
    Gzip,
    /// A 304 about the compressed form, which is the one this client has.
    NotModified,
}

/// Where changed values are kept while the head is made.
#[derive(Debug, Default)]
pub struct Changed {
    etag: String,
    vary: String,
}

/// Fields that make compressing wrong: there is a coding already; it is a part (§14.4); or somebody has computed a sum of
/// just these bytes (RFC 9530, RFC 1864), which for a stream may come in the trailers.
const FORBIDDING: [&str; 7] =
    ["content-encoding", "content-range", "content-digest", "repr-digest", "digest", "content-md5", "trailer"];

/// Decides by what the application says, then by what the client takes.
pub fn choose(options: &GzipOptions, candidate: &Candidate, wishes: &Wishes) -> Choice {
    let fields = candidate.fields;
    let is_forbidden = fields.iter().any(|(name, value)| {
        FORBIDDING.iter().any(|other| name.eq_ignore_ascii_case(other))
            // RFC 9111 §5.2.2.6. Said to proxies, and meant for whoever compresses on the way.
            || name.eq_ignore_ascii_case("cache-control") && has_member(value, b"no-transform")
    });
    if is_forbidden || matches!(candidate.status, 100..=199 | 204..=206) {
        return Choice::AsItIs;
    }
    let takes_gzip = choose_coding(wishes.accept_encoding, &[Coding::Gzip]).is_some();
    if candidate.status == 304 {
        // What the 200 would be is not known here, so it is taken to vary (§15.4.5: the 304 says what the 200 would).
        let has_compressed = etag_of(fields).is_some_and(|etag| names_weakly_only(wishes.if_none_match, etag));
        return if takes_gzip && has_compressed { Choice::NotModified } else { Choice::Identity };
    }
    let is_long_enough = candidate.length.is_none_or(|length| length > 0 && length >= options.min_bytes);
    match only(fields, "content-type") {
        Some(content_type) if is_long_enough && is_compressible(content_type, &options.types) => {
            if takes_gzip {
                Choice::Gzip
            } else {
                Choice::Identity
            }
        }
        _ => Choice::AsItIs,
    }
}

/// The fields that go with a choice. `is_compressed` says what came of [`Choice::Gzip`].
///
/// Compressed, the tag is a weak one, because another representation's bytes may have it too (§8.8.1). So does nginx;
/// a suffix, as Apache's, would make the application's own comparison fail for good. Content-Length is no longer true, and
/// parts of what is compressed anew each time fit nothing (§14.3).
pub fn fields_for<'a>(
    choice: Choice,
    is_compressed: bool,
    fields: &[(&'a str, &'a str)],
    changed: &'a mut Changed,
) -> Vec<(&'a str, &'a str)> {
    let mut fields = fields.to_vec();
    if choice == Choice::AsItIs {
        return fields;
    }
    if is_compressed {
        let is_kept =
            |name: &str| !["content-length", "accept-ranges"].iter().any(|other| name.eq_ignore_ascii_case(other));
        fields.retain(|(name, _)| is_kept(name));
        fields.push(("Content-Encoding", Coding::Gzip.name()));
    }
    if (is_compressed || choice == Choice::NotModified)
        && let Some(field) = fields.iter_mut().find(|(name, _)| name.eq_ignore_ascii_case("etag"))
        && field.1.starts_with('"')
    {
        changed.etag = format!("W/{}", field.1);
        field.1 = &changed.etag;
    }
    add_vary(&mut fields, "Accept-Encoding", &mut changed.vary);
    fields
}

/// Whether one of the patterns is about this `Content-Type`, with or without parameters.
pub fn is_compressible(content_type: &str, types: &[String]) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    let Some((main, _)) = essence.split_once('/') else { return false };
    types.iter().any(|pattern| match pattern.strip_prefix('*') {
        Some("/*") => true,
        Some(suffix) => ends_with(essence, suffix),
        None => match pattern.strip_suffix("/*") {
            Some(wanted) => main.eq_ignore_ascii_case(wanted),
            None => essence.eq_ignore_ascii_case(pattern),
        },
    })
}

fn ends_with(text: &str, suffix: &str) -> bool {
    let at = text.len().checked_sub(suffix.len());
    at.and_then(|at| text.get(at..)).is_some_and(|end| end.eq_ignore_ascii_case(suffix))
}

fn has_member(value: &str, wanted: &[u8]) -> bool {
    list_members(value.as_bytes()).any(|member| member.eq_ignore_ascii_case(wanted))
}

fn etag_of<'a>(fields: &[(&'a str, &'a str)]) -> Option<&'a str> {
    only(fields, "etag")
}

/// A field that is there once; one that is there twice says nothing.
fn only<'a>(fields: &[(&'a str, &'a str)], name: &str) -> Option<&'a str> {
    let mut found = fields.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name));
    let first = found.next();
    first.filter(|_| found.next().is_none()).map(|(_, value)| *value)
}
