//! Segmentation offload in user space: what a TAP with a virtio header gives and takes (DATAPATH).
//!
//! ```text
//!     read:   one super-frame + gso_size ──> segment ──> frames of one MTU, each sealed alone
//!     write:  frames of one flow         ──> coalesce ─> one super-frame + gso_size
//! ```
//!
//! Pure: bytes in, bytes out. Checksums of TCP and UDP stay partial between the two (SPEC 2.3, content type 5).

pub mod checksum;
pub mod coalesce;
pub mod headers;
pub mod segment;

/// Bytes of a virtio_net_hdr without `num_buffers` (Virtio 1.2, 5.1.6), as TUNSETVNETHDRSZ is told.
pub const VIRTIO_BYTES: usize = 10;
/// The checksum field holds the pseudo-header sum only.
const NEEDS_CSUM: u8 = 1;
/// Set beside the kind when a super-frame's first segment carries CWR (RFC 3168).
const GSO_ECN: u8 = 0x80;

/// Which offloads may be used; what the kernel refuses is not used either.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// TAP: checksums of TCP and UDP may be partial. The next three need it.
    pub checksum: bool,
    /// TAP: TCP super-frames.
    pub tso: bool,
    /// TAP: UDP super-frames.
    pub uso: bool,
    /// TAP: frames are merged before they are written.
    pub coalesce: bool,
    /// UDP: trains of datagrams in one send.
    pub gso: bool,
    /// UDP: trains of datagrams in one receive.
    pub gro: bool,
    /// UDP: several messages by one system call.
    pub mmsg: bool,
}

impl Allowed {
    /// Their names, in the order of the fields.
    pub const NAMES: [&'static str; 7] = ["checksum", "tso", "uso", "coalesce", "gso", "gro", "mmsg"];

    /// All but those named; None when a name is none of them.
    pub fn all_but<'a>(names: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let mut allowed = Self::default();
        for name in names {
            *allowed.field(name)? = false;
        }
        Some(allowed)
    }

    fn field(&mut self, name: &str) -> Option<&mut bool> {
        Some(match name {
            "checksum" => &mut self.checksum,
            "tso" => &mut self.tso,
            "uso" => &mut self.uso,
            "coalesce" => &mut self.coalesce,
            "gso" => &mut self.gso,
            "gro" => &mut self.gro,
            "mmsg" => &mut self.mmsg,
            _ => return None,
        })
    }
}

impl Default for Allowed {
    fn default() -> Self {
        Self { checksum: true, tso: true, uso: true, coalesce: true, gso: true, gro: true, mmsg: true }
    }
}

/// What a super-frame is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gso {
    /// A single frame.
    #[default]
    None,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// UDP datagrams over either.
    Udp,
}

/// What the virtio header says, in host byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Virtio {
    /// Offset of the partial checksum: summed from `.0`, written at `.0 + .1`.
    pub partial: Option<(u16, u16)>,
    /// The kind of super-frame.
    pub gso: Gso,
    /// Payload bytes of a segment.
    pub gso_size: u16,
    /// Length of all headers; a hint.
    pub header_bytes: u16,
}

impl Virtio {
    /// Reads a header; None for a kind that was not asked for.
    pub fn parse_untrusted(bytes: &[u8; VIRTIO_BYTES]) -> Option<Self> {
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        let gso = match bytes[1] & !GSO_ECN {
            0 => Gso::None,
            1 => Gso::Tcp4,
            4 => Gso::Tcp6,
            5 => Gso::Udp,
            _ => return None,
        };
        let partial = (bytes[0] & NEEDS_CSUM != 0).then(|| (word(6), word(8)));
        Some(Self { partial, gso, gso_size: word(4), header_bytes: word(2) })
    }

    /// The bytes in front of a frame.
    pub fn emit(&self) -> [u8; VIRTIO_BYTES] {
        let mut bytes = [0; VIRTIO_BYTES];
        bytes[1] = match self.gso {
            Gso::None => 0,
            Gso::Tcp4 => 1,
            Gso::Tcp6 => 4,
            Gso::Udp => 5,
        };
        let (start, offset) = self.partial.unwrap_or_default();
        bytes[0] = u8::from(self.partial.is_some()) * NEEDS_CSUM;
        for (at, word) in [(2, self.header_bytes), (4, self.gso_size), (6, start), (8, offset)] {
            bytes[at..at + 2].copy_from_slice(&word.to_ne_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_and_others_are_not() {
        for name in Allowed::NAMES {
            assert_ne!(Allowed::all_but([name]), Some(Allowed::default()));
        }
        assert_eq!(Allowed::all_but(["lro"]), None);
    }

    #[test]
    fn a_header_survives_and_ecn_is_no_kind_of_its_own() {
        let header = Virtio { partial: Some((34, 16)), gso: Gso::Tcp6, gso_size: 1318, header_bytes: 66 };
        let mut bytes = header.emit();
        assert_eq!(Virtio::parse_untrusted(&bytes), Some(header));
        bytes[1] |= GSO_ECN;
        assert_eq!(Virtio::parse_untrusted(&bytes), Some(header));
        bytes[1] = 3; // UFO, which nobody asked for
        assert_eq!(Virtio::parse_untrusted(&bytes), None);
        assert_eq!(Virtio::parse_untrusted(&[0; VIRTIO_BYTES]), Some(Virtio::default()));
    }
}
