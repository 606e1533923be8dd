//! A view of an Ethernet frame without FCS.
//!
//! ```text
//!     0     6     12       14
//!     ├ dst ┼ src ┼ type 2 ┼ payload …
//!     with an 802.1Q tag: 12: 81 00, 14: priority 3 bits, DEI 1, VID 12, 16: type
//! ```

/// Bytes of an Ethernet header without tags.
pub const HEADER_BYTES: usize = 14;
/// EtherType of an 802.1Q tag (IEEE 802.1Q-2022, table 9-1).
const TYPE_VLAN_TAG: [u8; 2] = [0x81, 0x00];

/// A MAC address.
pub type Mac = [u8; 6];

/// Whether a MAC addresses a group: bit 0 of its first byte.
pub fn is_group(mac: &Mac) -> bool {
    mac[0] & 1 != 0
}

/// Whether a MAC is one that bridges keep to themselves: 01:80:c2:00:00:00 to 0f (IEEE 802.1Q-2022, table 8-1).
pub fn is_for_bridges(mac: &Mac) -> bool {
    mac[..5] == [0x01, 0x80, 0xc2, 0, 0] && mac[5] < 0x10
}

/// An Ethernet frame of at least 14 bytes.
#[derive(Clone, Copy)]
pub struct Frame<'a>(&'a [u8]);

impl<'a> Frame<'a> {
    /// The view, or None for a runt.
    pub fn parse_untrusted(bytes: &'a [u8]) -> Option<Self> {
        (bytes.len() >= HEADER_BYTES).then_some(Self(bytes))
    }

    /// Destination MAC.
    pub fn dst(&self) -> Mac {
        self.mac_at(0)
    }

    /// Source MAC.
    pub fn src(&self) -> Mac {
        self.mac_at(6)
    }

    /// The 802.1Q VLAN, or None for an untagged frame. VID 0 is a priority tag: it counts as untagged.
    pub fn vid(&self) -> Option<u16> {
        if self.0.get(12..14)? != TYPE_VLAN_TAG {
            return None;
        }
        let tag: [u8; 2] = self.0.get(14..16)?.try_into().ok()?;
        match u16::from_be_bytes(tag) & 0x0fff {
            0 => None,
            vid => Some(vid),
        }
    }

    fn mac_at(&self, at: usize) -> Mac {
        std::array::from_fn(|i| self.0[at + i])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(tail: &[u8]) -> Vec<u8> {
        let mut bytes = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        bytes.extend_from_slice(tail);
        bytes
    }

    #[test]
    fn untagged_frame_has_no_vid() {
        assert_eq!(Frame::parse_untrusted(&frame(&[8, 0, 1])).unwrap().vid(), None);
    }

    #[test]
    fn tagged_frame_has_its_vid_without_priority_bits() {
        let bytes = frame(&[0x81, 0, 0xef, 0xfe, 8, 0]);
        assert_eq!(Frame::parse_untrusted(&bytes).unwrap().vid(), Some(0x0ffe));
    }

    #[test]
    fn priority_tag_with_vid_zero_counts_as_untagged() {
        let bytes = frame(&[0x81, 0, 0xe0, 0x00, 8, 0]);
        assert_eq!(Frame::parse_untrusted(&bytes).unwrap().vid(), None);
    }

    #[test]
    fn a_tag_cut_short_counts_as_untagged() {
        assert_eq!(Frame::parse_untrusted(&frame(&[0x81, 0, 1])).unwrap().vid(), None);
    }

    #[test]
    fn runts_are_refused() {
        assert!(Frame::parse_untrusted(&[0; 13]).is_none());
    }
}
