//! Listeners: TCP on a literal address, unix sockets on a path.
//!
//! Thread: any.

use rustix::fs::{Mode, fchmod};
use socket2::{Domain, SockAddr, Socket, Type};
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The kernel shortens it to net.core.somaxconn; nginx's 511 loses bursts of a few hundred connects.
const BACKLOG: i32 = 4096;

pub struct Listener {
    socket: Socket,
    /// The socket file and its inode, to remove exactly what was made.
    file: Option<(PathBuf, u64)>,
}

impl Listener {
    pub fn tcp(address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking().cloexec(), None)?;
        // Sockets of an earlier server in TIME_WAIT must not block the port; a live listener still does.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let bound = socket.local_addr()?.as_socket().unwrap_or(address);
        Ok((Listener { socket, file: None }, bound))
    }

    /// `mode`: permission bits of the socket file. They are set on the socket before it is bound, because the umask,
    /// httpuv's way, belongs to the whole process and other threads may be making files meanwhile.
    pub fn unix(path: &Path, mode: Option<u32>) -> io::Result<Listener> {
        let address = SockAddr::unix(path)?;
        remove_stale(path)?;
        let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking().cloexec(), None)?;
        if let Some(mode) = mode {
            fchmod(&socket, Mode::from_raw_mode(mode))?;
        }
        socket.bind(&address)?;
        let inode = fs::symlink_metadata(path)?.ino();
        let listener = Listener { socket, file: Some((path.to_owned(), inode)) };
        listener.socket.listen(BACKLOG)?;
        Ok(listener)
    }

    /// Remove the socket file, unless another server has put its own there.
    pub fn remove_file(&mut self) {
        if let Some((path, inode)) = self.file.take()
            && fs::symlink_metadata(&path).is_ok_and(|found| found.ino() == inode)
        {
            let _ = fs::remove_file(path);
        }
    }

    /// A forked child closes its copy and leaves the file to its parent.
    pub fn forget_file(&mut self) {
        self.file = None;
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.remove_file();
    }
}

/// A socket file nobody listens on is what a dead server left; one that answers, and any other file, stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    let Ok(found) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    if !found.file_type().is_socket() {
        return Err(io::Error::from_raw_os_error(rustix::io::Errno::EXIST.raw_os_error()));
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        // A full backlog answers EAGAIN: there is somebody.
        _ => Err(io::Error::from_raw_os_error(rustix::io::Errno::ADDRINUSE.raw_os_error())),
    }
}
