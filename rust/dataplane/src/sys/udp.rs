//! The UDP socket: batches of datagrams, with segmentation (UDP_SEGMENT) and coalescing (UDP_GRO) by the kernel.

use std::io::{self, IoSlice};
use std::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::{check, check_size};
use crate::udp::Address;

/// Datagrams, or trains of them, that one call receives (ours: 8 × 64 KiB stay in the L2 cache).
pub const RECEIVE_SLOTS: usize = 8;
/// Messages that one call sends (ours; the kernel takes 1024).
pub const SEND_MESSAGES: usize = 64;
/// Bytes of a slot: the largest datagram, spread so that slots do not share cache sets.
const SLOT_BYTES: usize = 65_536 + 2 * 64;
/// Room for one control message with an int.
const CONTROL_BYTES: usize = 32;

/// A UDP socket and what the system granted it.
pub struct Socket {
    /// The descriptor.
    pub fd: OwnedFd,
    /// The kernel cuts a train of datagrams by itself.
    pub gso: bool,
    /// The kernel gives trains of datagrams.
    pub gro: bool,
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
pub fn open(port: u16, buffer_bytes: u32, want_gro: bool) -> io::Result<Socket> {
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
    let gso = get_option(&fd, libc::SOL_UDP, libc::UDP_SEGMENT).is_ok();
    let gro = want_gro && set_option(&fd, libc::SOL_UDP, libc::UDP_GRO, 1).is_ok();
    let port = bound_port(&fd)?;
    let receive_buffer_bytes = get_option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF)?;
    let send_buffer_bytes = get_option(&fd, libc::SOL_SOCKET, libc::SO_SNDBUF)?;
    Ok(Socket { fd, gso, gro, v4_only, port, receive_buffer_bytes, send_buffer_bytes })
}

fn bind_udp(family: libc::c_int, port: u16) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: no pointers; the new descriptor is ours alone.
    let fd = unsafe { OwnedFd::from_raw_fd(check(libc::socket(family, kind, 0))?) };
    if family == libc::AF_INET6 {
        set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    let any = Address { ip: [0; 16], port, scope: 0 };
    let (name, length) = sockaddr(&any, family == libc::AF_INET);
    // SAFETY: the name lives through the call and the length is its family's.
    check(unsafe { libc::bind(fd.as_raw_fd(), (&raw const name).cast(), length) })?;
    Ok(fd)
}

/// Sets an option of a socket.
pub fn set_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: i32) -> io::Result<()> {
    // SAFETY: the value lives through the call and the length is its size.
    check(unsafe {
        libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size_of::<i32>() as u32)
    })?;
    Ok(())
}

fn get_option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int) -> io::Result<u32> {
    let (mut value, mut length) = (0u32, size_of::<u32>() as libc::socklen_t);
    // SAFETY: value and length live through the call; the length says the value's size.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, name, (&raw mut value).cast(), &mut length) })?;
    Ok(value)
}

fn bound_port(fd: &OwnedFd) -> io::Result<u16> {
    // SAFETY: a zeroed storage is valid and as large as any address that the kernel writes.
    let storage = unsafe {
        let mut storage: libc::sockaddr_in6 = zeroed();
        let mut length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
        check(libc::getsockname(fd.as_raw_fd(), (&raw mut storage).cast(), &mut length))?;
        storage
    };
    address_of(&storage).map(|a| a.port).ok_or_else(|| io::Error::other("the UDP socket has no address"))
}

/// A kernel address for the socket's family: a mapped IPv4 address on an IPv6 socket. An IPv4 one takes the front of the larger struct.
fn sockaddr(address: &Address, v4_only: bool) -> (libc::sockaddr_in6, libc::socklen_t) {
    // SAFETY: zero is valid for these C structs, and sockaddr_in6 is larger than sockaddr_in and aligned as strictly.
    unsafe {
        let mut name: libc::sockaddr_in6 = zeroed();
        if v4_only {
            let to = &mut *(&raw mut name).cast::<libc::sockaddr_in>();
            to.sin_family = libc::AF_INET as libc::sa_family_t;
            to.sin_port = address.port.to_be();
            to.sin_addr.s_addr = u32::from_ne_bytes(std::array::from_fn(|i| address.ip[12 + i]));
            return (name, size_of::<libc::sockaddr_in>() as libc::socklen_t);
        }
        name.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        name.sin6_port = address.port.to_be();
        name.sin6_addr.s6_addr = address.ip;
        name.sin6_scope_id = address.scope;
        (name, size_of::<libc::sockaddr_in6>() as libc::socklen_t)
    }
}

/// An address as the kernel gave it; an IPv4 one takes the front of the larger struct.
fn address_of(storage: &libc::sockaddr_in6) -> Option<Address> {
    // SAFETY: the kernel filled the storage, its family says as what.
    unsafe {
        match i32::from(storage.sin6_family) {
            libc::AF_INET => {
                let from = &*(&raw const *storage).cast::<libc::sockaddr_in>();
                let mut ip = [0; 16];
                ip[10..12].fill(0xff);
                ip[12..].copy_from_slice(&from.sin_addr.s_addr.to_ne_bytes());
                Some(Address { ip, port: u16::from_be(from.sin_port), scope: 0 })
            }
            libc::AF_INET6 => {
                let (ip, scope) = (storage.sin6_addr.s6_addr, storage.sin6_scope_id);
                Some(Address { ip, port: u16::from_be(storage.sin6_port), scope })
            }
            _ => None,
        }
    }
}

/// One message to send: pieces of `slices`, cut by the kernel into datagrams of `segment` bytes (the last may be shorter); 0 = one datagram.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    /// Where to.
    pub to: Address,
    /// The first of its slices.
    pub first: usize,
    /// How many there are.
    pub count: usize,
    /// Bytes of a datagram.
    pub segment: u16,
}

/// One received datagram, or several of one sender.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    /// Bytes in all.
    pub length: usize,
    /// Bytes of a datagram; the last may be shorter.
    pub segment: usize,
    /// The sender; None if the kernel gave no address.
    pub from: Option<Address>,
}

/// Buffers for one call to `receive`. The default has none: it stands in while the real ones are in use.
#[derive(Default)]
pub struct ReceiveBuffers(Box<[u8]>);

impl ReceiveBuffers {
    /// All slots.
    pub fn new() -> Self {
        Self(vec![0; RECEIVE_SLOTS * SLOT_BYTES].into_boxed_slice())
    }

    /// Where slot `n` starts.
    pub fn start(n: usize) -> usize {
        n * SLOT_BYTES
    }

    /// All of them.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All of them.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

#[repr(C, align(8))]
#[derive(Clone, Copy)]
struct Control([u8; CONTROL_BYTES]);

impl Socket {
    /// Receives what is there: how many slots were filled. `batch`: by one recvmmsg, else by one recvmsg into the first slot.
    pub fn receive(
        &self,
        buffers: &mut ReceiveBuffers,
        received: &mut [Received; RECEIVE_SLOTS],
        batch: bool,
    ) -> io::Result<usize> {
        let slots = if batch { RECEIVE_SLOTS } else { 1 };
        // SAFETY: zero is valid for all of these C structs. Every pointer is into an array or buffer that lives through
        // the call and is not touched meanwhile; lengths are theirs. The kernel fills the first n entries.
        unsafe {
            let mut headers: [libc::mmsghdr; RECEIVE_SLOTS] = zeroed();
            let mut pieces: [libc::iovec; RECEIVE_SLOTS] = zeroed();
            let mut names: [libc::sockaddr_in6; RECEIVE_SLOTS] = zeroed();
            let mut controls = [Control([0; CONTROL_BYTES]); RECEIVE_SLOTS];
            for (n, slot) in buffers.0.chunks_exact_mut(SLOT_BYTES).enumerate().take(slots) {
                pieces[n] = libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: slot.len() };
                let header = &mut headers[n].msg_hdr;
                header.msg_name = (&raw mut names[n]).cast();
                header.msg_namelen = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
                header.msg_iov = &raw mut pieces[n];
                header.msg_iovlen = 1;
                header.msg_control = (&raw mut controls[n]).cast();
                header.msg_controllen = CONTROL_BYTES;
            }
            let fd = self.fd.as_raw_fd();
            let count = if batch {
                let n =
                    libc::recvmmsg(fd, headers.as_mut_ptr(), slots as u32, libc::MSG_DONTWAIT, std::ptr::null_mut());
                check(n)? as usize
            } else {
                headers[0].msg_len = check_size(libc::recvmsg(fd, &mut headers[0].msg_hdr, libc::MSG_DONTWAIT))? as u32;
                1
            };
            for n in 0..count {
                let length = headers[n].msg_len as usize;
                let segment = gro_segment(&headers[n].msg_hdr).unwrap_or(length).max(1);
                received[n] = Received { length, segment, from: address_of(&names[n]) };
            }
            Ok(count)
        }
    }

    /// Sends messages in order by sendmmsg, or one by one; returns how many went, and the error of the next one. The socket
    /// reaches all of their addresses.
    pub fn send_messages(
        &self,
        messages: &[Message],
        slices: &[IoSlice<'_>],
        batch: bool,
    ) -> (usize, Option<io::Error>) {
        match messages {
            [one] => self.send_some::<1>(std::slice::from_ref(one), slices, batch), // most often, and in a hurry
            _ => self.send_some::<SEND_MESSAGES>(&messages[..messages.len().min(SEND_MESSAGES)], slices, batch),
        }
    }

    /// The same for at most `N` messages.
    fn send_some<const N: usize>(
        &self,
        messages: &[Message],
        slices: &[IoSlice<'_>],
        batch: bool,
    ) -> (usize, Option<io::Error>) {
        // SAFETY: zero is valid for all of these C structs. Names and controls live through the calls; the pieces are
        // IoSlices, which have the layout of an iovec (std guarantees it), and each is that of a live slice.
        unsafe {
            let mut headers: [libc::mmsghdr; N] = zeroed();
            let mut names: [libc::sockaddr_in6; N] = zeroed();
            let mut controls = [Control([0; CONTROL_BYTES]); N];
            for (n, message) in messages.iter().enumerate() {
                let pieces = &slices[message.first..message.first + message.count];
                let header = &mut headers[n].msg_hdr;
                let length;
                (names[n], length) = sockaddr(&message.to, self.v4_only);
                header.msg_name = (&raw mut names[n]).cast();
                header.msg_namelen = length;
                header.msg_iov = pieces.as_ptr().cast_mut().cast();
                header.msg_iovlen = pieces.len();
                if message.segment != 0 {
                    header.msg_control = (&raw mut controls[n]).cast();
                    header.msg_controllen = libc::CMSG_SPACE(size_of::<u16>() as u32) as usize;
                    let control = libc::CMSG_FIRSTHDR(header);
                    (*control).cmsg_level = libc::SOL_UDP;
                    (*control).cmsg_type = libc::UDP_SEGMENT;
                    (*control).cmsg_len = libc::CMSG_LEN(size_of::<u16>() as u32) as usize;
                    libc::CMSG_DATA(control).cast::<u16>().write_unaligned(message.segment);
                }
            }
            let fd = self.fd.as_raw_fd();
            if batch && messages.len() > 1 {
                let sent = libc::sendmmsg(fd, headers.as_mut_ptr(), messages.len() as u32, libc::MSG_DONTWAIT);
                return match check(sent) {
                    Ok(sent) => (sent as usize, None),
                    Err(error) => (0, Some(error)),
                };
            }
            for (n, header) in headers[..messages.len()].iter().enumerate() {
                if let Err(error) = check_size(libc::sendmsg(fd, &header.msg_hdr, libc::MSG_DONTWAIT)) {
                    return (n, Some(error));
                }
            }
            (messages.len(), None)
        }
    }

    /// Whether the socket's family can send there.
    pub fn reaches(&self, to: &Address) -> bool {
        !self.v4_only || to.is_v4()
    }

    /// One datagram.
    pub fn send(&self, packet: &[u8], to: &Address) -> io::Result<()> {
        if !self.reaches(to) {
            return Err(io::Error::from_raw_os_error(libc::ENETUNREACH));
        }
        let message = Message { to: *to, first: 0, count: 1, segment: 0 };
        match self.send_messages(&[message], &[IoSlice::new(packet)], false) {
            (_, Some(error)) => Err(error),
            _ => Ok(()),
        }
    }
}

/// The size of a train's datagrams, if the kernel made one.
///
/// # Safety
/// The header comes from a recvmsg that filled it; its control buffer lives.
unsafe fn gro_segment(header: &libc::msghdr) -> Option<usize> {
    // SAFETY: the kernel wrote the control messages and their lengths; the macros stay within msg_controllen.
    unsafe {
        let mut control = libc::CMSG_FIRSTHDR(header);
        while !control.is_null() {
            if (*control).cmsg_level == libc::SOL_UDP && (*control).cmsg_type == libc::UDP_GRO {
                return usize::try_from(libc::CMSG_DATA(control).cast::<libc::c_int>().read_unaligned()).ok();
            }
            control = libc::CMSG_NXTHDR(header, control);
        }
        None
    }
}
