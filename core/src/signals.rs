//! Signals are for the threads of the program, not for ours; and a SIGPIPE of ours is for nobody.
//!
//! Thread: the one that starts another; `without_sigpipe`: any.

/// A new thread inherits the mask: no signal may be delivered to a thread of ours, because then it would not interrupt the
/// main thread's wait, and Ctrl-C would be seen only at the next event.
pub struct SignalsBlocked {
    before: libc::sigset_t,
}

impl SignalsBlocked {
    pub fn new() -> SignalsBlocked {
        // SAFETY: both sets are plain data that the calls fill; the calls only change this thread's mask.
        unsafe {
            let mut all: libc::sigset_t = std::mem::zeroed();
            let mut before: libc::sigset_t = std::mem::zeroed();
            libc::sigfillset(&raw mut all);
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
            SignalsBlocked { before }
        }
    }
}

impl Drop for SignalsBlocked {
    fn drop(&mut self) {
        // SAFETY: the set came from the same call.
        unsafe {
            libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.before, std::ptr::null_mut());
        }
    }
}

/// Do what reports a closed connection by SIGPIPE, and knows no MSG_NOSIGNAL. Python ignores that signal, but a program may
/// have given it back its meaning, as those do that write into pipes, and then any client could end the process.
pub fn without_sigpipe<T>(act: impl FnOnce() -> T) -> T {
    // SAFETY: the sets are plain data that the calls fill; the calls change and read this thread's mask and signals only.
    unsafe {
        let mut pipe: libc::sigset_t = std::mem::zeroed();
        let mut before: libc::sigset_t = std::mem::zeroed();
        let mut pending: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut pipe);
        libc::sigaddset(&raw mut pipe, libc::SIGPIPE);
        libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, &raw mut before);
        libc::sigpending(&raw mut pending);
        let done = act();
        // Whatever it returned: a part may have left before. One that waited before is somebody else's.
        if libc::sigismember(&raw const pending, libc::SIGPIPE) == 0 {
            let now: libc::timespec = std::mem::zeroed();
            while libc::sigtimedwait(&raw const pipe, std::ptr::null_mut(), &raw const now) == -1
                && std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
            {}
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        done
    }
}
