//! Which pages of other origins may read answers (CORS: Fetch standard §3.2), and what pre-flights are told.
//!
//! Nothing here protects a server: a browser sends most requests anyway, and only keeps the answer from the page.
//!
//! Thread: any (pure).

use crate::http_fields::{is_token, list_members};
use crate::http_vary::add_vary;
use std::borrow::Cow;

/// What a server allows.
#[derive(Clone, Debug)]
pub struct Cors {
    origins: Option<Vec<String>>,
    methods: Option<String>,
    headers: Option<String>,
    exposed: String,
    allows_credentials: bool,
    max_age: Option<String>,
}

/// What the page of a request may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Grant {
    /// Nobody has looked: there is no (valid) request, or CORS isn't about it.
    #[default]
    Unknown,
    /// Whoever it is may read the answer.
    Any,
    /// It may read the answer, as the one with this index.
    Listed(usize),
    /// It may not, or the request names no origin; another one's may.
    None,
}

/// What a browser asks before it sends what a form could not have sent.
#[derive(Clone, Debug)]
pub struct Preflight<'a> {
    method: &'a str,
    headers: Vec<&'a str>,
    /// A page of the internet asks for a server of a private network (Private Network Access, a WICG draft).
    asks_for_private_network: bool,
}

impl Cors {
    /// `origins`: as browsers write them; `None`: any. `methods`, `headers`: `None`: whichever are asked for.
    ///
    /// Credentials go with listed origins only: whoever calls sees to it.
    pub fn new(
        origins: Option<Vec<String>>,
        methods: Option<&[String]>,
        headers: Option<&[String]>,
        exposed: &[String],
        allows_credentials: bool,
        max_age_s: Option<u32>,
    ) -> Self {
        Self {
            origins,
            methods: methods.map(|methods| methods.join(", ")),
            headers: headers.map(|headers| headers.join(", ")),
            exposed: exposed.join(", "),
            allows_credentials,
            max_age: max_age_s.map(|seconds| seconds.to_string()),
        }
    }

    /// `origins`: all `Origin` of the request. Two of them are nobody's. Bytes are compared: browsers write an origin in one
    /// way only.
    pub fn judge(&self, origins: &[&[u8]]) -> Grant {
        match (&self.origins, origins) {
            (None, _) => Grant::Any,
            (Some(listed), [origin]) => {
                listed.iter().position(|other| other.as_bytes() == *origin).map_or(Grant::None, Grant::Listed)
            }
            (Some(_), _) => Grant::None,
        }
    }

    /// Add what lets the page read an answer, unless the answer says so itself.
    ///
    /// What depends on the origin says so to caches, also when it allows nothing; what allows all is said to all, as a cache
    /// can't know who will ask next (Fetch §3.2.5). `store` keeps a changed Vary.
    pub fn add_fields<'a>(&'a self, grant: Grant, fields: &mut Vec<(&'a str, &'a str)>, store: &'a mut String) {
        const ALLOW_ORIGIN: &str = "Access-Control-Allow-Origin";
        if grant == Grant::Unknown || fields.iter().any(|(name, _)| name.eq_ignore_ascii_case(ALLOW_ORIGIN)) {
            return;
        }
        if let Some(origin) = self.allowed_origin(grant) {
            fields.push((ALLOW_ORIGIN, origin));
            if self.allows_credentials {
                fields.push(("Access-Control-Allow-Credentials", "true"));
            }
            if !self.exposed.is_empty() {
                fields.push(("Access-Control-Expose-Headers", &self.exposed));
            }
        }
        if grant != Grant::Any {
            add_vary(fields, "Origin", store);
        }
    }

    fn allowed_origin(&self, grant: Grant) -> Option<&str> {
        match grant {
            Grant::Any => Some("*"),
            Grant::Listed(index) => self.origins.as_ref()?.get(index).map(String::as_str),
            Grant::Unknown | Grant::None => None,
        }
    }

    /// What a pre-flight is told beside that; `None`: its origin is not allowed.
    ///
    /// Also what is not allowed gets an answer that lists what is: the browser compares, and its console says what is
    /// missing. Headers are listed as asked for where any may come, because `*` leaves out Authorization.
    pub fn answer_preflight<'a>(
        &'a self,
        grant: Grant,
        preflight: &Preflight<'a>,
    ) -> Option<Vec<(&'a str, Cow<'a, str>)>> {
        self.allowed_origin(grant)?;
        let methods = self.methods.as_deref().unwrap_or(preflight.method);
        let mut fields = vec![("Vary", Cow::Borrowed("Access-Control-Request-Method, Access-Control-Request-Headers"))];
        if !methods.is_empty() {
            fields.push(("Access-Control-Allow-Methods", Cow::Borrowed(methods)));
        }
        let headers = match &self.headers {
            Some(headers) => Cow::Borrowed(headers.as_str()),
            None => Cow::Owned(preflight.headers.join(", ")),
        };
        if !headers.is_empty() {
            fields.push(("Access-Control-Allow-Headers", headers));
        }
        if let Some(max_age) = &self.max_age {
            fields.push(("Access-Control-Max-Age", Cow::Borrowed(max_age)));
        }
        // Only for who is trusted by name: "any" must not open the networks of whoever runs this to the whole internet.
        if preflight.asks_for_private_network && matches!(grant, Grant::Listed(_)) {
            fields.push(("Access-Control-Allow-Private-Network", Cow::Borrowed("true")));
        }
        Some(fields)
    }
}

impl<'a> Preflight<'a> {
    /// `values`: all values of a field of the request. `None`: this is none, but some other OPTIONS (or no OPTIONS).
    pub fn read(method: &str, values: impl Fn(&str) -> Vec<&'a [u8]>) -> Option<Self> {
        if method != "OPTIONS" || values("origin").len() != 1 {
            return None;
        }
        let [wanted] = values("access-control-request-method")[..] else { return None };
        let headers = values("access-control-request-headers");
        Some(Self {
            method: read_token(wanted)?,
            headers: headers.iter().flat_map(|value| list_members(value)).filter_map(read_token).collect(),
            asks_for_private_network: values("access-control-request-private-network") == [b"true"],
        })
    }
}

/// A token is ASCII, so it is always text.
fn read_token(bytes: &[u8]) -> Option<&str> {
    is_token(bytes).then(|| std::str::from_utf8(bytes).ok()).flatten()
}
