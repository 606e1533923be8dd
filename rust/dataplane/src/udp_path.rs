//! Trains of datagrams on one trunk's path: how they are cut, and what to do when the system refuses one (DATAPATH).

use std::ops::Range;
use std::sync::atomic::{AtomicU8, AtomicU16, Ordering};

/// Datagrams in one send (the kernel's UDP_MAX_SEGMENTS on all versions).
const MAX_TRAIN_PACKETS: usize = 64;
/// Bytes in one send (RFC 768 over RFC 791).
const MAX_TRAIN_BYTES: usize = 65_507;
/// The packet that every path takes: IPv6's least MTU without headers (RFC 8200, 5).
const SMALL_PACKET_BYTES: u16 = 1232;

const TRAINS: u8 = 0;
const EVEN_TRAINS: u8 = 1;
const NO_TRAINS: u8 = 2;

/// A train was refused. `text` says what changes, if it is not known yet.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// For people.
    pub text: Option<&'static str>,
}

/// What a path takes; changed by refusals, all allowed again when the path changes.
#[derive(Default)]
pub struct UdpPath {
    mode: AtomicU8,
    packet_bytes: AtomicU16, // 0 = as many as the trunk's payload
}

impl UdpPath {
    /// Allows everything again.
    pub fn reset(&self) {
        self.mode.store(TRAINS, Ordering::Relaxed);
        self.packet_bytes.store(0, Ordering::Relaxed);
    }

    /// The largest packet that should be made for this path.
    pub fn packet_bytes(&self) -> usize {
        match self.packet_bytes.load(Ordering::Relaxed) {
            0 => usize::MAX,
            bytes => usize::from(bytes),
        }
    }

    /// For people: "trains", "even trains" (all datagrams of one size) or "single".
    pub fn name(&self) -> &'static str {
        match self.mode.load(Ordering::Relaxed) {
            TRAINS => "trains",
            EVEN_TRAINS => "even trains",
            _ => "single",
        }
    }

    /// Learns from a refused train, whose datagrams can be sent one by one then. None: it was not refused for being a train.
    pub fn refuse(&self, errno: i32, segment: u16, is_even: bool) -> Option<Refusal> {
        let text = match errno {
            libc::EMSGSIZE if segment > SMALL_PACKET_BYTES => {
                let before = self.packet_bytes.swap(SMALL_PACKET_BYTES, Ordering::Relaxed);
                (before == 0).then_some("packets of 1,232 bytes at most (EMSGSIZE)")
            }
            libc::EINVAL if !is_even => {
                let before = self.mode.fetch_max(EVEN_TRAINS, Ordering::Relaxed);
                (before == TRAINS).then_some("trains without a short last datagram (EINVAL)")
            }
            libc::EIO | libc::EINVAL | libc::EMSGSIZE => {
                let before = self.mode.swap(NO_TRAINS, Ordering::Relaxed);
                (before != NO_TRAINS)
                    .then_some("one datagram a send (no checksum or segmentation offload on the way out)")
            }
            _ => return None,
        };
        Some(Refusal { text })
    }

    /// Cuts packets of these lengths into trains: which packets, and the size of a train's datagrams (0: a single one).
    pub fn trains(&self, allowed: bool, lengths: &[usize], mut train: impl FnMut(Range<usize>, u16)) {
        let mode = if allowed { self.mode.load(Ordering::Relaxed) } else { NO_TRAINS };
        let mut from = 0;
        while from < lengths.len() {
            let size = lengths[from];
            let (mut to, mut bytes) = (from + 1, size);
            while mode != NO_TRAINS && to < lengths.len() && to - from < MAX_TRAIN_PACKETS {
                let next = lengths[to];
                let fits = next == size || next < size && mode == TRAINS;
                if !fits || bytes + next > MAX_TRAIN_BYTES {
                    break;
                }
                (to, bytes) = (to + 1, bytes + next);
                if next < size {
                    break;
                }
            }
            train(from..to, if to - from > 1 { size as u16 } else { 0 });
            from = to;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn cut(path: &UdpPath, lengths: &[usize]) -> Vec<(Range<usize>, u16)> {
        let mut trains = Vec::new();
        path.trains(true, lengths, |packets, size| trains.push((packets, size)));
        trains
    }

    #[test]
    fn a_train_ends_with_a_short_packet_and_before_a_long_one() {
        let path = UdpPath::default();
        assert_eq!(cut(&path, &[100, 100, 60, 60, 80]), [(0..3, 100), (3..4, 0), (4..5, 0)]);
        path.refuse(libc::EINVAL, 100, false);
        assert_eq!(cut(&path, &[100, 100, 60, 60, 80]), [(0..2, 100), (2..4, 60), (4..5, 0)]);
        path.refuse(libc::EINVAL, 100, true);
        assert_eq!(cut(&path, &[100, 100]), [(0..1, 0), (1..2, 0)]);
        path.reset();
        assert_eq!(cut(&path, &[100, 100]), [(0..2, 100)]);
    }

    #[test]
    fn each_refusal_has_its_own_answer_and_is_told_once() {
        let path = UdpPath::default();
        let told = |refusal: Option<Refusal>| refusal.map(|refusal| refusal.text.is_some());
        assert_eq!(path.refuse(libc::EAGAIN, 1400, true), None);
        assert_eq!(told(path.refuse(libc::EMSGSIZE, 1400, true)), Some(true));
        assert_eq!(told(path.refuse(libc::EMSGSIZE, 1400, true)), Some(false));
        assert_eq!((path.packet_bytes(), path.name()), (1232, "trains"));
        path.refuse(libc::EMSGSIZE, 1232, true);
        assert_eq!(path.name(), "single");
        path.reset();
        assert_eq!((path.packet_bytes(), path.name()), (usize::MAX, "trains"));
        path.refuse(libc::EIO, 1400, false);
        assert_eq!(path.name(), "single");
    }

    #[test]
    fn two_trains_with_short_ends_that_were_cut_together_leave_even_trains_allowed() {
        let path = UdpPath::default();
        assert!(path.refuse(libc::EINVAL, 100, false).is_some());
        assert!(path.refuse(libc::EINVAL, 100, false).is_some());
        assert_eq!(path.name(), "even trains");
    }

    proptest! {
        #[test]
        fn trains_keep_every_packet_in_order_within_the_kernels_limits(
            lengths in prop::collection::vec(prop_oneof![Just(1448usize), 64usize..1500], 0..300), even: bool)
        {
            let path = UdpPath::default();
            if even { path.refuse(libc::EINVAL, 1, false); }
            let mut next = 0;
            for (packets, size) in cut(&path, &lengths) {
                prop_assert_eq!(packets.start, next);
                next = packets.end;
                let train = &lengths[packets];
                prop_assert!(train.len() <= MAX_TRAIN_PACKETS && train.iter().sum::<usize>() <= MAX_TRAIN_BYTES);
                prop_assert_eq!(size == 0, train.len() == 1);
                let (last, full) = train.split_last().unwrap();
                prop_assert!(full.iter().all(|&l| l == usize::from(size)));
                prop_assert!(size == 0 || *last <= usize::from(size) && (!even || *last == usize::from(size)));
            }
            prop_assert_eq!(next, lengths.len());
        }
    }
}
