//! Where waiting for a disk is no harm: two threads of their own, and the way back to the reactor.
//!
//! Thread: any for `submit`; the jobs run on the disk threads, which never touch a socket or the interpreter.

use crate::poller::Signal;
use crate::reactor::Reactor;
use crate::signals::SignalsBlocked;
use parking_lot::Mutex;
use rustix::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

/// More than one, so that one slow file system leaves another file a chance.
const THREADS: usize = 2;

/// What is done with the reactor when the disk has answered.
pub type Finish = Box<dyn FnOnce(&mut Reactor) + Send>;
/// What may wait.
pub type DiskJob = Box<dyn FnOnce() -> Finish + Send>;

/// A trait, so that a test can have a disk that never answers.
pub trait Disk: Send + Sync {
    fn submit(&self, job: DiskJob);
}

/// Answers on their way to the reactor, which has `signal` among what it waits for.
pub struct Answers {
    /// `None`: nobody will take them any more.
    finished: Mutex<Option<Vec<Finish>>>,
    signal: Signal,
}

impl Answers {
    pub fn new() -> io::Result<Answers> {
        Ok(Answers { finished: Mutex::new(Some(Vec::new())), signal: Signal::new()? })
    }

    pub fn descriptor(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }

    pub fn put(&self, finish: Finish) {
        if let Some(finished) = &mut *self.finished.lock() {
            finished.push(finish);
            self.signal.set();
        }
    }

    pub fn take(&self) -> Vec<Finish> {
        self.signal.clear();
        self.finished.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// The reactor has ended: what answers bring (open files) must not wait for it. `is_owner` false: in a forked child,
    /// where the thread that has the lock may not exist.
    pub fn end(&self, is_owner: bool) {
        let finished = if is_owner { Some(self.finished.lock()) } else { self.finished.try_lock() };
        let waiting = finished.and_then(|mut finished| finished.take());
        drop(waiting);
    }
}

/// The real one. Its threads begin with the first job, and end with it.
pub struct DiskPool {
    answers: Arc<Answers>,
    queue: Mutex<Option<Sender<DiskJob>>>,
}

impl DiskPool {
    pub fn new(answers: Arc<Answers>) -> DiskPool {
        DiskPool { answers, queue: Mutex::new(None) }
    }

    fn begin(&self) -> Sender<DiskJob> {
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..THREADS {
            let blocked = SignalsBlocked::new();
            let (receiver, answers) = (Arc::clone(&receiver), Arc::clone(&self.answers));
            let work = move || work(&receiver, &answers);
            // Nobody joins it: a file system that hangs must not keep the process from ending.
            let _ = thread::Builder::new().name("portico-disk".into()).stack_size(512 * 1024).spawn(work);
            drop(blocked);
        }
        sender
    }
}

impl Disk for DiskPool {
    fn submit(&self, job: DiskJob) {
        // Without threads the job is dropped, and its connection ends by its time-out.
        let _ = self.queue.lock().get_or_insert_with(|| self.begin()).send(job);
    }
}

fn work(queue: &Mutex<Receiver<DiskJob>>, answers: &Answers) {
    loop {
        let job = queue.lock().recv();
        let Ok(job) = job else { return };
        // A panic is a bug, and was reported on standard error; the next file may be fine.
        if let Ok(finish) = catch_unwind(AssertUnwindSafe(job)) {
            answers.put(finish);
        }
    }
}

/// For tests: a disk that answers when the test says so, and clients to talk to meanwhile.
#[cfg(test)]
pub mod slow {
    use super::{Answers, Disk, DiskJob};
    use crate::engine::Engine;
    use parking_lot::Mutex;
    use std::io::{ErrorKind, Read};
    use std::net::TcpStream;
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    pub struct SlowDisk {
        answers: Arc<Answers>,
        jobs: Mutex<Vec<DiskJob>>,
    }

    impl Disk for SlowDisk {
        fn submit(&self, job: DiskJob) {
            self.jobs.lock().push(job);
        }
    }

    impl SlowDisk {
        pub fn is_asked(&self) -> bool {
            !self.jobs.lock().is_empty()
        }

        pub fn answer(&self) {
            for job in std::mem::take(&mut *self.jobs.lock()) {
                self.answers.put(job());
            }
        }
    }

    pub fn with_slow_disk() -> (Engine, Arc<SlowDisk>) {
        let mut slow = None;
        let engine = Engine::with_disk(|answers| {
            let disk = Arc::new(SlowDisk { answers, jobs: Mutex::default() });
            slow = Some(Arc::clone(&disk));
            disk
        });
        (engine.unwrap(), slow.unwrap())
    }

    pub fn drive_until(engine: &Engine, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !is_so() {
            assert!(Instant::now() < deadline, "it never comes about");
            engine.drive();
        }
    }

    /// Drive until what comes back ends with `end`.
    pub fn receive(engine: &Engine, client: &mut TcpStream, end: &str) -> String {
        let mut text = String::new();
        let mut buffer = [0; 4096];
        drive_until(engine, || {
            match client.read(&mut buffer) {
                Ok(0) => panic!("the connection ended after {text:?}"),
                Ok(count) => text.push_str(std::str::from_utf8(&buffer[..count]).unwrap()),
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            text.ends_with(end)
        });
        text
    }
}
