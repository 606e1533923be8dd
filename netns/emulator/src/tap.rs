//! The system calls: a TAP in a given network namespace, a poll with nanoseconds, frames in and out.
//! This is the only file with `unsafe`: each block is one system call on memory that we own.

use std::ffi::CString;
use std::fs::File;
use std::io::{Error, Read, Result, Write};
use std::os::fd::{AsRawFd, RawFd};

/// Longest frame we carry: 65,535 bytes of IP, an Ethernet header and a VLAN tag.
pub const MAX_FRAME_BYTES: usize = 65_535 + 18;

pub struct Tap {
    file: File,
}

impl Tap {
    /// Creates (or attaches to) the TAP `name` in the namespace at `path`; None = where we are.
    pub fn open(path: Option<&str>, name: &str) -> Result<Tap> {
        let home = File::open("/proc/thread-self/ns/net")?;
        if let Some(path) = path {
            enter(&File::open(path)?)?;
        }
        let opened = attach(name);
        enter(&home)?;
        Ok(Tap { file: opened? })
    }

    /// Reads one frame; None when there is none now.
    pub fn read(&self, buffer: &mut [u8]) -> Result<Option<usize>> {
        match (&self.file).read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes one frame; an interface that is down takes none, as an unplugged cable.
    pub fn write(&self, frame: &[u8]) -> bool {
        (&self.file).write(frame).is_ok()
    }

    /// Waits until a frame can be read or `timeout_ns` is over.
    pub fn wait(&self, timeout_ns: u64) {
        let mut poll = libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let timeout = libc::timespec {
            tv_sec: (timeout_ns / 1_000_000_000) as libc::time_t,
            tv_nsec: (timeout_ns % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: one pollfd and one timespec that live through the call.
        unsafe { libc::ppoll(&mut poll, 1, &timeout, std::ptr::null()) };
    }
}

fn enter(namespace: &File) -> Result<()> {
    // SAFETY: setns takes a descriptor and a flag.
    check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) }).map(|_| ())
}

fn attach(name: &str) -> Result<File> {
    let file = File::options().read(true).write(true).open("/dev/net/tun")?;
    let request = named(name, (libc::IFF_TAP | libc::IFF_NO_PI) as libc::c_short)?;
    // SAFETY: TUNSETIFF reads one ifreq.
    check(unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF as _, &request) })?;
    // SAFETY: fcntl with integers.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) })?;
    Ok(file)
}

/// Brings an interface of this namespace up.
pub fn bring_up(name: &str) -> Result<()> {
    // SAFETY: socket takes integers; SIOCSIFFLAGS reads one ifreq.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let request = named(name, libc::IFF_UP as libc::c_short)?;
        let done = check(libc::ioctl(socket, libc::SIOCSIFFLAGS as _, &request));
        libc::close(socket);
        done.map(|_| ())
    }
}

/// Sends `frame` out of an interface until `go_on` says no: the load of the ceiling measurement.
pub fn flood(name: &str, frame: &[u8], go_on: impl Fn() -> bool) -> Result<()> {
    let socket = packet_socket(name)?;
    let mut vector = libc::iovec { iov_base: frame.as_ptr() as *mut _, iov_len: frame.len() };
    // SAFETY: an all-zero mmsghdr is valid; the vector outlives the calls, and the kernel only reads it.
    unsafe {
        let mut messages: [libc::mmsghdr; 64] = std::mem::zeroed();
        for message in &mut messages {
            message.msg_hdr.msg_iov = &mut vector;
            message.msg_hdr.msg_iovlen = 1;
        }
        while go_on() {
            libc::sendmmsg(socket, messages.as_mut_ptr(), 64, 0); // a full queue fails with ENOBUFS: go on
        }
        libc::close(socket);
    }
    Ok(())
}

fn packet_socket(name: &str) -> Result<RawFd> {
    let text = CString::new(name)?;
    // SAFETY: a terminated string, integers, and an address of the given length.
    unsafe {
        let index = libc::if_nametoindex(text.as_ptr());
        let socket = check(libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0))?;
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as _;
        address.sll_ifindex = index as _;
        let length = std::mem::size_of_val(&address) as libc::socklen_t;
        check(libc::bind(socket, (&raw const address).cast(), length))?;
        Ok(socket)
    }
}

fn named(name: &str, flags: libc::c_short) -> Result<libc::ifreq> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ {
        return Err(Error::other(format!("interface name {name:?}: 1 to 15 characters")));
    }
    // SAFETY: an ifreq of zeros is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = flags;
    Ok(request)
}

/// Wakes within a microsecond of the deadline instead of 50, and dies with the lab.
pub fn prepare_process() {
    // SAFETY: prctl with integers; a handler that only stores to an atomic.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM);
        libc::signal(libc::SIGTERM, crate::on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::signal(libc::SIGINT, crate::on_signal as extern "C" fn(libc::c_int) as libc::sighandler_t);
    }
}

/// Timer slack belongs to a thread.
pub fn prepare_thread() {
    // SAFETY: prctl with integers.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000) };
}

fn check(result: libc::c_int) -> Result<libc::c_int> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}
