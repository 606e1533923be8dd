//! Ports: descriptors that carry one Ethernet frame per read and write (a TAP, or one end of a SOCK_SEQPACKET pair).

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::PortId;
use crate::drops::DropReason;
use crate::lookup::FastMap;
use crate::sys;

/// All ports by id; replaced as a whole.
pub type Ports = FastMap<PortId, Arc<Port>>;

/// A local port.
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its name, for people.
    pub name: String,
    /// Our duplicate of the descriptor.
    pub fd: OwnedFd,
    /// Frames read.
    pub read: AtomicU64,
    /// Frames written.
    pub written: AtomicU64,
    gone: AtomicBool,
}

/// What a read found.
pub enum Read {
    /// A frame of so many bytes.
    Frame(usize),
    /// Nothing now.
    Empty,
    /// The link is down; ask again later.
    Down,
    /// The descriptor is of no more use.
    Gone,
}

impl Port {
    /// Takes a duplicate of the descriptor.
    pub fn open(id: PortId, name: String, fd: RawFd) -> io::Result<Self> {
        let fd = sys::duplicate(fd)?;
        let (read, written, gone) = Default::default();
        Ok(Self { id, name, fd, read, written, gone })
    }

    /// Reads one frame into the buffer.
    pub fn read(&self, buffer: &mut [u8]) -> Read {
        match sys::read(&self.fd, buffer) {
            Ok(length) => {
                self.read.fetch_add(1, Ordering::Relaxed);
                Read::Frame(length)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EINTR) => Read::Empty,
                Some(libc::EIO | libc::ENETDOWN | libc::ENOMEM | libc::ENOBUFS) => Read::Down,
                _ => {
                    self.gone.store(true, Ordering::Relaxed);
                    Read::Gone
                }
            },
        }
    }

    /// Writes one frame now, or says why not.
    pub fn write(&self, frame: &[u8]) -> Result<(), DropReason> {
        if self.is_gone() {
            return Err(DropReason::PortGone);
        }
        match sys::write(&self.fd, frame) {
            Ok(_) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => DropReason::PortFull,
                Some(libc::EIO | libc::ENETDOWN | libc::EINTR) => DropReason::PortDown,
                Some(libc::EINVAL | libc::EMSGSIZE) => DropReason::TooLarge,
                _ => DropReason::PortGone,
            }),
        }
    }

    /// Gives the port up.
    pub fn set_gone(&self) {
        self.gone.store(true, Ordering::Relaxed);
    }

    /// Whether its descriptor broke.
    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }
}
