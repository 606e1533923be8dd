//! Loop probes: how members that bridge the same LAN notice each other, and one its own loop (SPEC 14.2).
//!
//! ```text
//!     ├ ff:ff:ff:ff:ff:ff ┼ src 6 ┼ 88b6 ┼ "PTLP" ┼ version 1 ┼ forwards 1 ┼ handle 8 ┼ run 8 ┼ number 8 ┼ MAC 16 ┤
//! ```
//!
//! The MAC is keyed by the VLAN's routing secret: others on the LAN see an experimental frame and can forge none.

use aws_lc_rs::constant_time::verify_slices_are_equal;

use crate::frame::{HEADER_BYTES, Mac};
use crate::kdf::{Secret, expand};

/// IEEE 802 local experimental EtherType 2 (IEEE 802-2014, table 4).
pub const ETHER_TYPE: [u8; 2] = [0x88, 0xb6];
/// Bytes of a probe; Ethernet's least is 60.
pub const PROBE_BYTES: usize = 60;
/// Probes that are checked at a port in a second (ours: each costs an HMAC; of two members in a hurry and two secrets 80).
pub const MAX_CHECKS_PER_S: u32 = 128;
/// A probe of our own counts while so few were sent after it (ours: an older one is a recording).
pub const OWN_IS_RECENT: u64 = 3;

const MAGIC: &[u8; 4] = b"PTLP";
const VERSION: u8 = 1;
const BODY_AT: usize = HEADER_BYTES;
const MAC_AT: usize = BODY_AT + 4 + 1 + 1 + 8 + 8 + 8;
const MAC_BYTES: usize = 16;

/// What probes are made and recognised with.
pub struct ProbeKey(Secret);

impl ProbeKey {
    /// From X(routing secret, "loop probe", VLAN-ID).
    pub fn new(secret: Secret) -> Self {
        Self(secret)
    }

    fn mac(&self, body: &[u8]) -> [u8; MAC_BYTES] {
        let tag = expand(&self.0[..], "probe mac", &[body]);
        std::array::from_fn(|i| tag[i])
    }
}

/// What a probe says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Whether its sender passes frames between LAN and overlay.
    pub forwards: bool,
    /// Who sent it: the lowest forwards.
    pub handle: [u8; 8],
    /// Random for each opening of its port.
    pub run: [u8; 8],
    /// Counts up in a run.
    pub number: u64,
}

/// Whether a frame may be a probe; anything else costs no more than this look.
pub fn may_be_probe(frame: &[u8]) -> bool {
    frame.get(12..14) == Some(&ETHER_TYPE[..])
}

impl Probe {
    /// The frame.
    pub fn emit(&self, key: &ProbeKey) -> [u8; PROBE_BYTES] {
        let mut frame = [0; PROBE_BYTES];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&source(&self.handle));
        frame[12..14].copy_from_slice(&ETHER_TYPE);
        frame[14..18].copy_from_slice(MAGIC);
        (frame[18], frame[19]) = (VERSION, u8::from(self.forwards));
        frame[20..28].copy_from_slice(&self.handle);
        frame[28..36].copy_from_slice(&self.run);
        frame[36..44].copy_from_slice(&self.number.to_be_bytes());
        let mac = key.mac(&frame[BODY_AT..MAC_AT]);
        frame[MAC_AT..].copy_from_slice(&mac);
        frame
    }

    /// The probe in a frame; None where it is none of a member's.
    pub fn parse_untrusted<'k>(frame: &[u8], keys: impl IntoIterator<Item = &'k ProbeKey>) -> Option<Self> {
        let body = frame.get(BODY_AT..MAC_AT)?;
        let mac = frame.get(MAC_AT..MAC_AT + MAC_BYTES)?;
        if !may_be_probe(frame) || &body[..4] != MAGIC || body[4] != VERSION || body[5] > 1 {
            return None;
        }
        keys.into_iter().find(|key| verify_slices_are_equal(&key.mac(body), mac).is_ok())?;
        let eight = |at: usize| std::array::from_fn(|i| body[at + i]);
        let number = u64::from_be_bytes(eight(22));
        Some(Self { forwards: body[5] == 1, handle: eight(6), run: eight(14), number })
    }
}

/// A source of its own, so that no switch believes a host or a virtual MAC to be where the probe comes from.
fn source(handle: &[u8; 8]) -> Mac {
    let mut mac: Mac = std::array::from_fn(|i| handle[i]);
    mac[0] = mac[0] & 0xfc | 0x02;
    mac
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::is_group;

    fn key(n: u8) -> ProbeKey {
        ProbeKey::new(Secret::new([n; 32]))
    }

    const PROBE: Probe = Probe { forwards: true, handle: [0xff; 8], run: [2; 8], number: 3 };

    #[test]
    fn a_probe_is_recognised_under_any_live_key_and_by_nobody_else() {
        let frame = PROBE.emit(&key(1));
        assert_eq!(Probe::parse_untrusted(&frame, &[key(2), key(1)]), Some(PROBE));
        assert_eq!(Probe::parse_untrusted(&frame, &[key(2)]), None);
        let quiet = Probe { forwards: false, number: u64::MAX, ..PROBE };
        assert_eq!(Probe::parse_untrusted(&quiet.emit(&key(1)), &[key(1)]), Some(quiet));
        let src: Mac = std::array::from_fn(|i| frame[6 + i]);
        assert!(!is_group(&src) && src[0] & 2 != 0);
    }

    #[test]
    fn no_byte_of_a_probe_can_be_changed_or_cut() {
        let frame = PROBE.emit(&key(1));
        for at in 12..PROBE_BYTES {
            let mut wrong = frame;
            wrong[at] ^= 1;
            assert_eq!(Probe::parse_untrusted(&wrong, &[key(1)]), None, "byte {at}");
            assert_eq!(Probe::parse_untrusted(&frame[..at], &[key(1)]), None);
        }
        let padded = [&frame[..], &[0; 4]].concat();
        assert_eq!(Probe::parse_untrusted(&padded, &[key(1)]), Some(PROBE));
    }
}
