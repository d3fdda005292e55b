//! What the reactor waits on: a level-triggered epoll, one timer in it, and eventfds for signalling.
//!
//! Level-triggered because the descriptor is nested in other loops and looked at by two threads: an
//! edge-triggered event is consumed by the first look, and the other looker would sleep on data.
//!
//! Thread: any.

use crate::number::{Number, TIMER};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::io::{self, Errno, fcntl_dupfd_cloexec};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create, timerfd_settime};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

/// At most this many descriptors are reported at once; the rest stay ready and come first next time.
const EVENTS_PER_WAIT: usize = 256;

/// What a connection wants to hear of. Hang-ups and errors are always reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Interest {
    pub read: bool,
    pub write: bool,
}

impl Interest {
    pub const READ: Interest = Interest { read: true, write: false };

    fn flags(self) -> EventFlags {
        let mut flags = EventFlags::empty();
        flags.set(EventFlags::IN, self.read);
        flags.set(EventFlags::OUT, self.write);
        flags
    }
}

/// One descriptor that is ready.
#[derive(Clone, Copy, Debug)]
pub struct Ready {
    pub number: Number,
    pub readable: bool,
    pub writable: bool,
    pub hung_up: bool,
}

/// The set of descriptors the reactor drives.
pub struct Poller {
    epoll: OwnedFd,
    timer: OwnedFd,
}

impl Poller {
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        epoll::add(&epoll, &timer, EventData::new_u64(TIMER), EventFlags::IN)?;
        Ok(Poller { epoll, timer })
    }

    /// A descriptor that can be given back when there are no others.
    pub fn reserve(&self) -> Option<OwnedFd> {
        fcntl_dupfd_cloexec(&self.epoll, 0).ok()
    }

    /// The descriptor that is readable while any member is ready.
    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }

    pub fn add(&self, source: impl AsFd, number: Number, interest: Interest) -> io::Result<()> {
        epoll::add(&self.epoll, source, EventData::new_u64(number), interest.flags())
    }

    pub fn modify(&self, source: impl AsFd, number: Number, interest: Interest) -> io::Result<()> {
        epoll::modify(&self.epoll, source, EventData::new_u64(number), interest.flags())
    }

    /// Always before the descriptor is closed: a copy in a forked child would keep it in the set.
    pub fn delete(&self, source: impl AsFd) {
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Append what is ready now to `ready`; never waits.
    pub fn look(&self, ready: &mut Vec<Ready>) {
        let _ = wait_ready(&self.epoll, ready, Some(Duration::ZERO)); // EINTR: the caller looks again soon
    }

    /// Let the timer fire once after `delay`; `None` disarms it.
    pub fn set_timer(&self, delay: Option<Duration>) {
        const NEVER: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero value would disarm the timer, so a deadline that has passed waits a nanosecond.
        let value = delay.map_or(NEVER, |delay| timespec(delay.max(Duration::from_nanos(1))));
        let setting = Itimerspec { it_interval: NEVER, it_value: value };
        let _ = timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &setting);
    }

    /// Forget that the timer fired.
    pub fn clear_timer(&self) {
        let _ = io::read(&self.timer, &mut [0u8; 8]);
    }
}

/// Append what is ready in the poller that `epoll` belongs to, waiting for it if need be; `None` waits for ever.
/// `Err(INTR)` when a signal came. Any number of threads may wait at once: they all see what is ready.
pub fn wait_ready(epoll: impl AsFd, ready: &mut Vec<Ready>, timeout: Option<Duration>) -> Result<(), Errno> {
    let mut room = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_PER_WAIT];
    let (found, _) = epoll::wait(epoll, &mut room[..], timeout.map(timespec).as_ref())?;
    ready.extend(found.iter().map(|event| {
        let (data, flags) = (event.data, event.flags); // the kernel packs them
        Ready {
            number: data.u64(),
            readable: flags.contains(EventFlags::IN),
            writable: flags.contains(EventFlags::OUT),
            hung_up: flags.intersects(EventFlags::HUP | EventFlags::ERR),
        }
    }));
    Ok(())
}

/// A flag that loops can wait for.
pub struct Signal {
    descriptor: OwnedFd,
}

impl Signal {
    pub fn new() -> io::Result<Signal> {
        Ok(Signal { descriptor: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)? })
    }
    pub fn set(&self) {
        let _ = io::write(&self.descriptor, &1u64.to_ne_bytes());
    }
    pub fn clear(&self) {
        let _ = io::read(&self.descriptor, &mut [0u8; 8]);
    }
}

impl AsFd for Signal {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

/// A second epoll over descriptors that are pollable themselves: the one every foreign loop watches.
pub fn nest(members: &[BorrowedFd<'_>]) -> io::Result<OwnedFd> {
    let outer = epoll::create(CreateFlags::CLOEXEC)?;
    for member in members {
        epoll::add(&outer, member, EventData::new_u64(0), EventFlags::IN)?;
    }
    Ok(outer)
}

/// Wait until one of `sources` is readable. `None` waits for ever.
///
/// Returns how many are; `Err(INTR)` when a signal came. One or two descriptors: nobody needs a third.
pub fn wait_readable(sources: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Result<usize, Errno> {
    let timeout = timeout.map(timespec);
    let mut first = [PollFd::from_borrowed_fd(sources[0], PollFlags::IN)];
    match sources.get(1) {
        None => poll(&mut first, timeout.as_ref()),
        Some(second) => {
            let [first] = first;
            poll(&mut [first, PollFd::from_borrowed_fd(*second, PollFlags::IN)], timeout.as_ref())
        }
    }
}

fn timespec(duration: Duration) -> Timespec {
    // A wait of centuries is for ever; the cast cannot wrap.
    let seconds = duration.as_secs().min(1 << 40);
    Timespec { tv_sec: seconds as i64, tv_nsec: duration.subsec_nanos().into() }
}
