//! What is asked of a TAP device: its virtio header and the offloads behind it.

use std::io;
use std::mem::zeroed;
use std::os::fd::{AsRawFd, OwnedFd};

use super::check;

/// linux/if_tun.h: the kernel may leave checksums partial, and takes such frames.
pub const TUN_F_CSUM: u32 = 0x01;
/// TCP over IPv4 and IPv6 in super-frames, with ECN.
pub const TUN_F_TSO: u32 = 0x02 | 0x04 | 0x08;
/// UDP over IPv4 and IPv6 in super-frames; from Linux 6.2 on.
pub const TUN_F_USO: u32 = 0x20 | 0x40;

const IFF_VNET_HDR: libc::c_short = 0x4000;
const TUNGETIFF: libc::c_ulong = 0x8004_54d2;
const TUNSETOFFLOAD: libc::c_ulong = 0x4004_54d0;
const TUNSETVNETHDRSZ: libc::c_ulong = 0x4004_54d8;

/// Whether the descriptor is a TAP with virtio headers; None: it is no TAP or TUN at all.
pub fn has_virtio(fd: &OwnedFd) -> Option<bool> {
    // SAFETY: zero is valid for an ifreq, which lives through the call; the flags are what the kernel wrote.
    unsafe {
        let mut request: libc::ifreq = zeroed();
        let done = check(libc::ioctl(fd.as_raw_fd(), TUNGETIFF, &raw mut request));
        done.ok().map(|_| request.ifr_ifru.ifru_flags & IFF_VNET_HDR != 0)
    }
}

/// Sets the length of the virtio header. It belongs to the device, so it is set at every open.
pub fn set_virtio_bytes(fd: &OwnedFd, bytes: usize) -> io::Result<()> {
    let bytes = bytes as libc::c_int;
    // SAFETY: the value lives through the call.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETVNETHDRSZ, &raw const bytes) })?;
    Ok(())
}

/// Sets which offloads the kernel may use. They belong to the device, too.
pub fn set_offloads(fd: &OwnedFd, mask: u32) -> io::Result<()> {
    // SAFETY: the argument is a number, no pointer.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), TUNSETOFFLOAD, libc::c_ulong::from(mask)) })?;
    Ok(())
}
