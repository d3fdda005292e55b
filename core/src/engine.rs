//! Who holds the reactor, and when: the lease between the home thread, the watchman and everybody's commands.
//!
//! Order of locks: interpreter → reactor → mailbox, live. Nobody who holds the reactor ever waits for the interpreter, and
//! a thread that is attached to it only tries the reactor: what it can't do at once it leaves in the job list, which
//! whoever holds the reactor works off before letting go.
//!
//! Thread: any; see each method.

mod answers;

use crate::disk::{Answers, Disk, DiskPool};
use crate::gate::Gate;
use crate::mailbox::{Event, Mailbox, Taken};
use crate::number::{ALARM, DISK, Number, NumberSet};
use crate::pace::Pace;
use crate::poller::{Interest, Poller, Ready, Signal, nest, wait_ready};
use crate::reactor::Reactor;
use crate::timers::Millis;
use parking_lot::Mutex;
use rustix::io::{Errno, fcntl_dupfd_cloexec};
use std::collections::VecDeque;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

/// Something to be done with the reactor by whoever holds it.
type Job = Box<dyn FnOnce(&mut Reactor) + Send>;

/// What the home thread is doing, as the watchman needs to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Doing {
    /// Outside: user code runs, or a foreign loop waits on our descriptor.
    Away = 0,
    /// Callbacks of a batch run.
    Batch = 1,
    /// Waiting in `take`, which drives the reactor by itself.
    Parked = 2,
}

/// A signal that came while the home thread drove, or looked, and not while it slept, interrupts no sleep. So the first
/// sleep after that is this short, and then signals are looked for: once, not for ever, so that idle is idle.
const SIGNAL_CHECK: Duration = Duration::from_millis(50);

/// How long callbacks of a batch run before the home thread sees to the sockets; sooner than the watchman would.
const LONG: Duration = Duration::from_micros(500);

/// How deep the watchman sleeps: what has to wake it.
pub const AWAKE: u8 = 0;
pub const WATCHES_REACTOR: u8 = 1;
pub const WATCHES_NOTHING: u8 = 2;

pub struct Engine {
    pub mailbox: Arc<Mailbox>,
    /// The standard library's lock, a futex and nothing else. parking_lot keeps who waits in a table of the whole process
    /// and now and then hands the lock over to one of them; in a forked child that is a thread that doesn't exist.
    reactor: std::sync::Mutex<Reactor>,
    /// From `freeze` to `thaw`.
    frozen: Mutex<Option<Frozen>>,
    jobs: Mutex<Vec<Job>>,
    queued: AtomicUsize,
    live: Arc<Mutex<NumberSet>>,
    /// Threads that wait for an empty outbox.
    gate: Arc<Gate>,
    /// Some server compresses messages.
    pub has_deflate: AtomicBool,
    /// Some route compresses its answers.
    pub has_gzip: AtomicBool,
    /// Whether connections could go on when the reactor was last let go.
    runnable: AtomicBool,
    /// The reactor's descriptor, to wait on without holding the reactor.
    pub inner: OwnedFd,
    /// The one descriptor for every foreign loop: reactor and mailbox.
    outer: OwnedFd,
    started: Instant,

    // The home thread's side of the agreement with the watchman.
    doing: AtomicU8,
    generation: AtomicU64,
    last_seen_us: AtomicU64,
    home: AtomicUsize,

    // The watchman's side.
    pub sleeps: AtomicU8,
    pub alarm: Signal,
    pub is_ending: AtomicBool,
    pub takeovers: AtomicU64,
    pace: Pace,
}

/// Callbacks of this many messages of one connection have returned.
pub struct Handled {
    pub number: Number,
    pub messages: usize,
    pub bytes: usize,
}

/// The reactor, held across a fork.
struct Frozen(#[allow(dead_code)] MutexGuard<'static, Reactor>);
// SAFETY: one thread takes it and lets it go; see `thaw`.
unsafe impl Send for Frozen {}

/// The reactor, held. Letting go works off the jobs that came meanwhile.
pub struct Lease<'a> {
    engine: &'a Engine,
    guard: ManuallyDrop<MutexGuard<'a, Reactor>>,
}

impl Deref for Lease<'_> {
    type Target = Reactor;
    fn deref(&self) -> &Reactor {
        &self.guard
    }
}

impl DerefMut for Lease<'_> {
    fn deref_mut(&mut self) -> &mut Reactor {
        &mut self.guard
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        self.engine.work_off(&mut self.guard);
        self.guard.arm();
        // What commands made (events, connections that can go on) is of no turn: say so now. While callbacks of a batch
        // run, connections that can go on wait for its end.
        let is_runnable = self.guard.is_runnable();
        let goes_on = is_runnable && !self.guard.is_corking;
        if goes_on || !self.guard.staged.is_empty() {
            self.engine.mailbox.post(&mut self.guard.staged, goes_on);
        }
        self.engine.note_runnable(is_runnable);
        // SAFETY: dropped exactly once, here.
        unsafe { ManuallyDrop::drop(&mut self.guard) };
        // A job that came after the last look, from a thread that found the reactor held, must not be left lying.
        if self.engine.queued.load(Ordering::SeqCst) > 0 {
            drop(self.engine.try_lease());
        }
    }
}

impl Engine {
    pub fn new() -> Result<Engine, Errno> {
        Engine::with_disk(|answers| Arc::new(DiskPool::new(answers)))
    }

    pub fn with_disk(disk: impl FnOnce(Arc<Answers>) -> Arc<dyn Disk>) -> Result<Engine, Errno> {
        let poller = Poller::new()?;
        let mailbox = Arc::new(Mailbox::new()?);
        poller.add(mailbox.alarm(), ALARM, Interest::READ)?;
        let live = Arc::new(Mutex::new(NumberSet::default()));
        let inner = fcntl_dupfd_cloexec(poller.descriptor(), 0)?;
        let outer = nest(&[inner.as_fd(), mailbox.descriptor()])?;
        let started = Instant::now();
        let gate = Arc::new(Gate::default());
        let answers = Arc::new(Answers::new()?);
        poller.add(answers.descriptor(), DISK, Interest::READ)?;
        let disk = disk(Arc::clone(&answers));
        let reactor =
            Reactor::new(poller, Arc::clone(&mailbox), Arc::clone(&live), Arc::clone(&gate), answers, disk, started);
        Ok(Engine {
            mailbox,
            reactor: std::sync::Mutex::new(reactor),
            frozen: Mutex::default(),
            jobs: Mutex::default(),
            queued: AtomicUsize::new(0),
            live,
            gate,
            has_deflate: AtomicBool::new(false),
            has_gzip: AtomicBool::new(false),
            runnable: AtomicBool::new(false),
            inner,
            outer,
            started,
            doing: AtomicU8::new(Doing::Away as u8),
            generation: AtomicU64::new(0),
            last_seen_us: AtomicU64::new(0),
            home: AtomicUsize::new(0),
            sleeps: AtomicU8::new(AWAKE),
            alarm: Signal::new()?,
            is_ending: AtomicBool::new(false),
            takeovers: AtomicU64::new(0),
            pace: Pace::default(),
        })
    }

    pub fn descriptor(&self) -> RawFd {
        self.outer.as_raw_fd()
    }

    // ---- the lease --------------------------------------------------------------------------------------------------

    /// Wait for the reactor. Never call it attached to the interpreter.
    pub fn lease(&self) -> Lease<'_> {
        self.hold(self.reactor.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The reactor, if nobody has it.
    pub fn try_lease(&self) -> Option<Lease<'_>> {
        match self.reactor.try_lock() {
            Ok(guard) => Some(self.hold(guard)),
            Err(TryLockError::Poisoned(error)) => Some(self.hold(error.into_inner())),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    fn hold<'a>(&'a self, guard: MutexGuard<'a, Reactor>) -> Lease<'a> {
        let mut lease = Lease { engine: self, guard: ManuallyDrop::new(guard) };
        self.work_off(&mut lease.guard); // older commands first
        lease
    }

    fn work_off(&self, reactor: &mut Reactor) {
        while self.queued.load(Ordering::SeqCst) > 0 {
            let jobs = std::mem::take(&mut *self.jobs.lock());
            self.queued.fetch_sub(jobs.len(), Ordering::SeqCst);
            for job in jobs {
                job(reactor);
            }
        }
    }

    /// Leave `job` for whoever holds the reactor.
    pub fn leave(&self, job: Job) {
        {
            let mut jobs = self.jobs.lock();
            jobs.push(job);
            self.queued.fetch_add(1, Ordering::SeqCst);
        }
        drop(self.try_lease());
    }

    /// Can commands name this number? For those who could not have the reactor.
    pub fn is_live(&self, number: Number) -> bool {
        self.live.lock().contains(&number)
    }

    // ---- the home thread --------------------------------------------------------------------------------------------

    /// Is this the thread that takes?
    pub fn is_home(&self) -> bool {
        self.home.load(Ordering::Relaxed) == this_thread()
    }

    /// The home thread comes to look: it moves the generation, so that a watchman steps back.
    pub fn arrive(&self) {
        self.home.store(this_thread(), Ordering::Relaxed);
        self.seen();
    }

    fn seen(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
        self.last_seen_us.store(self.started.elapsed().as_micros() as u64, Ordering::Relaxed);
    }

    /// Drive once and take what there is, without waiting for anything.
    pub fn take_now(&self, max_events: usize) -> Taken {
        match self.try_lease() {
            Some(mut lease) => {
                lease.turn();
                self.take(lease, max_events)
            }
            // Whoever has it may have said that connections can go on; that must not be cleared here.
            None => self.mailbox.take(&mut Vec::new(), max_events, true),
        }
    }

    fn take(&self, mut lease: Lease<'_>, max_events: usize) -> Taken {
        if std::mem::take(&mut lease.is_amid) {
            self.pace.expect_more();
        }
        if std::mem::take(&mut lease.has_asked) {
            self.pace.expect_answer();
        }
        let is_runnable = lease.is_runnable();
        let mut staged = std::mem::take(&mut lease.staged);
        let taken = self.mailbox.take(&mut staged, max_events, is_runnable);
        lease.staged = staged; // empty; it keeps its room
        lease.is_corking = !taken.events.is_empty();
        if lease.is_corking {
            let is_one = taken.events.len() == 1;
            self.pace.took(taken.events.front().filter(|_| is_one).map(|event| event.number));
            self.something_came();
        }
        taken
    }

    /// Wait until there are events, `deadline`, or perhaps a signal (`Err`). Never call it attached to the interpreter.
    pub fn wait_and_take(&self, max_events: usize, deadline: Option<Instant>) -> Result<Taken, Errno> {
        let mut ready = Vec::new();
        let mut was_driving = false;
        loop {
            let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
            let timeout = left.into_iter().chain(was_driving.then_some(SIGNAL_CHECK)).min();
            self.wait(&mut ready, timeout)?;
            let is_quiet = ready.is_empty();
            let mut lease = self.lease();
            lease.turn_with(&mut ready);
            let taken = self.take(lease, max_events);
            let is_over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            if is_over || taken.is_woken || !taken.events.is_empty() {
                return Ok(taken);
            }
            if was_driving && is_quiet {
                return Err(Errno::INTR);
            }
            was_driving = true;
        }
    }

    /// Wait on the sockets themselves: what is found is served without asking the system a second time.
    fn wait(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<(), Errno> {
        if !self.mailbox.park() {
            return Ok(());
        }
        self.set_doing(Doing::Parked);
        let waited = self.look_and_sleep(ready, timeout);
        self.set_doing(Doing::Away);
        self.seen();
        self.mailbox.unpark();
        waited
    }

    /// Sleep until something is ready; where something is about to come, look for it a while before that. Signals that come
    /// meanwhile are as those that come while it drives.
    fn look_and_sleep(&self, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<(), Errno> {
        let begun = Instant::now();
        let look = self.pace.look();
        let most = timeout.map_or(look.most, |timeout| timeout.min(look.most));
        while ready.is_empty() && begun.elapsed() < most {
            wait_ready(&self.inner, ready, Some(Duration::ZERO))?;
        }
        self.pace.looked(&look, !ready.is_empty());
        if ready.is_empty() {
            let left = timeout.map(|timeout| timeout.saturating_sub(begun.elapsed()));
            let most = left.into_iter().chain((!most.is_zero()).then_some(SIGNAL_CHECK)).min();
            wait_ready(&self.inner, ready, most)?;
        }
        self.pace.waited(begun.elapsed());
        Ok(())
    }

    /// The home thread goes: with a batch, or back to its own business.
    pub fn leave_home(&self, has_batch: bool) {
        self.seen();
        self.set_doing(if has_batch { Doing::Batch } else { Doing::Away });
        self.rouse_watchman(has_batch);
    }

    /// It sleeps too deeply for what the home thread is doing now.
    fn rouse_watchman(&self, has_batch: bool) {
        let sleeps = self.sleeps.load(Ordering::SeqCst);
        if sleeps == WATCHES_NOTHING || has_batch && sleeps == WATCHES_REACTOR {
            self.sleeps.store(AWAKE, Ordering::SeqCst);
            self.alarm.set();
        }
    }

    /// Callbacks of this batch have run for a while.
    pub fn is_late(&self) -> bool {
        self.unseen() >= LONG
    }

    /// In the middle of a batch: when callbacks have run for a while, see to the sockets, so that nobody waits for all of
    /// them. What is found for Python waits in the mailbox.
    pub fn look_up(&self) {
        if self.is_late() {
            self.seen();
            if let Some(mut lease) = self.try_lease() {
                lease.turn();
            }
        }
    }

    /// All callbacks of the batch have run; what they sent leaves, what was not handled goes back.
    pub fn end_batch(&self, rest: VecDeque<Event>) {
        if !rest.is_empty() {
            self.mailbox.put_back(rest);
        }
        match self.try_lease() {
            Some(mut lease) => lease.uncork(),
            None => self.leave(Box::new(Reactor::uncork)),
        }
        self.set_doing(Doing::Away);
    }

    /// Callbacks have returned; what they sent to their own connections leaves.
    /// `spare`: what a long message was kept in.
    pub fn settle(&self, handled: &mut Vec<Handled>, spare: Vec<u8>) {
        match self.try_lease() {
            Some(mut lease) => {
                lease.keep_spare(spare);
                for item in handled.drain(..) {
                    lease.messages_handled(item.number, item.messages, item.bytes);
                }
            }
            None => {
                let handled = std::mem::take(handled);
                self.leave(Box::new(move |reactor| {
                    for item in handled {
                        reactor.messages_handled(item.number, item.messages, item.bytes);
                    }
                }));
            }
        }
    }

    /// Wait for at most `timeout` until nothing is queued for `number`: `Some(true)`; `Some(false)`: it is over; `None`:
    /// neither.
    pub fn wait_drained(&self, number: Number, timeout: Duration) -> Option<bool> {
        self.wait_until(timeout, |reactor| match reactor.unsent(number) {
            None => Some(false),
            Some(0) => Some(true),
            Some(_) => None,
        })
    }

    /// Wait for at most `timeout` until there is something to take of a body, or never will be. False: neither.
    pub fn wait_body(&self, number: Number, body: Number, timeout: Duration) -> bool {
        self.wait_until(timeout, |reactor| reactor.has_news(number, body).then_some(())).is_some()
    }

    /// Wait for at most `timeout` until `look` finds something. The home thread drives meanwhile, without callbacks; others
    /// wait for those who do. Never call it attached to the interpreter.
    fn wait_until<R>(&self, timeout: Duration, mut look: impl FnMut(&mut Reactor) -> Option<R>) -> Option<R> {
        let deadline = Instant::now() + timeout;
        let is_home = self.is_home();
        let mut waiter = self.gate.enter();
        let mut ready = Vec::new();
        loop {
            let mut lease = self.lease();
            if is_home {
                self.seen();
                lease.turn_with(&mut ready);
            }
            let found = look(&mut lease);
            let goes_on = lease.is_runnable();
            drop(lease);
            let left = deadline.saturating_duration_since(Instant::now());
            if found.is_some() || left.is_zero() {
                return found;
            }
            if !is_home {
                waiter.wait(left);
            } else if self.wait_here(&mut ready, if goes_on { Duration::ZERO } else { left }).is_err() {
                return None; // a signal
            }
        }
    }

    /// Wait on the sockets in the middle of a callback. Whoever waits here drives as well as one in `take`, so the
    /// watchman need not; it would leave us waiting for what it has done.
    fn wait_here(&self, ready: &mut Vec<Ready>, timeout: Duration) -> Result<(), Errno> {
        let before = self.doing();
        self.set_doing(Doing::Parked);
        let waited = wait_ready(&self.inner, ready, Some(timeout));
        self.set_doing(before);
        self.seen();
        self.rouse_watchman(before == Doing::Batch);
        waited
    }

    fn set_doing(&self, doing: Doing) {
        self.doing.store(doing as u8, Ordering::SeqCst);
    }

    // ---- what the watchman asks -------------------------------------------------------------------------------------

    pub fn doing(&self) -> Doing {
        match self.doing.load(Ordering::SeqCst) {
            1 => Doing::Batch,
            2 => Doing::Parked,
            _ => Doing::Away,
        }
    }

    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    /// How long something that happened `at` on the reactor's clock is ago.
    pub fn age(&self, at: Millis) -> Duration {
        self.started.elapsed().saturating_sub(Duration::from_millis(at))
    }

    /// How long the home thread has not been seen.
    pub fn unseen(&self) -> Duration {
        let seen = Duration::from_micros(self.last_seen_us.load(Ordering::Relaxed));
        self.started.elapsed().saturating_sub(seen)
    }

    /// One turn by somebody who is not home: events wait in the mailbox. True: more can be done at once.
    pub fn drive(&self) -> bool {
        let mut lease = self.lease();
        lease.turn();
        if !lease.staged.is_empty() {
            let mut staged = std::mem::take(&mut lease.staged);
            self.mailbox.post(&mut staged, false);
            lease.staged = staged;
        }
        drop(lease);
        self.is_runnable()
    }

    /// Can connections go on without new bytes?
    pub fn is_runnable(&self) -> bool {
        self.runnable.load(Ordering::SeqCst)
    }

    /// What a command made runnable gets its turn although no byte comes: a watchman who sleeps is woken.
    fn note_runnable(&self, is_runnable: bool) {
        if self.runnable.load(Ordering::Relaxed) != is_runnable {
            self.runnable.store(is_runnable, Ordering::SeqCst);
            if is_runnable && self.sleeps.load(Ordering::SeqCst) == WATCHES_REACTOR {
                self.alarm.set();
            }
        }
    }

    // ---- fork -------------------------------------------------------------------------------------------------------

    /// Take the reactor, so that the child finds nothing half-done. Not the small locks: attached threads wait for those,
    /// and between here and the fork Python runs. Whoever is inside one of them is attached, so not at the moment of the
    /// fork; or holds the reactor; or is the home thread that parks, see `fall_silent`.
    ///
    /// # Safety
    /// The engine must stay where it is until this thread calls `thaw`.
    pub unsafe fn freeze(&self) {
        let guard = self.reactor.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the guard is dropped in `thaw`, and until then the engine stays, as promised.
        let guard = unsafe { std::mem::transmute::<MutexGuard<'_, Reactor>, MutexGuard<'static, Reactor>>(guard) };
        *self.frozen.lock() = Some(Frozen(guard));
    }

    /// Let go of what `freeze` took. Only the thread that called it, in the parent.
    pub fn thaw(&self) {
        let frozen = self.frozen.lock().take();
        drop(frozen);
        drop(self.try_lease()); // works off what was left meanwhile
    }

    /// As `thaw`, in the child. The parent does the jobs that were left meanwhile; doing them twice would send twice.
    pub fn thaw_in_child(&self) {
        self.jobs.lock().clear();
        self.queued.store(0, Ordering::SeqCst);
        self.thaw();
    }
}

/// A number of this thread that no other living thread has.
pub fn this_thread() -> usize {
    thread_local!(static PLACE: u8 = const { 0 });
    PLACE.with(|place| std::ptr::from_ref(place) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::wait_readable;

    #[test]
    fn a_take_without_the_reactor_leaves_the_signal_standing() {
        let engine = Engine::new().unwrap();
        let lease = engine.lease();
        engine.mailbox.post(&mut Vec::new(), true); // its holder says: connections can go on
        std::thread::scope(|scope| {
            let taken = scope.spawn(|| engine.take_now(9)).join().unwrap();
            assert!(taken.events.is_empty());
        });
        assert_eq!(wait_readable(&[engine.mailbox.descriptor()], Some(Duration::ZERO)), Ok(1));
        drop(lease);
    }

    #[test]
    fn after_looking_in_vain_signals_are_asked_for() {
        let engine = Engine::new().unwrap();
        engine.arrive();
        engine.pace.expect_answer();
        let (done, is_done) = std::sync::mpsc::channel();
        let engine = &engine;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                if is_done.recv_timeout(Duration::from_secs(5)).is_err() {
                    engine.mailbox.wake(); // it would have slept for ever
                }
            });
            let waited = engine.wait_and_take(9, None).err();
            let _ = done.send(());
            assert_eq!(waited, Some(Errno::INTR));
        });
    }

    #[test]
    fn what_is_left_for_the_holder_is_done_when_it_lets_go() {
        let engine = Engine::new().unwrap();
        let lease = engine.lease();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..3 {
            let done = Arc::clone(&done);
            engine.leave(Box::new(move |_| {
                done.fetch_add(1, Ordering::SeqCst);
            }));
        }
        assert_eq!(done.load(Ordering::SeqCst), 0);
        drop(lease);
        assert_eq!(done.load(Ordering::SeqCst), 3);
    }
}
