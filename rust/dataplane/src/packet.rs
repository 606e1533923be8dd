//! The packet on a trunk (SPEC 2.1) and the probe (SPEC 2.2).
//!
//! ```text
//!     0         4                   12                                          30        46          62
//!     ├ index 4 ┼ type 1, counter 7 ┼ label 4, hop limit 1, flags 1, kid 4, ctr 8 ┼ hop tag ┼ inner tag ┼ ciphertext …
//!     └───────── clear ────────────┘└───────────── sealed for this hop ──────────┘
//!
//!     ├ index 4 ┼ type 1, counter 7 ┼ sealed payload ┼ tag 16 ┤      a probe
//! ```

use crate::aead::{NONCE_BYTES, TAG_BYTES};
use crate::drops::DropReason;
use crate::keys::{HopReceiveKey, HopSendKey};
use crate::udp::Address;

/// Bytes of the clear part.
pub const CLEAR_BYTES: usize = 12;
/// Where the hop tag starts.
pub const HOP_TAG_AT: usize = 30;
/// Where the inner tag starts; what a relay rewrites ends here.
pub const INNER_TAG_AT: usize = 46;
/// Where the ciphertext (in an INTRO: the sid) starts.
pub const BODY_AT: usize = 62;
/// The smallest frame packet: the ciphertext has at least two bytes.
pub const MIN_FRAME_PACKET_BYTES: usize = BODY_AT + 2;
/// The largest UDP payload over IPv4 (RFC 768, RFC 791); the stream carrier takes no more either.
pub const MAX_PACKET_BYTES: usize = 65_507;
/// Hop limit of a packet at its sender (SPEC 2.1).
pub const HOP_LIMIT: u8 = 32;
/// Flag: the body is an introduction, sid 16 ‖ ciphertext (SPEC 2.1).
pub const FLAG_INTRO: u8 = 1;
/// The smallest INTRO: sid and at least one byte of ciphertext.
pub const MIN_INTRO_BYTES: usize = BODY_AT + 16 + 1;

/// Bytes of a probe packet: clear part, id 8, tag.
pub const PROBE_BYTES: usize = CLEAR_BYTES + 8 + TAG_BYTES;
/// Bytes of a reply packet: clear part, id 8, address 16, port 2, tag.
pub const PROBE_REPLY_BYTES: usize = CLEAR_BYTES + 26 + TAG_BYTES;

/// The type byte (SPEC 2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum PacketType {
    /// A frame or an introduction.
    Frame = 0,
    /// Asks for a reply.
    Probe = 1,
    /// Answers a probe.
    ProbeReply = 2,
}

/// The part that is sealed for one hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HopFields {
    /// What the packet's path is; section 6.
    pub label: u32,
    /// Nodes that may still forward.
    pub hop_limit: u8,
    /// Bit 0 INTRO, others zero.
    pub flags: u8,
    /// kid ‖ ctr: the nonce of the inner AEAD.
    pub nonce: [u8; NONCE_BYTES],
}

impl HopFields {
    /// The frame key's name.
    pub fn kid(&self) -> [u8; 4] {
        std::array::from_fn(|i| self.nonce[i])
    }

    /// The frame's counter.
    pub fn counter(&self) -> u64 {
        u64::from_be_bytes(std::array::from_fn(|i| self.nonce[4 + i]))
    }

    fn emit(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.label.to_be_bytes());
        out[4] = self.hop_limit;
        out[5] = self.flags;
        out[6..18].copy_from_slice(&self.nonce);
    }

    fn parse(bytes: &[u8]) -> Self {
        Self {
            label: u32::from_be_bytes(std::array::from_fn(|i| bytes[i])),
            hop_limit: bytes[4],
            flags: bytes[5],
            nonce: std::array::from_fn(|i| bytes[6 + i]),
        }
    }
}

/// The receiver's index of a packet that is at least `CLEAR_BYTES` long.
pub fn index_untrusted(packet: &[u8]) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| packet[i]))
}

/// The type of a packet that is at least `CLEAR_BYTES` long.
pub fn type_untrusted(packet: &[u8]) -> Option<PacketType> {
    match packet[4] {
        0 => Some(PacketType::Frame),
        1 => Some(PacketType::Probe),
        2 => Some(PacketType::ProbeReply),
        _ => None,
    }
}

/// Writes and seals the 46 bytes in front of the inner tag; everything after them is ready and stays untouched.
pub fn seal_hop(packet: &mut [u8], key: &HopSendKey, fields: &HopFields) -> Result<(), DropReason> {
    let length = packet.len();
    seal_head(packet, length, key, fields)
}

/// The same with only the head of the packet at hand, inner tag included.
pub fn seal_head(head: &mut [u8], length: usize, key: &HopSendKey, fields: &HopFields) -> Result<(), DropReason> {
    let counter = key.take_counter()?;
    write_clear(head, key.index(), PacketType::Frame, counter);
    fields.emit(&mut head[CLEAR_BYTES..HOP_TAG_AT]);
    let (nonce, aad) = (hop_nonce(head), hop_aad(head, length));
    let tag = key.aead().seal(&nonce, &aad, &mut head[CLEAR_BYTES..HOP_TAG_AT]);
    head[HOP_TAG_AT..INNER_TAG_AT].copy_from_slice(&tag);
    Ok(())
}

/// Opens the hop part in place; the packet is at least `MIN_FRAME_PACKET_BYTES` long. Returns the hop counter and the fields.
pub fn open_hop_untrusted(packet: &mut [u8], key: &HopReceiveKey) -> Option<(u64, HopFields)> {
    let (nonce, aad) = (hop_nonce(packet), hop_aad(packet, packet.len()));
    let open = key.aead().open_in_place(&nonce, &aad, &mut packet[CLEAR_BYTES..INNER_TAG_AT]);
    open.then(|| (counter_of(packet), HopFields::parse(&packet[CLEAR_BYTES..HOP_TAG_AT])))
}

/// A sealed probe.
pub fn seal_probe(key: &HopSendKey, id: &[u8; 8]) -> Result<Vec<u8>, DropReason> {
    seal_short(key, PacketType::Probe, id)
}

/// A sealed reply that says from which address the probe came.
pub fn seal_probe_reply(key: &HopSendKey, id: &[u8; 8], from: &Address) -> Result<Vec<u8>, DropReason> {
    let mut payload = [0; 26];
    payload[..8].copy_from_slice(id);
    payload[8..24].copy_from_slice(&from.ip);
    payload[24..].copy_from_slice(&from.port.to_be_bytes());
    seal_short(key, PacketType::ProbeReply, &payload)
}

/// Opens a probe or reply of the right size in place. Returns the hop counter and the id.
pub fn open_probe_untrusted(packet: &mut [u8], key: &HopReceiveKey) -> Option<(u64, [u8; 8])> {
    let nonce = hop_nonce(packet);
    let (clear, sealed) = packet.split_at_mut(CLEAR_BYTES);
    let open = key.aead().open_in_place(&nonce, clear, sealed);
    open.then(|| (counter_of(packet), std::array::from_fn(|i| packet[CLEAR_BYTES + i])))
}

fn seal_short(key: &HopSendKey, kind: PacketType, payload: &[u8]) -> Result<Vec<u8>, DropReason> {
    let counter = key.take_counter()?;
    let mut packet = vec![0; CLEAR_BYTES];
    write_clear(&mut packet, key.index(), kind, counter);
    packet.extend_from_slice(payload);
    let nonce = hop_nonce(&packet);
    let (clear, sealed) = packet.split_at_mut(CLEAR_BYTES);
    let tag = key.aead().seal(&nonce, clear, sealed);
    packet.extend_from_slice(&tag);
    Ok(packet)
}

/// A counter has 7 bytes on the wire; a key stops far below.
fn write_clear(packet: &mut [u8], index: u32, kind: PacketType, counter: u64) {
    packet[..4].copy_from_slice(&index.to_be_bytes());
    packet[4..12].copy_from_slice(&counter.to_be_bytes());
    packet[4] = kind as u8;
}

/// 00 00 00 00 ‖ type ‖ counter.
fn hop_nonce(packet: &[u8]) -> [u8; NONCE_BYTES] {
    let mut nonce = [0; NONCE_BYTES];
    nonce[4..].copy_from_slice(&packet[4..12]);
    nonce
}

fn counter_of(packet: &[u8]) -> u64 {
    let bytes: [u8; 8] = std::array::from_fn(|i| packet[4 + i]);
    u64::from_be_bytes(bytes) & ((1 << 56) - 1)
}

/// The clear bytes ‖ length of all after offset 62 ‖ inner tag.
fn hop_aad(head: &[u8], length: usize) -> [u8; CLEAR_BYTES + 2 + TAG_BYTES] {
    let mut aad = [0; CLEAR_BYTES + 2 + TAG_BYTES];
    let length = (length - BODY_AT) as u16; // packets are at most 65,507 bytes
    aad[..12].copy_from_slice(&head[..12]);
    aad[12..14].copy_from_slice(&length.to_be_bytes());
    aad[14..].copy_from_slice(&head[INNER_TAG_AT..BODY_AT]);
    aad
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aead::Aead;
    use proptest::prelude::*;

    fn keys() -> (HopSendKey, HopReceiveKey) {
        (HopSendKey::new(9, &[3; 32], Aead::Aes256Gcm), HopReceiveKey::new(9, &[3; 32], Aead::Aes256Gcm))
    }

    proptest! {
        #[test]
        fn open_gives_back_what_seal_was_given(
            label: u32, hop_limit: u8, flags: u8, nonce: [u8; 12], body in prop::collection::vec(any::<u8>(), 2..200))
        {
            let (send, receive) = keys();
            let fields = HopFields { label, hop_limit, flags, nonce };
            let mut packet = vec![0; BODY_AT];
            packet.extend(&body);
            seal_hop(&mut packet, &send, &fields).unwrap();
            prop_assert_eq!(index_untrusted(&packet), 9);
            prop_assert_eq!(open_hop_untrusted(&mut packet, &receive), Some((0, fields)));
            prop_assert_eq!(&packet[BODY_AT..], &body[..]);
        }

        #[test]
        fn a_changed_header_inner_tag_or_length_does_not_open(at in 0usize..BODY_AT, flip in 1u8..=255) {
            let (send, receive) = keys();
            let fields = HopFields { label: 1, hop_limit: 2, flags: 0, nonce: [4; 12] };
            let mut packet = vec![0; 80];
            seal_hop(&mut packet, &send, &fields).unwrap();
            let mut longer = packet.clone();
            longer.push(0);
            prop_assert!(open_hop_untrusted(&mut longer, &receive).is_none());
            packet[at] ^= flip;
            prop_assert!(open_hop_untrusted(&mut packet, &receive).is_none());
        }
    }

    #[test]
    fn probe_and_reply_open_with_their_id() {
        let (send, receive) = keys();
        let mut probe = seal_probe(&send, &[5; 8]).unwrap();
        assert_eq!(probe.len(), PROBE_BYTES);
        assert_eq!(open_probe_untrusted(&mut probe, &receive), Some((0, [5; 8])));
        let from = Address::parse("192.0.2.1", 7).unwrap();
        let mut reply = seal_probe_reply(&send, &[6; 8], &from).unwrap();
        assert_eq!(reply.len(), PROBE_REPLY_BYTES);
        assert_eq!(open_probe_untrusted(&mut reply, &receive), Some((1, [6; 8])));
        assert_eq!(&reply[20..38], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 192, 0, 2, 1, 0, 7]);
    }
}
