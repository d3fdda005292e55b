//! Path and method → route.
//!
//! Thread: any (pure).

use crate::number::Number;
use crate::settings::WebSocketOptions;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::{Arc, OnceLock, Weak};
use wire::http_compression::GzipOptions;

/// Which events a route wants; the seam's WANTS_ constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(pub u8);

impl Wants {
    pub const HEAD: Wants = Wants(1);
    pub const REQUEST: Wants = Wants(2);
    pub const WEBSOCKET: Wants = Wants(4);
    /// The request at once, and its body while it comes.
    pub const BODY: Wants = Wants(8);

    pub fn has(self, other: Wants) -> bool {
        self.0 & other.0 != 0
    }
}

/// An answer that needs nobody.
#[derive(Debug)]
pub struct Inline {
    pub status: u16,
    pub fields: Vec<(String, String)>,
    pub body: Arc<[u8]>,
    /// With gzip, if that is allowed and makes it smaller; see `http_compress::compress_inline`.
    pub compressed: OnceLock<Option<Arc<[u8]>>>,
}

#[derive(Debug)]
pub struct Route {
    /// What events call it.
    pub number: Number,
    /// Begins with `/`; without a trailing one unless that is all.
    path: String,
    prefix: bool,
    /// Case-sensitive (RFC 9110 §9.1); empty: any.
    methods: Vec<String>,
    pub wants: Wants,
    pub inline: Option<Inline>,
    pub websocket: Arc<WebSocketOptions>,
    /// How answers are compressed, where the client takes it; `None`: they aren't.
    pub gzip: Option<Arc<GzipOptions>>,
}

/// How well a route fits a request below its path, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    /// It is a WebSocket, and can say so.
    Upgrade,
    AnyMethod,
    /// RFC 9110 §9.3.2: HEAD is GET without the body.
    HeadByGet,
    Method,
    Handshake,
}

impl Route {
    pub fn new(path: &str, prefix: bool, wants: Wants) -> Route {
        let path = if prefix { path.trim_end_matches('/') } else { path }.to_owned();
        let websocket = Arc::default();
        Route { number: 0, path, prefix, methods: Vec::new(), wants, inline: None, websocket, gzip: None }
    }

    pub fn with_methods(self, methods: Vec<String>) -> Route {
        Route { methods, ..self }
    }

    /// Beside a static path of the same length only an exact route wins, or one for a method that files do not have.
    pub fn rank(&self, method: &str) -> usize {
        let yields = self.prefix && (self.methods.is_empty() || matches!(method, "GET" | "HEAD"));
        self.path.len().max(1) - usize::from(yields)
    }

    fn matches(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some("") => true,
            // Whole segments only: `/static` must not serve `/static-secret`.
            Some(rest) => self.prefix && rest.starts_with('/'),
            None => false,
        }
    }

    /// `None`: not this method.
    fn fit(&self, method: &str, is_handshake: bool) -> Option<Fit> {
        let names = |wanted: &str| self.methods.iter().any(|method| method == wanted);
        if self.wants.has(Wants::WEBSOCKET) && is_handshake {
            Some(Fit::Handshake)
        } else if self.wants == Wants::WEBSOCKET {
            Some(Fit::Upgrade)
        } else if self.methods.is_empty() {
            Some(Fit::AnyMethod)
        } else if names(method) {
            Some(Fit::Method)
        } else {
            (method == "HEAD" && names("GET")).then_some(Fit::HeadByGet)
        }
    }

    /// Beside others that match: whole paths before what is below them, then what fits better.
    fn precedence(&self, fit: Fit) -> (usize, bool, Fit) {
        (self.path.len(), !self.prefix, fit)
    }
}

/// Who answers.
#[derive(Debug)]
pub enum Found<'a> {
    Route(&'a Arc<Route>),
    /// The path has routes, for these methods only: the value of Allow (RFC 9110 §10.2.1).
    Methods(String),
    Nobody,
}

#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Arc<Route>>,
}

impl RouteTable {
    pub fn new(routes: Vec<Route>) -> RouteTable {
        RouteTable { routes: routes.into_iter().map(Arc::new).collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Route> {
        self.routes.iter().map(|route| &**route)
    }

    /// For whoever wants to know when nobody refers to one any more.
    pub fn downgrade(&self) -> impl Iterator<Item = Weak<Route>> {
        self.routes.iter().map(Arc::downgrade)
    }

    pub fn has_deflate(&self) -> bool {
        self.routes.iter().any(|route| route.websocket.deflate.is_some())
    }

    pub fn has_gzip(&self) -> bool {
        self.routes.iter().any(|route| route.gzip.is_some())
    }

    /// Of the routes that take the method, the one with the longest path; of equal ones the exact, then the one that names
    /// the method, then the first.
    ///
    /// A path with a slash too many is also found without it, if nobody has it as it is (NNG does that, too).
    pub fn find(&self, path: &str, method: &str, is_handshake: bool) -> Found<'_> {
        let path = decode(path);
        match (self.find_exactly(&path, method, is_handshake), path.strip_suffix('/')) {
            (Found::Nobody, Some(shorter)) if !shorter.is_empty() && !shorter.ends_with('/') => {
                self.find_exactly(shorter, method, is_handshake)
            }
            (found, _) => found,
        }
    }

    fn find_exactly(&self, path: &str, method: &str, is_handshake: bool) -> Found<'_> {
        let matching = || self.routes.iter().filter(|route| route.matches(path));
        let mut best: Option<(&Arc<Route>, Fit)> = None;
        for route in matching() {
            if let Some(fit) = route.fit(method, is_handshake)
                && best.is_none_or(|(found, other)| route.precedence(fit) > found.precedence(other))
            {
                best = Some((route, fit));
            }
        }
        match best {
            Some((route, _)) => Found::Route(route),
            None => allow(matching()).map_or(Found::Nobody, Found::Methods),
        }
    }
}

fn allow<'a>(routes: impl Iterator<Item = &'a Arc<Route>>) -> Option<String> {
    let mut allowed: Vec<&str> = Vec::new();
    for method in routes.flat_map(|route| &route.methods) {
        let head = (method == "GET").then_some("HEAD");
        for name in [Some(method.as_str()), head].into_iter().flatten() {
            if !allowed.contains(&name) {
                allowed.push(name);
            }
        }
    }
    (!allowed.is_empty()).then(|| allowed.join(", "))
}

/// Decoded once. Bytes that are not UTF-8 become U+FFFD, which no route has.
fn decode(path: &str) -> Cow<'_, str> {
    if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbered(routes: Vec<Route>) -> RouteTable {
        RouteTable::new((0..).zip(routes).map(|(number, route)| Route { number, ..route }).collect())
    }
    fn table(paths: &[(&str, bool)]) -> RouteTable {
        numbered(paths.iter().map(|(path, prefix)| Route::new(path, *prefix, Wants::REQUEST)).collect())
    }
    fn find(table: &RouteTable, path: &str) -> Option<Number> {
        match table.find(path, "GET", false) {
            Found::Route(route) => Some(route.number),
            _ => None,
        }
    }
    fn with_methods(routes: &[(&str, bool, &[&str])]) -> RouteTable {
        let route = |(path, prefix, methods): &(&str, bool, &[&str])| {
            Route::new(path, *prefix, Wants::REQUEST)
                .with_methods(methods.iter().map(|method| (*method).to_owned()).collect())
        };
        numbered(routes.iter().map(route).collect())
    }
    /// The number of the route, or the methods that it could be.
    fn ask(table: &RouteTable, method: &str, path: &str) -> Result<Number, String> {
        match table.find(path, method, false) {
            Found::Route(route) => Ok(route.number),
            Found::Methods(allow) => Err(allow),
            Found::Nobody => Err("nobody".to_owned()),
        }
    }

    #[test]
    fn the_longest_path_on_whole_segments_wins() {
        let table = table(&[("/", true), ("/a", true), ("/a/b", false), ("/a/b", true)]);
        assert_eq!(find(&table, "/"), Some(0));
        assert_eq!(find(&table, "/ab"), Some(0));
        assert_eq!(find(&table, "/a"), Some(1));
        assert_eq!(find(&table, "/a/x"), Some(1));
        assert_eq!(find(&table, "/a/b"), Some(2));
        assert_eq!(find(&table, "/a/b/c"), Some(3));
    }

    #[test]
    fn an_exact_route_takes_nothing_below_it() {
        let table = table(&[("/ws", false)]);
        assert_eq!(find(&table, "/ws"), Some(0));
        assert_eq!(find(&table, "/ws/x"), None);
        assert_eq!(find(&table, "/w"), None);
    }

    #[test]
    fn one_slash_more_is_the_same_unless_somebody_has_it() {
        assert_eq!(find(&table(&[("/ws", false), ("/", true)]), "/ws/"), Some(1));
        let table = table(&[("/ws", false), ("/both", false), ("/both/", false), ("/", false)]);
        assert_eq!(find(&table, "/ws/"), Some(0));
        assert_eq!(find(&table, "/ws//"), None);
        assert_eq!(find(&table, "/both"), Some(1));
        assert_eq!(find(&table, "/both/"), Some(2));
        assert_eq!(find(&table, "//"), None);
    }

    #[test]
    fn a_method_that_nobody_has_is_told_from_a_path_that_nobody_has() {
        let table = with_methods(&[("/a", false, &["GET"]), ("/a", false, &["PUT", "POST"]), ("/b", false, &["POST"])]);
        assert_eq!(ask(&table, "GET", "/a"), Ok(0));
        assert_eq!(ask(&table, "POST", "/a"), Ok(1));
        assert_eq!(ask(&table, "get", "/a"), Err("GET, HEAD, PUT, POST".to_owned()));
        assert_eq!(ask(&table, "GET", "/b"), Err("POST".to_owned()));
        assert_eq!(ask(&table, "GET", "/c"), Err("nobody".to_owned()));
    }

    #[test]
    fn head_is_answered_by_get_unless_it_is_named() {
        let table = with_methods(&[("/a", false, &["GET"]), ("/b", false, &["GET"]), ("/b", false, &["HEAD"])]);
        assert_eq!(ask(&table, "HEAD", "/a"), Ok(0));
        assert_eq!(ask(&table, "HEAD", "/b"), Ok(2));
        assert_eq!(ask(&table, "GET", "/b"), Ok(1));
    }

    #[test]
    fn a_named_method_wins_over_any_and_a_longer_path_over_both() {
        let table = with_methods(&[
            ("/", true, &[]),
            ("/a", false, &[]),
            ("/a", false, &["GET"]),
            ("/a/b", false, &["POST"]),
            ("/a", true, &["GET"]),
        ]);
        assert_eq!(ask(&table, "GET", "/a"), Ok(2));
        assert_eq!(ask(&table, "PUT", "/a"), Ok(1));
        assert_eq!(ask(&table, "POST", "/a/b"), Ok(3));
        // The method is a part of the match: what does not take it is not asked.
        assert_eq!(ask(&table, "GET", "/a/b"), Ok(4));
        assert_eq!(ask(&table, "DELETE", "/a/b"), Ok(0));
    }

    #[test]
    fn a_page_and_a_websocket_share_a_path() {
        let routes = vec![
            Route::new("/", true, Wants::REQUEST),
            Route::new("/ws", false, Wants::WEBSOCKET),
            Route::new("/ws", false, Wants::REQUEST).with_methods(vec!["GET".to_owned()]),
            Route::new("/only", false, Wants::WEBSOCKET),
        ];
        let table = numbered(routes);
        let asked = |path, is_handshake| match table.find(path, "GET", is_handshake) {
            Found::Route(route) => Some(route.number),
            _ => None,
        };
        assert_eq!(asked("/ws", true), Some(1));
        assert_eq!(asked("/ws", false), Some(2));
        assert_eq!(asked("/only", true), Some(3));
        assert_eq!(asked("/only", false), Some(3)); // it says 426; a page that answers for all would hide that
        assert_eq!(asked("/else", true), Some(0));
    }

    #[test]
    fn beside_files_a_route_of_the_same_path_has_the_other_methods() {
        let post = Route::new("/static", true, Wants::REQUEST).with_methods(vec!["POST".to_owned()]);
        assert_eq!(post.rank("POST"), 7);
        assert_eq!(Route::new("/static", true, Wants::REQUEST).rank("POST"), 6);
        assert_eq!(Route::new("/static", false, Wants::REQUEST).rank("GET"), 7);
    }

    #[test]
    fn escapes_are_decoded_once() {
        let table = table(&[("/a b", false), ("/%41", false)]);
        assert_eq!(find(&table, "/a%20b"), Some(0));
        assert_eq!(find(&table, "/%2541"), Some(1));
        assert_eq!(find(&table, "/%FF"), None);
    }

    #[test]
    fn options_asterisk_matches_nothing() {
        assert_eq!(find(&table(&[("/", true)]), "*"), None);
    }
}
