//! The system calls. The only file with `unsafe`; each block says why it is sound.
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::Nanos;
use crate::udp::Address;

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
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

/// Descriptors that one wait reports; more wait for the next turn.
const EPOLL_BATCH: usize = 64;

impl Epoll {
    /// An empty set.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the new descriptor is ours alone.
        let fd = unsafe { OwnedFd::from_raw_fd(check(libc::epoll_create1(libc::EPOLL_CLOEXEC))?) };
        Ok(Self { fd, events: vec![libc::epoll_event { events: 0, u64: 0 }; EPOLL_BATCH] })
    }

    /// Adds a descriptor under a number.
    pub fn add(&self, fd: &OwnedFd, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: (libc::EPOLLIN | libc::EPOLLRDHUP) as u32, u64: token };
        // SAFETY: the event lives through the call; both descriptors are open.
        check(unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_ADD, fd.as_raw_fd(), &mut event) })?;
        Ok(())
    }

    /// Removes a descriptor. Needed before it closes: its file may live on in another process.
    pub fn remove(&self, fd: &OwnedFd) {
        let null = std::ptr::null_mut();
        // SAFETY: the event may be null for EPOLL_CTL_DEL since Linux 2.6.9; failure means it was not in the set.
        unsafe { libc::epoll_ctl(self.fd.as_raw_fd(), libc::EPOLL_CTL_DEL, fd.as_raw_fd(), null) };
    }

    /// Waits; None = for ever. An interrupted wait reports nothing.
    pub fn wait(&mut self, timeout_ns: Option<Nanos>) -> Vec<Ready> {
        let timeout = match timeout_ns {
            None => -1,
            Some(ns) => ns.div_ceil(1_000_000).min(3_600_000) as libc::c_int,
        };
        // SAFETY: the pointer and count are those of a live vector, of which the kernel fills the first n.
        let n = unsafe {
            libc::epoll_wait(self.fd.as_raw_fd(), self.events.as_mut_ptr(), self.events.len() as libc::c_int, timeout)
        };
        let bad = (libc::EPOLLHUP | libc::EPOLLERR | libc::EPOLLRDHUP) as u32;
        self.events[..n.max(0) as usize].iter().map(|e| Ready { token: e.u64, hung_up: e.events & bad != 0 }).collect()
    }
}

/// A UDP socket and what the system granted it.
pub struct Socket {
    /// The descriptor.
    pub fd: OwnedFd,
    /// IPv4 only, because the system has no IPv6.
    pub v4_only: bool,
    /// The bound port.
    pub port: u16,
    /// Granted receive buffer.
    pub receive_buffer_bytes: u32,
    /// Granted send buffer.
    pub send_buffer_bytes: u32,
}

/// Opens [::]:port for both families, or 0.0.0.0:port where IPv6 is missing.
pub fn open_udp(port: u16, buffer_bytes: u32) -> io::Result<Socket> {
    let (fd, v4_only) = match bind_udp(libc::AF_INET6, port) {
        Ok(fd) => (fd, false),
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAFNOSUPPORT | libc::EADDRNOTAVAIL)) => {
            (bind_udp(libc::AF_INET, port)?, true)
        }
        Err(error) => return Err(error),
    };
    for (force, ask) in [(libc::SO_RCVBUFFORCE, libc::SO_RCVBUF), (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF)] {
        if set_option(&fd, libc::SOL_SOCKET, force, buffer_bytes as i32).is_err() {
            set_option(&fd, libc::SOL_SOCKET, ask, buffer_bytes as i32)?;
        }
    }
    let port = bound_port(&fd)?;
    let receive_buffer_bytes = get_option(&fd, libc::SO_RCVBUF)?;
    let send_buffer_bytes = get_option(&fd, libc::SO_SNDBUF)?;
    Ok(Socket { fd, v4_only, port, receive_buffer_bytes, send_buffer_bytes })
}

fn bind_udp(family: libc::c_int, port: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the new descriptor is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    if family == libc::AF_INET6 {
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let any = Address { ip: [0; 16], port, scope: 0 };
    let (storage, length) = if family == libc::AF_INET6 { any_v6(port) } else { sockaddr(&any, true) };
    // SAFETY: the storage is large enough for either family and lives through the call.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const storage).cast(), length) })?;
    Ok(fd)
}

fn any_v6(port: u16) -> (libc::sockaddr_storage, libc::socklen_t) {
    sockaddr(&Address { ip: [0; 16], port, scope: 0 }, false)
}

fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: the value lives through the call and the length is its size.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<i32>() as u32)
    })?;
    Ok(())
}

fn get_option(fd: &OwnedFd, name: libc::c_int) -> io::Result<u32> {
    let (mut value, mut length) = (0u32, size_of::<u32>() as libc::socklen_t);
    // SAFETY: value and length live through the call; the length says the value's size.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

fn bound_port(fd: &OwnedFd) -> io::Result<u16> {
    // SAFETY: a zeroed storage is valid and larger than any address that the kernel writes.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
        check(libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &mut length))?;
        storage
    };
    address_of(&storage).map(|a| a.port).ok_or_else(|| io::Error::other("the UDP socket has no address"))
}

/// A kernel address for the socket's family: a mapped IPv4 address on an IPv6 socket.
fn sockaddr(address: &Address, v4_only: bool) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: zero is valid for these C structs, and the storage is large and aligned enough for both.
    unsafe {
        let mut storage: libc::sockaddr_storage = zeroed();
        if v4_only {
            let to = &mut *(&raw mut storage).cast::<libc::sockaddr_in>();
            to.sin_family = libc::AF_INET as libc::sa_family_t;
            to.sin_port = address.port.to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes(std::array::from_fn(|i| address.ip[12 + i]));
            (storage, size_of::<libc::sockaddr_in>() as libc::socklen_t)
        } else {
            let to = &mut *(&raw mut storage).cast::<libc::sockaddr_in6>();
            to.sin6_family = libc::AF_INET6 as libc::sa_family_t;
            to.sin6_port = address.port.to_be();
            to.sin6_addr.s6_addr = address.ip;
            to.sin6_scope_id = address.scope;
            (storage, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
        }
    }
}

fn address_of(storage: &libc::sockaddr_storage) -> Option<Address> {
    // SAFETY: the kernel filled the storage, its family says as what.
    unsafe {
        match i32::from(storage.ss_family) {
            libc::AF_INET => {
                let from = &*(&raw const *storage).cast::<libc::sockaddr_in>();
                let mut ip = [0; 16];
                ip[10..12].fill(0xff);
                ip[12..].copy_from_slice(&from.sin_addr.s_addr.to_ne_bytes());
                Some(Address { ip, port: u16::from_be(from.sin_port), scope: 0 })
            }
            libc::AF_INET6 => {
                let from = &*(&raw const *storage).cast::<libc::sockaddr_in6>();
                let (ip, scope) = (from.sin6_addr.s6_addr, from.sin6_scope_id);
                Some(Address { ip, port: u16::from_be(from.sin6_port), scope })
            }
            _ => None,
        }
    }
}

impl Socket {
    /// One datagram.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<(usize, Address)> {
        // SAFETY: buffer and storage live through the call and the lengths are theirs.
        let (n, storage) = unsafe {
            let mut storage: libc::sockaddr_storage = zeroed();
            let mut length = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
            let (at, from) = (buffer.as_mut_ptr().cast(), (&raw mut storage).cast());
            let n = check_size(libc::recvfrom(self.fd.as_raw_fd(), at, buffer.len(), 0, from, &mut length))?;
            (n, storage)
        };
        let from = address_of(&storage).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        Ok((n, from))
    }

    /// One datagram.
    pub fn send(&self, packet: &[u8], to: &Address) -> io::Result<()> {
        if self.v4_only && !to.is_v4() {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let (storage, length) = sockaddr(to, self.v4_only);
        // SAFETY: packet and storage live through the call and the lengths are theirs.
        check_size(unsafe {
            let at = packet.as_ptr().cast();
            libc::sendto(self.fd.as_raw_fd(), at, packet.len(), 0, (&raw const storage).cast(), length)
        })?;
        Ok(())
    }
}
