//! How servers live in the reactor: they listen, let clients in, rest when descriptors run out, and stop.
//!
//! Thread: whoever holds the reactor.

use super::Reactor;
use super::site::Site;
use crate::access_log::turned_away;
use crate::calling::Call;
use crate::connection::{Connection, Life};
use crate::files::Mounts;
use crate::http_answer::PLAIN_TEXT;
use crate::listen::Listener;
use crate::mailbox::{Event, Kind};
use crate::number::{self, Number, NumberSet};
use crate::poller::Interest;
use crate::route_table::RouteTable;
use crate::settings::Settings;
use crate::stream::Stream;
use crate::timers::Millis;
use crate::tls::Tls;
use rustix::io::Errno;
use rustix::net::{SocketFlags, acceptfrom_with};
use rustls::ServerConfig;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};
use std::time::Duration;
use wire::error::{HttpRefusal, error_body};
use wire::http_head::{Content, ResponseLine, Version, encode_response_head};

/// A burst of connects leaves room for the others.
const ACCEPTS_PER_TURN: usize = 64;
/// How long a listener rests when descriptors have run out.
const REST: Millis = 100;

impl Reactor {
    pub fn add_site(
        &mut self,
        listener: Listener,
        settings: Settings,
        routes: RouteTable,
        mounts: Mounts,
        tls: Option<Arc<ServerConfig>>,
    ) -> Result<Number, Errno> {
        let number = number::next();
        self.poller.add(&listener, number, Interest::READ)?;
        let site = Site {
            routes: Arc::new(routes),
            mounts: Arc::new(mounts),
            tls,
            listener: Some(listener),
            ..Site::new(Arc::new(settings))
        };
        self.sites.insert(number, site);
        Ok(number)
    }

    pub fn site(&self, number: Number) -> Option<&Site> {
        self.sites.get(&number)
    }

    /// The numbers of former routes that events may still have; `None`: there is no such server.
    pub fn set_routes(&mut self, number: Number, routes: RouteTable) -> Option<Vec<Number>> {
        let site = self.sites.get_mut(&number)?;
        let before = std::mem::replace(&mut site.routes, Arc::new(routes));
        site.former_routes.extend(before.downgrade());
        drop(before);
        site.former_routes.retain(|route| route.strong_count() > 0);
        Some(site.former_routes.iter().filter_map(Weak::upgrade).map(|route| route.number).collect())
    }

    pub fn set_mounts(&mut self, number: Number, mounts: Mounts) -> bool {
        self.forget_files();
        self.sites.get_mut(&number).map(|site| site.mounts = Arc::new(mounts)).is_some()
    }

    /// What new connections shake hands with. False: that server isn't listening, or speaks no TLS.
    pub fn set_tls(&mut self, number: Number, tls: Arc<ServerConfig>) -> bool {
        let site = self.sites.get_mut(&number).filter(|site| site.tls.is_some() && !site.is_stopping());
        site.map(|site| site.tls = Some(tls)).is_some()
    }

    pub(super) fn accept(&mut self, site_number: Number) {
        for _ in 0..ACCEPTS_PER_TURN {
            let Some(listener) = self.sites.get(&site_number).and_then(|site| site.listener.as_ref()) else {
                return;
            };
            match acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC) {
                Ok((descriptor, peer)) => {
                    let client = peer.and_then(|address| SocketAddr::try_from(address).ok());
                    self.add_connection(site_number, descriptor, client);
                }
                Err(Errno::AGAIN) => return,
                Err(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM) => {
                    self.turn_away(site_number);
                    return self.rest(site_number);
                }
                Err(_) => {} // that client has left already
            }
        }
    }

    fn add_connection(&mut self, site_number: Number, descriptor: OwnedFd, client: Option<SocketAddr>) {
        let Some(site) = self.sites.get_mut(&site_number) else {
            return;
        };
        let stream = match &site.tls {
            None => Stream::new(descriptor),
            Some(config) => match Tls::server(config) {
                Ok(tls) => Stream::with_tls(descriptor, tls),
                Err(_) => return, // no random numbers: the client sees the connection end
            },
        };
        if site.settings.is_tcp {
            stream.set_nodelay();
        }
        let number = number::next();
        if self.poller.add(&stream, number, Interest::READ).is_err() {
            return; // out of memory for watches: the client sees the connection end
        }
        self.counters.accepted += 1;
        let refused = site.let_in(number, client);
        let connection = Connection::new(number, site_number, stream, client, Arc::clone(&site.settings), self.now);
        self.connections.insert(number, Box::new(connection));
        self.live.lock().insert(number);
        self.with(number, |connection, turn| {
            if let Some(reason) = refused {
                if connection.stream().is_tls() {
                    // To tell it would take a handshake, the very thing that there is too much of.
                    turn.counters.failed_handshakes += 1;
                    connection.life = Life::Dead;
                    return;
                }
                connection.refuse(HttpRefusal { status: 503, reason }, &[("Retry-After", "1")], turn);
            }
        });
    }

    /// Begin to open a WebSocket on a socket that is being connected.
    pub fn call(&mut self, stream: Stream, call: Call, settings: Settings) -> Result<Number, Errno> {
        let number = number::next();
        self.poller.add(&stream, number, Interest::READ)?;
        let settings = Arc::new(settings);
        let site_number = *self.outbound.get_or_insert_with(number::next);
        let site = self
            .sites
            .entry(site_number)
            .or_insert_with(|| Site { is_outbound: true, ..Site::new(Arc::clone(&settings)) });
        site.open.insert(number);
        let connection = Connection::new(number, site_number, stream, None, settings, self.now);
        self.connections.insert(number, Box::new(connection));
        self.live.lock().insert(number);
        self.with(number, |connection, turn| connection.call(call, turn.now));
        Ok(number)
    }

    /// Out of descriptors: with the one kept for this, tell those who wait instead of letting them hang.
    fn turn_away(&mut self, number: Number) {
        let Some(reserve) = self.reserve.take() else { return };
        drop(reserve);
        let body = error_body(503, "this process has no file descriptor left");
        let fields = [PLAIN_TEXT, ("Retry-After", "1")];
        let line = ResponseLine { status: 503, reason: None, version: Version::Http11 };
        let mut answer = Vec::new();
        let length = Content::Length(body.len() as u64);
        let _ = encode_response_head(&mut answer, &line, &fields, length, &self.date, false);
        answer.extend_from_slice(body.as_bytes());
        if let Some(site) = self.sites.get(&number)
            && let Some(listener) = &site.listener
        {
            for _ in 0..ACCEPTS_PER_TURN {
                let Ok((descriptor, peer)) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)
                else {
                    break;
                };
                let mut stream = Stream::new(descriptor);
                // Closing over what was not read would reset the connection.
                let _ = stream.receive(&mut self.buffer, &mut self.scratch);
                if site.tls.is_some() {
                    self.counters.failed_handshakes += 1;
                    continue; // it could only be told after a handshake
                }
                let _ = stream.send(&answer);
                stream.finish();
                self.counters.refuse(503);
                if site.settings.logs_access {
                    let client = peer.and_then(|address| SocketAddr::try_from(address).ok());
                    let record = turned_away(&self.room, client, 503, body.len() as u64);
                    let event = |record| Event { number, at: self.now, kind: Kind::Logged(Box::new(record)) };
                    self.staged.extend(record.map(event));
                }
            }
        }
        self.reserve = self.poller.reserve();
    }

    /// Out of descriptors: a listener that stays ready would keep the processor busy doing nothing.
    fn rest(&mut self, number: Number) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(&number) else {
            return;
        };
        if let Some(listener) = &site.listener {
            let _ = self.poller.modify(listener, number, Interest::default());
            site.is_resting = true;
            site.filed = self.timers.file(number, site.filed, Some(now + REST));
        }
    }

    pub(super) fn on_site_timer(&mut self, number: Number) {
        let now = self.now;
        let Some(site) = self.sites.get_mut(&number) else {
            return;
        };
        site.filed = None;
        if self.reserve.is_none() {
            self.reserve = self.poller.reserve(); // somebody else was quicker to take it back
        }
        if std::mem::take(&mut site.is_resting)
            && let Some(listener) = &site.listener
        {
            let _ = self.poller.modify(listener, number, Interest::READ);
        }
        match site.stops_at {
            Some(at) if at <= now => self.end_connections(number, true),
            at => site.filed = self.timers.file(number, None, at),
        }
    }

    /// Stop listening and end the connections: at once, or within `grace`.
    pub fn stop(&mut self, number: Number, grace: Duration) -> bool {
        let now = self.tick();
        let Some(site) = self.sites.get_mut(&number) else {
            return false;
        };
        if let Some(listener) = site.listener.take() {
            self.poller.delete(&listener);
        } else if grace > Duration::ZERO {
            return false;
        }
        let at = now + grace.as_millis() as Millis;
        site.stops_at = Some(at);
        site.filed = self.timers.file(number, site.filed, Some(at));
        self.end_connections(number, grace.is_zero());
        self.end_site_if_done(number);
        true
    }

    fn end_connections(&mut self, number: Number, is_cut: bool) {
        let Some(site) = self.sites.get(&number) else {
            return;
        };
        for connection in site.open.iter().copied().collect::<Vec<_>>() {
            self.with(connection, |connection, turn| connection.stop(is_cut, turn));
        }
    }

    pub(super) fn end_site_if_done(&mut self, number: Number) {
        let Some(site) = self.sites.get_mut(&number) else {
            return;
        };
        if site.is_stopping() && site.open.is_empty() && site.stops_at.is_some() {
            site.stops_at = None;
            site.filed = self.timers.file(number, site.filed, None);
            self.staged.push(Event { number, at: self.now, kind: Kind::Stopped });
            self.forget_files();
        }
    }

    /// Drop sites whose last lingering connection is gone. Called now and then, not on the way of traffic.
    pub fn forget_stopped(&mut self) {
        let used: NumberSet = self.connections.values().map(|connection| connection.site).collect();
        self.sites.retain(|number, site| !site.is_stopping() || site.stops_at.is_some() || used.contains(number));
    }
}
