//! Path → route.
//!
//! Thread: any (pure).

use crate::settings::WebSocketOptions;
use percent_encoding::percent_decode_str;
use std::borrow::Cow;
use std::sync::Arc;

/// Which events a route wants; the seam's WANTS_ constants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants(pub u8);

impl Wants {
    pub const HEAD: Wants = Wants(1);
    pub const REQUEST: Wants = Wants(2);
    pub const WEBSOCKET: Wants = Wants(4);

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
}

#[derive(Debug)]
pub struct Route {
    /// Begins with `/`; without a trailing one unless that is all.
    path: String,
    prefix: bool,
    pub wants: Wants,
    pub inline: Option<Inline>,
    pub websocket: Arc<WebSocketOptions>,
}

impl Route {
    pub fn new(path: &str, prefix: bool, wants: Wants) -> Route {
        let path = if prefix { path.trim_end_matches('/') } else { path };
        Route { path: path.to_owned(), prefix, wants, inline: None, websocket: Arc::default() }
    }

    /// Beside a static path of the same length only an exact route wins.
    pub fn rank(&self) -> usize {
        self.path.len().max(1) - usize::from(self.prefix)
    }

    fn matches(&self, path: &str) -> bool {
        match path.strip_prefix(self.path.as_str()) {
            Some("") => true,
            // Whole segments only: `/static` must not serve `/static-secret`.
            Some(rest) => self.prefix && rest.starts_with('/'),
            None => false,
        }
    }
}

#[derive(Debug, Default)]
pub struct RouteTable {
    routes: Vec<Route>,
}

impl RouteTable {
    pub fn new(routes: Vec<Route>) -> RouteTable {
        RouteTable { routes }
    }

    pub fn get(&self, index: usize) -> Option<&Route> {
        self.routes.get(index)
    }

    pub fn has_deflate(&self) -> bool {
        self.routes.iter().any(|route| route.websocket.deflate.is_some())
    }

    /// The longest path that matches; of two equal ones the exact, then the first.
    pub fn find(&self, path: &str) -> Option<(usize, &Route)> {
        let path = decode(path);
        let mut best: Option<(usize, &Route)> = None;
        for (index, route) in self.routes.iter().enumerate().filter(|(_, route)| route.matches(&path)) {
            let is_better =
                best.is_none_or(|(_, found)| (route.path.len(), !route.prefix) > (found.path.len(), !found.prefix));
            if is_better {
                best = Some((index, route));
            }
        }
        best
    }
}

/// Decoded once. Bytes that are not UTF-8 become U+FFFD, which no route has.
fn decode(path: &str) -> Cow<'_, str> {
    if path.contains('%') { percent_decode_str(path).decode_utf8_lossy() } else { Cow::Borrowed(path) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(paths: &[(&str, bool)]) -> RouteTable {
        RouteTable::new(paths.iter().map(|(path, prefix)| Route::new(path, *prefix, Wants::REQUEST)).collect())
    }
    fn find(table: &RouteTable, path: &str) -> Option<usize> {
        table.find(path).map(|(index, _)| index)
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
        assert_eq!(find(&table, "/ws/"), None);
        assert_eq!(find(&table, "/w"), None);
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
