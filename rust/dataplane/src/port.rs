//! Ports: descriptors that carry one Ethernet frame per read and write (a TAP, or one end of a SOCK_SEQPACKET pair).

use std::io::{self, IoSlice};
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::drops::DropReason;
use crate::lookup::FastMap;
use crate::offload::coalesce::{Merges, Write};
use crate::offload::segment::{Plan, plan_untrusted};
use crate::offload::{Allowed, Gso, VIRTIO_BYTES, Virtio, checksum};
use crate::sys::{self, tap};
use crate::{Nanos, PortId};

/// All ports by id; replaced as a whole.
pub type Ports = FastMap<PortId, Arc<Port>>;

/// Pieces of one write: virtio header, first frame, 63 payloads; a few to spare.
const MAX_PIECES: usize = 68;

/// After a refused super-frame none is written for so long (ours): it may have been that one's fault.
const REFUSED_NS: Nanos = 10_000_000_000;
/// Where TCP has its checksum (RFC 9293, 3.1).
const TCP_CHECKSUM_OFFSET: u16 = 16;

/// What a port's descriptor can do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Frames have a virtio header, in both directions.
    pub virtio: bool,
    /// It takes TCP or UDP checksums that are partial.
    pub partial: bool,
    /// It takes super-frames.
    pub merges: Merges,
}

impl Capabilities {
    /// Those that are allowed and make sense: without a virtio header nothing can be said about a frame.
    fn limited(self, allowed: &Allowed) -> Self {
        let partial = self.virtio && self.partial && allowed.checksum;
        let merges = Merges { tcp: self.merges.tcp && allowed.tso, udp: self.merges.udp && allowed.uso };
        let merges = if partial && allowed.coalesce { merges } else { Merges::default() };
        Self { virtio: self.virtio, partial, merges }
    }
}

/// A local port.
pub struct Port {
    /// Its id.
    pub id: PortId,
    /// Its name, for people.
    pub name: String,
    /// Our duplicate of the descriptor.
    pub fd: OwnedFd,
    /// What it can do.
    pub can: Capabilities,
    /// Frames read; a super-frame is one.
    pub read: AtomicU64,
    /// Frames written; a super-frame is one.
    pub written: AtomicU64,
    /// It refused a super-frame though it should take them: no more until then.
    refused_until: AtomicU64,
    gone: AtomicBool,
}

/// What a read found.
pub enum Read {
    /// A frame of so many bytes behind the place for the virtio header, and what that header says.
    Frame(usize, Virtio),
    /// A frame with a virtio header that makes no sense.
    Malformed,
    /// Nothing now.
    Empty,
    /// The link is down; ask again later.
    Down,
    /// The descriptor is of no more use.
    Gone,
}

impl Port {
    /// Takes a duplicate of the descriptor. A TAP with virtio headers is told which offloads it may use; what else can more is `declared`.
    pub fn open(
        id: PortId,
        name: String,
        fd: RawFd,
        allowed: &Allowed,
        declared: Option<Capabilities>,
    ) -> io::Result<Self> {
        let fd = sys::duplicate(fd)?;
        let can = match tap::has_virtio(&fd) {
            Some(true) => offload(&fd, allowed)?,
            Some(false) => Capabilities::default(),
            None => declared.unwrap_or_default().limited(allowed),
        };
        let (read, written, refused_until, gone) = Default::default();
        Ok(Self { id, name, fd, can, read, written, refused_until, gone })
    }

    /// The super-frames that it takes now.
    pub fn merges(&self, now: Nanos) -> Merges {
        if now < self.refused_until.load(Ordering::Relaxed) { Merges::default() } else { self.can.merges }
    }

    /// Reads one frame to `buffer[VIRTIO_BYTES..]`.
    pub fn read(&self, buffer: &mut [u8]) -> Read {
        let from = if self.can.virtio { 0 } else { VIRTIO_BYTES };
        match sys::read(&self.fd, &mut buffer[from..]) {
            Ok(length) => {
                self.read.fetch_add(1, Ordering::Relaxed);
                if !self.can.virtio || length == 0 {
                    return Read::Frame(length, Virtio::default());
                }
                let header = Virtio::parse_untrusted(&std::array::from_fn(|i| buffer[i]));
                match (length.checked_sub(VIRTIO_BYTES), header) {
                    (Some(length), Some(virtio)) => Read::Frame(length, virtio),
                    _ => Read::Malformed,
                }
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

    /// Writes one frame whose checksums are whole.
    pub fn write(&self, frame: &[u8]) -> Result<(), DropReason> {
        let virtio = Virtio::default().emit();
        self.write_merged(&Write { virtio, first: frame, payloads: &[], arena: &[] }).map(|_| ())
    }

    /// Writes a frame from another port, with what its virtio header said: as it is if this port takes that, else cut and completed.
    pub fn write_offloaded(&self, frame: &mut [u8], virtio: &Virtio) -> Result<(), DropReason> {
        let merges = self.merges(sys::now());
        let takes = match virtio.gso {
            // A single datagram is completed: some DHCP clients drop a partial one (DATAPATH).
            Gso::None => virtio.partial.is_none_or(|(_, offset)| self.can.partial && offset == TCP_CHECKSUM_OFFSET),
            Gso::Tcp4 | Gso::Tcp6 => merges.tcp,
            Gso::Udp => merges.udp,
        };
        if takes {
            let done = self.write_merged(&Write { virtio: virtio.emit(), first: frame, payloads: &[], arena: &[] })?;
            if done {
                return Ok(());
            }
        }
        match plan_untrusted(frame, virtio).ok_or(DropReason::BadOffload)? {
            Plan::Whole => self.write(frame),
            Plan::Partial(headers) => {
                checksum::complete(frame, &headers);
                self.write(frame)
            }
            Plan::Split(split) => {
                let mut segment = vec![0; split.frame_bytes()];
                for n in 0..split.count() {
                    let (end, headers) = split.emit(frame, n, &mut segment);
                    checksum::complete(&mut segment, &headers);
                    self.write(&segment[..end])?;
                }
                Ok(())
            }
        }
    }

    /// Writes what a coalescer made; false when it is a super-frame and the kernel takes none.
    pub fn write_merged(&self, write: &Write<'_>) -> Result<bool, DropReason> {
        if self.is_gone() {
            return Err(DropReason::PortGone);
        }
        let head = [IoSlice::new(&write.virtio), IoSlice::new(write.first)];
        let from = usize::from(!self.can.virtio);
        let written = if write.payloads.is_empty() {
            sys::write_pieces(&self.fd, &head[from..])
        } else {
            let mut pieces = [IoSlice::new(&[]); MAX_PIECES];
            pieces[..2].copy_from_slice(&head);
            for (piece, payload) in pieces[2..].iter_mut().zip(write.payloads) {
                *piece = IoSlice::new(&write.arena[payload.clone()]);
            }
            sys::write_pieces(&self.fd, &pieces[from..2 + write.payloads.len()])
        };
        match written {
            Ok(_) => {
                self.written.fetch_add(1, Ordering::Relaxed);
                Ok(true)
            }
            Err(error) => match error.raw_os_error() {
                Some(libc::EINVAL) if write.virtio[1] != 0 => {
                    self.refused_until.store(sys::now() + REFUSED_NS, Ordering::Relaxed);
                    Ok(false)
                }
                Some(libc::EAGAIN | libc::ENOBUFS | libc::ENOMEM) => Err(DropReason::PortFull),
                Some(libc::EIO | libc::ENETDOWN | libc::EINTR) => Err(DropReason::PortDown),
                Some(libc::EINVAL | libc::EMSGSIZE) => Err(DropReason::TooLarge),
                _ => Err(DropReason::PortGone),
            },
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

    /// The offloads in use, for people.
    pub fn offloads(&self) -> Vec<&'static str> {
        let merges = self.merges(sys::now());
        let all = [(self.can.partial, "checksum"), (merges.tcp, "tso"), (merges.udp, "uso")];
        all.into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
    }
}

/// Tells a TAP which offloads to use: as many as are allowed and as its kernel knows.
fn offload(fd: &OwnedFd, allowed: &Allowed) -> io::Result<Capabilities> {
    tap::set_virtio_bytes(fd, VIRTIO_BYTES)?;
    let wanted = Merges { tcp: allowed.checksum && allowed.tso, udp: allowed.checksum && allowed.uso };
    let tries = [
        (allowed.checksum, wanted),
        (allowed.checksum, Merges { udp: false, ..wanted }), // no USO before Linux 6.2
        (allowed.checksum, Merges::default()),
        (false, Merges::default()),
    ];
    for (partial, merges) in tries {
        let mask = [(partial, tap::TUN_F_CSUM), (merges.tcp, tap::TUN_F_TSO), (merges.udp, tap::TUN_F_USO)];
        let mask = mask.into_iter().map(|(on, bit)| if on { bit } else { 0 }).sum();
        if tap::set_offloads(fd, mask).is_ok() {
            let merges = if allowed.coalesce { merges } else { Merges::default() };
            return Ok(Capabilities { virtio: true, partial, merges });
        }
    }
    Ok(Capabilities { virtio: true, ..Capabilities::default() })
}
