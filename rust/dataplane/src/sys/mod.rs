//! The system calls. The only module with `unsafe`; each block says why it is sound.
#![allow(unsafe_code)]

pub mod tap;
pub mod udp;

use std::io::{self, IoSlice};
use std::mem::zeroed;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Nanos;

/// Nanoseconds of CLOCK_MONOTONIC, the clock of Python's `time.monotonic()`.
pub fn now() -> Nanos {
    // SAFETY: a zeroed timespec is valid, and the call writes only into it.
    let time = unsafe {
        let mut time: libc::timespec = zeroed();
        libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut time);
        time
    };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Random bytes from the cryptographic library.
pub fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    fill_random(&mut bytes)?;
    Ok(bytes)
}

/// The same in place, for secrets: no copy of them stays behind.
pub fn fill_random(bytes: &mut [u8]) -> io::Result<()> {
    aws_lc_rs::rand::fill(bytes).map_err(|_| io::Error::other("no random bytes"))
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_size(result: isize) -> io::Result<usize> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as usize) }
}

/// A duplicate that closes on exec, non-blocking.
///
/// The non-blocking flag belongs to the open file, so the original becomes non-blocking too.
pub fn duplicate(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl takes no pointers here; a bad number gives EBADF. The new descriptor is ours alone.
    let owned = unsafe { OwnedFd::from_raw_fd(check(libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3))?) };
    // SAFETY: no pointers; the descriptor is open.
    unsafe {
        let flags = check(libc::fcntl(owned.as_raw_fd(), libc::F_GETFL))?;
        check(libc::fcntl(owned.as_raw_fd(), libc::F_SETFL, flags | libc::O_NONBLOCK))?;
    }
    Ok(owned)
}

/// One read; a frame from a port.
pub fn read(fd: &OwnedFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live mutable slice.
    check_size(unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

/// One write; a frame to a port. A port whose other end is closed gives EPIPE, never a signal: threads block SIGPIPE,
/// and callers from Python have it ignored.
pub fn write(fd: &OwnedFd, buffer: &[u8]) -> io::Result<usize> {
    // SAFETY: the pointer and length are those of a live slice.
    check_size(unsafe { libc::write(fd.as_raw_fd(), buffer.as_ptr().cast(), buffer.len()) })
}

/// One write of several pieces, at most 1024 (UIO_MAXIOV).
pub fn write_pieces(fd: &OwnedFd, pieces: &[IoSlice<'_>]) -> io::Result<usize> {
    // SAFETY: an IoSlice has the layout of an iovec (std guarantees it), and each is that of a live slice.
    check_size(unsafe { libc::writev(fd.as_raw_fd(), pieces.as_ptr().cast(), pieces.len() as libc::c_int) })
}

/// Blocks every signal in the calling thread and returns what was blocked before.
pub fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are local and initialised by the calls.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        let mut old: libc::sigset_t = zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut old);
        old
    }
}

/// Restores what `block_signals` returned.
pub fn restore_signals(old: &libc::sigset_t) {
    // SAFETY: the set comes from pthread_sigmask; a null old set is allowed.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, old, std::ptr::null_mut());
    }
}

/// A counter that poll can wait for.
pub struct EventFd(OwnedFd);

impl EventFd {
    /// A new one at zero.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the new descriptor is ours alone.
        unsafe {
            let fd = check(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    /// Makes it readable.
    pub fn signal(&self) {
        let _ = write(&self.0, &1u64.to_ne_bytes()); // fails only when it is readable already
    }

    /// Makes it unreadable.
    pub fn clear(&self) {
        let _ = read(&self.0, &mut [0; 8]); // fails only when it is unreadable already
    }

    /// The descriptor.
    pub fn fd(&self) -> &OwnedFd {
        &self.0
    }
}

/// What epoll reported about one descriptor.
#[derive(Clone, Copy)]
pub struct Ready {
    /// The number given at `add`.
    pub token: u64,
    /// The other end hung up, or the device is gone.
    pub hung_up: bool,
}

/// A level-triggered epoll set that waits for readability.
pub struct Epoll(OwnedFd);

/// Descriptors that one wait reports; more wait for the next turn.
const EPOLL_BATCH: usize = 64;

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the new descriptor is ours alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) }))
    }

    /// Adds a descriptor under a number.
    pub fn add(&self, fd: &OwnedFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: token };
        // SAFETY: the event lives through the call; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Removes a descriptor. Needed before it closes: its file may live on in another process.
    pub fn remove(&self, fd: &OwnedFd) {
        let null = std::ptr::null_mut();
        // SAFETY: the event may be null for EPOLL_CTL_DEL since Linux 2.6.9; failure means it was not in the set.
        unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), null) };
    }

    /// Waits and says what is ready; None = for ever. An interrupted wait reports nothing.
    pub fn wait(&self, timeout_ns: Option<Nanos>, ready: &mut Vec<Ready>) {
        let timeout = match timeout_ns {
            None => -1,
            Some(ns) => ns.div_ceil(1_000_000).min(3_600_000) as libc::c_int,
        };
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EPOLL_BATCH];
        // SAFETY: the pointer and count are those of a live array, of which the kernel fills the first n.
        let n =
            unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), events.len() as libc::c_int, timeout) };
        let bad = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32;
        ready.clear();
        ready.extend(events[..n.max(0) as usize].iter().map(|e| Ready { token: e.u64, hung_up: e.events & bad != 0 }));
    }
}
