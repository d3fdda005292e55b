//! One server as the reactor knows it: what its connections share, and how many there may be.
//!
//! Thread: whoever holds the reactor.

use crate::files::Mounts;
use crate::listen::Listener;
use crate::number::{Number, NumberSet};
use crate::route_table::{Route, RouteTable};
use crate::settings::Settings;
use crate::timers::Millis;
use crate::topics::Topics;
use rustls::ServerConfig;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Weak};

/// One server: a listener and what its connections share.
pub struct Site {
    pub settings: Arc<Settings>,
    pub routes: Arc<RouteTable>,
    /// Those of before. They live on in what is under way.
    pub(super) former_routes: Vec<Weak<Route>>,
    pub mounts: Arc<Mounts>,
    /// For new connections.
    pub tls: Option<Arc<ServerConfig>>,
    /// Open WebSockets, whom a broadcast reaches.
    pub sockets: NumberSet,
    pub topics: Topics,
    /// Connections that are not over.
    pub(super) open: NumberSet,
    /// How many of them each address has; empty where nobody asked for a bound.
    pub(super) by_address: HashMap<IpAddr, usize>,
    pub(super) listener: Option<Listener>,
    /// Its connections are those that we open.
    pub(super) is_outbound: bool,
    pub(super) is_resting: bool,
    pub(super) stops_at: Option<Millis>,
    pub(super) filed: Option<Millis>,
    /// Failures before this time are not reported.
    pub silent_until: Millis,
}

impl Site {
    pub(super) fn new(settings: Arc<Settings>) -> Site {
        Site {
            settings,
            routes: Arc::default(),
            former_routes: Vec::new(),
            mounts: Arc::default(),
            tls: None,
            sockets: NumberSet::default(),
            topics: Topics::default(),
            open: NumberSet::default(),
            by_address: HashMap::new(),
            listener: None,
            is_outbound: false,
            is_resting: false,
            stops_at: None,
            filed: None,
            silent_until: 0,
        }
    }

    /// A new connection; what it is refused with, if there are too many.
    pub(super) fn let_in(&mut self, number: Number, client: Option<SocketAddr>) -> Option<&'static str> {
        let is_full = self.open.len() >= self.settings.limits.max_connections;
        self.open.insert(number);
        let mut is_too_many = false;
        if let (Some(most), Some(client)) = (self.settings.limits.max_connections_per_address, client) {
            let count = self.by_address.entry(client.ip().to_canonical()).or_default();
            *count += 1;
            is_too_many = *count > most;
        }
        match (is_full, is_too_many) {
            (true, _) => Some("this server has max_connections connections; try again later"),
            (_, true) => Some("there are max_connections_per_address connections from here; try again later"),
            _ => None,
        }
    }

    /// A connection is over.
    pub(super) fn let_out(&mut self, number: Number, client: Option<SocketAddr>) {
        if self.open.remove(&number)
            && let Some(client) = client
            && let Some(count) = self.by_address.get_mut(&client.ip().to_canonical())
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&client.ip().to_canonical());
            }
        }
    }

    pub fn is_stopping(&self) -> bool {
        self.listener.is_none() && !self.is_outbound
    }
}
