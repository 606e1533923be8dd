//! Fragments: id 4 ‖ offset 4 ‖ total 4 ‖ bytes (SPEC 2.3).

use std::collections::HashMap;

use crate::drops::DropReason;
use crate::seal::ContentType;
use crate::{MemberId, Nanos};

/// Bytes in front of a fragment's content.
pub const FRAGMENT_HEADER_BYTES: usize = 12;
/// The largest message (SPEC 2.3).
pub const MAX_MESSAGE_BYTES: usize = 65_535;
/// Fragments of one message (SPEC 2.3).
pub const MAX_FRAGMENTS: usize = 64;
/// How long a message may take to become whole (SPEC 2.3).
pub const REASSEMBLY_NS: Nanos = 2_000_000_000;
/// Messages at a time per VLAN (SPEC 2.3).
pub const MAX_PER_VLAN: usize = 64;
/// Messages at a time per sender (SPEC 2.3).
pub const MAX_PER_SENDER: usize = 8;

/// One fragment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragment<'a> {
    /// Names the message within its key.
    pub id: u32,
    /// Where the bytes belong.
    pub offset: u32,
    /// Length of the message.
    pub total: u32,
    /// The bytes.
    pub bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    /// Writes the header.
    pub fn emit_header(&self, out: &mut [u8]) {
        out[..4].copy_from_slice(&self.id.to_be_bytes());
        out[4..8].copy_from_slice(&self.offset.to_be_bytes());
        out[8..12].copy_from_slice(&self.total.to_be_bytes());
    }

    /// A fragment whose bytes lie within its message, or None.
    pub fn parse_untrusted(content: &'a [u8]) -> Option<Self> {
        let (head, bytes) = content.split_at_checked(FRAGMENT_HEADER_BYTES)?;
        let word = |at: usize| u32::from_be_bytes(std::array::from_fn(|i| head[at + i]));
        let fragment = Self { id: word(0), offset: word(4), total: word(8), bytes };
        let end = u64::from(fragment.offset) + bytes.len() as u64;
        let inside = fragment.total as usize <= MAX_MESSAGE_BYTES && end <= u64::from(fragment.total);
        (inside && !bytes.is_empty()).then_some(fragment)
    }
}

/// Cuts a message into pieces of at most `piece_bytes`; None when it would take more than 64.
pub fn split(message: &[u8], id: u32, piece_bytes: usize) -> Option<impl Iterator<Item = Fragment<'_>>> {
    let fits =
        message.len() <= MAX_MESSAGE_BYTES && piece_bytes > 0 && message.len().div_ceil(piece_bytes) <= MAX_FRAGMENTS;
    let total = message.len() as u32;
    fits.then(|| {
        message.chunks(piece_bytes).enumerate().map(move |(n, bytes)| Fragment {
            id,
            offset: (n * piece_bytes) as u32,
            total,
            bytes,
        })
    })
}

/// What makes fragments belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey {
    /// Who sent it.
    pub member: MemberId,
    /// Under which key.
    pub kid: [u8; 4],
    /// As what.
    pub content_type: ContentType,
    /// Its name.
    pub id: u32,
}

struct Partial {
    since: Nanos,
    total: u32,
    have: usize,
    pieces: Vec<(u32, Vec<u8>)>, // sorted by offset, disjoint
}

/// The messages of one VLAN that are not whole yet.
///
/// At a sender's 8 its oldest goes. At the VLAN's 64 the sender's oldest goes, or the fragment if it has none.
#[derive(Default)]
pub struct Reassembler {
    partial: HashMap<MessageKey, Partial>,
}

impl Reassembler {
    /// Adds a fragment; the message if it is whole now. Losses are reported to `lost`.
    pub fn add(
        &mut self,
        key: MessageKey,
        fragment: &Fragment<'_>,
        now: Nanos,
        mut lost: impl FnMut(DropReason),
    ) -> Option<Vec<u8>> {
        self.expire(now, &mut lost);
        if !self.partial.contains_key(&key) && !self.make_room(key.member, &mut lost) {
            lost(DropReason::FragmentEvicted);
            return None;
        }
        let partial = self.partial.entry(key).or_insert_with(|| Partial {
            since: now,
            total: fragment.total,
            have: 0,
            pieces: Vec::new(),
        });
        if !partial.insert(fragment) {
            lost(DropReason::FragmentInvalid);
            return None;
        }
        if partial.have < partial.total as usize {
            return None;
        }
        let whole = self.partial.remove(&key)?;
        Some(whole.pieces.into_iter().flat_map(|(_, bytes)| bytes).collect())
    }

    /// Forgets messages of members that are no longer there.
    pub fn retain(&mut self, mut keep: impl FnMut(MemberId) -> bool) {
        self.partial.retain(|key, _| keep(key.member));
    }

    fn expire(&mut self, now: Nanos, mut lost: impl FnMut(DropReason)) {
        self.partial.retain(|_, partial| {
            let keep = now < partial.since + REASSEMBLY_NS;
            if !keep {
                lost(DropReason::FragmentExpired);
            }
            keep
        });
    }

    fn make_room(&mut self, member: MemberId, mut lost: impl FnMut(DropReason)) -> bool {
        let own = self.partial.iter().filter(|(key, _)| key.member == member);
        if own.clone().count() < MAX_PER_SENDER && self.partial.len() < MAX_PER_VLAN {
            return true;
        }
        let oldest = own.min_by_key(|(_, partial)| partial.since).map(|(key, _)| *key);
        let Some(oldest) = oldest else { return false };
        self.partial.remove(&oldest);
        lost(DropReason::FragmentEvicted);
        true
    }
}

impl Partial {
    fn insert(&mut self, fragment: &Fragment<'_>) -> bool {
        let at = self.pieces.partition_point(|(offset, _)| *offset < fragment.offset);
        let end = fragment.offset + fragment.bytes.len() as u32;
        let clear_before = at == 0 || {
            let (offset, bytes) = &self.pieces[at - 1];
            offset + bytes.len() as u32 <= fragment.offset
        };
        let clear_after = self.pieces.get(at).is_none_or(|(offset, _)| end <= *offset);
        let consistent = fragment.total == self.total && self.pieces.len() < MAX_FRAGMENTS;
        if !(consistent && clear_before && clear_after) {
            return false;
        }
        self.pieces.insert(at, (fragment.offset, fragment.bytes.to_vec()));
        self.have += fragment.bytes.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(member: MemberId, id: u32) -> MessageKey {
        MessageKey { member, kid: [0; 4], content_type: ContentType::FrameFragment, id }
    }

    proptest! {
        #[test]
        fn a_message_split_and_shuffled_becomes_whole(
            message in prop::collection::vec(any::<u8>(), 1..5000), piece in 80usize..2000, order: u64)
        {
            let mut pieces: Vec<_> = split(&message, 7, piece).unwrap().collect();
            let n = pieces.len();
            for i in 0..n { pieces.swap(i, (order as usize).wrapping_mul(i + 1) % n); }
            let mut reassembler = Reassembler::default();
            let mut whole = None;
            for fragment in pieces {
                let mut header = [0; FRAGMENT_HEADER_BYTES];
                fragment.emit_header(&mut header);
                let content = [&header[..], fragment.bytes].concat();
                prop_assert_eq!(Fragment::parse_untrusted(&content), Some(fragment));
                prop_assert!(whole.is_none());
                whole = reassembler.add(key(1, 7), &fragment, 0, |_| panic!("nothing is lost"));
            }
            prop_assert_eq!(whole, Some(message));
            prop_assert!(reassembler.partial.is_empty());
        }

        #[test]
        fn any_fragments_stay_within_the_bounds(
            steps in prop::collection::vec((0u32..12, 0u32..30, 0u32..70_000, 0u32..70_000, 0usize..40, 0u64..300), 0..300))
        {
            let (mut reassembler, mut now) = (Reassembler::default(), 0);
            for (member, id, offset, total, length, later) in steps {
                now += later * 1_000_000;
                let bytes = vec![0; length];
                let mut content = [0; FRAGMENT_HEADER_BYTES].to_vec();
                Fragment { id, offset, total, bytes: &[] }.emit_header(&mut content);
                content.extend(bytes);
                let fragment = Fragment::parse_untrusted(&content);
                let whole = fragment.and_then(|f| reassembler.add(key(member, id), &f, now, |_| ()));
                prop_assert!(whole.is_none_or(|w| w.len() == total as usize));
                prop_assert!(reassembler.partial.len() <= MAX_PER_VLAN);
                for m in 0..12 {
                    prop_assert!(reassembler.partial.keys().filter(|k| k.member == m).count() <= MAX_PER_SENDER);
                }
            }
        }
    }

    #[test]
    fn repeats_overlaps_and_contradictions_are_refused() {
        let mut reassembler = Reassembler::default();
        let mut add = |offset, total, bytes: &[u8]| {
            let mut lost = 0;
            reassembler.add(key(1, 1), &Fragment { id: 1, offset, total, bytes }, 0, |_| lost += 1);
            lost
        };
        assert_eq!(add(10, 100, &[0; 10]), 0);
        assert_eq!(add(10, 100, &[0; 10]), 1);
        assert_eq!(add(15, 100, &[0; 10]), 1);
        assert_eq!(add(5, 100, &[0; 6]), 1);
        assert_eq!(add(20, 99, &[0; 10]), 1);
        assert_eq!(add(20, 100, &[0; 10]), 0);
    }

    #[test]
    fn a_message_of_65_fragments_is_not_split() {
        assert!(split(&[0; 6401], 1, 100).is_none());
        assert_eq!(split(&[0; 6400], 1, 100).unwrap().count(), 64);
        assert!(split(&vec![0; 65_536], 1, 2000).is_none());
    }

    #[test]
    fn a_message_lives_two_seconds() {
        let mut reassembler = Reassembler::default();
        let fragment = |offset| Fragment { id: 1, offset, total: 2, bytes: &[0] };
        assert!(reassembler.add(key(1, 1), &fragment(0), 0, |_| ()).is_none());
        let mut lost = Vec::new();
        assert!(reassembler.add(key(1, 1), &fragment(1), REASSEMBLY_NS, |r| lost.push(r)).is_none());
        assert_eq!(lost, [DropReason::FragmentExpired]);
    }
}
