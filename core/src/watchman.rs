//! The one native thread: it keeps the server alive while the home thread is busy with Python.
//!
//! It never attaches to the interpreter and never touches a Python object. While the home thread waits in `take` it sleeps
//! and nothing wakes it. While the home thread comes back often it looks at the clock every `TICK`. When the home thread
//! has not been seen for `PATIENCE` and something waits, it flushes what is corked and drives the reactor until the home
//! thread comes back. So the worst case to take over is `TICK` + `PATIENCE`, and the cost under load 200 wake-ups a second.
//!
//! Thread: the watchman.

use crate::engine::{AWAKE, Doing, Engine, WATCHES_NOTHING, WATCHES_REACTOR};
use crate::poller::wait_readable;
use crate::signals::SignalsBlocked;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// How long the home thread may be away from a reactor that has something to do.
const PATIENCE: Duration = Duration::from_millis(1);
/// The first look after waking. Whatever woke the watchman woke the home thread too, which is seen a little later.
const FIRST_LOOK: Duration = Duration::from_micros(1_200);
/// How often the clock is looked at while the home thread keeps coming back.
const TICK: Duration = Duration::from_millis(5);

pub fn start(engine: Arc<Engine>) -> std::io::Result<JoinHandle<()>> {
    let blocked = SignalsBlocked::new();
    let thread =
        thread::Builder::new().name("portico-watch".into()).stack_size(512 * 1024).spawn(move || watch(&engine));
    drop(blocked);
    thread
}

fn watch(engine: &Engine) {
    while !is_ending(engine) {
        // A panic is a bug, and was reported on standard error; a server without a watchman would be a worse one.
        let _ = catch_unwind(AssertUnwindSafe(|| watch_once(engine)));
    }
}

/// From one sleep to the next.
fn watch_once(engine: &Engine) {
    sleep_until_needed(engine);
    let mut next_look = Some(FIRST_LOOK);
    while let Some(pause) = next_look.filter(|_| !is_ending(engine)) {
        thread::sleep(pause);
        next_look = look(engine);
    }
}

/// Sleep while there is nothing to watch: until the home thread goes off with a batch, or something comes in while it is
/// about its own business.
fn sleep_until_needed(engine: &Engine) {
    let is_parked = engine.doing() == Doing::Parked;
    engine.sleeps.store(if is_parked { WATCHES_NOTHING } else { WATCHES_REACTOR }, Ordering::SeqCst);
    // The home thread looks at `sleeps` after it changed what it does; so whoever is second sees the other.
    let is_needed = engine.doing() == Doing::Batch
        || is_parked != (engine.doing() == Doing::Parked)
        || !is_parked && engine.is_runnable();
    if !is_needed && !is_ending(engine) {
        let sources = [engine.alarm.as_fd(), engine.inner.as_fd()];
        let _ = wait_readable(if is_parked { &sources[..1] } else { &sources }, None);
    }
    engine.sleeps.store(AWAKE, Ordering::SeqCst);
    engine.alarm.clear();
}

/// Look once, and drive if need be. When to look again; `None`: all is quiet, sleep.
fn look(engine: &Engine) -> Option<Duration> {
    let unseen = engine.unseen();
    let is_needed = match engine.doing() {
        Doing::Parked => false,
        Doing::Batch => unseen >= PATIENCE,
        Doing::Away => unseen >= PATIENCE && has_work(engine),
    };
    if is_needed {
        drive(engine);
        Some(FIRST_LOOK) // the home thread is back, perhaps for something just as long
    } else {
        (engine.doing() == Doing::Batch || unseen < TICK).then_some(TICK)
    }
}

fn has_work(engine: &Engine) -> bool {
    engine.is_runnable() || wait_readable(&[engine.inner.as_fd()], Some(Duration::ZERO)) != Ok(0)
}

/// Be the driver until the home thread is seen again.
fn drive(engine: &Engine) {
    let generation = engine.generation();
    engine.takeovers.fetch_add(1, Ordering::Relaxed);
    // Corked bytes never wait for Python; from here on what callbacks send leaves at once.
    engine.lease().uncork();
    while !is_ending(engine) && engine.generation() == generation {
        if !engine.drive() {
            doze(engine, generation);
        }
    }
}

/// Wait for more to drive. The home thread that comes back and takes a batch wakes us: what the callbacks send is corked,
/// and somebody must see to it that it leaves when they stay away again.
fn doze(engine: &Engine, generation: u64) {
    engine.sleeps.store(WATCHES_REACTOR, Ordering::SeqCst);
    // As in `sleep_until_needed`: the home thread moves the generation before it looks at `sleeps`.
    if engine.generation() == generation && !engine.is_runnable() && !is_ending(engine) {
        let _ = wait_readable(&[engine.inner.as_fd(), engine.alarm.as_fd()], None);
    }
    engine.sleeps.store(AWAKE, Ordering::SeqCst);
    engine.alarm.clear();
}

fn is_ending(engine: &Engine) -> bool {
    engine.is_ending.load(Ordering::SeqCst)
}
