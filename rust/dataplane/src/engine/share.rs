//! How a relay that has more to carry than it can shares itself: a queue for each incoming trunk and class, each in turn
//! (deficit round robin, Shreedhar and Varghese 1995).
//!
//! ```text
//!     hop open ──> rate of trunk, rate of class ──┬──────────────────────────────> hop seal, send      (as a rule)
//!                                                 └──> queue ──> in turn ──> rate of all ──> hop seal, send
//! ```
//!
//! Packets wait only while others do, while the rate of all is used up, or while the loop has been behind for a while
//! and several trunks and classes compete; else nothing is copied.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use super::live::Live;
use crate::class::Bucket;
use crate::drops::DropReason;
use crate::lookup::FastMap;
use crate::packet::HopFields;
use crate::stream::Lane;
use crate::{ClassId, Nanos, TrunkId};

/// Bytes that may wait where the processor is short (ours: 10 ms of 3 Gbit/s; less drops what TCP sends in one burst).
const MAX_WAITING_BYTES: usize = 4 << 20;
/// Where there is a rate of all, no more waits than leaves in so long (ours: 50 ms, as usual for shapers).
const MAX_WAIT_NS: u128 = 50_000_000;
/// And no less than a few trains (ours).
const MIN_WAITING_BYTES: usize = 64 << 10;
/// Queues at a time (ours). A packet of one more is dropped.
const MAX_QUEUES: usize = 1024;
/// Introductions and member control that one queue holds, in front of its frames (ours).
const MAX_CONTROL: usize = 64;
/// Bytes for each queue in its turn: the largest packet (SPEC 2.1: 9,216 of underlay) fits, and a short train (ours).
const QUANTUM_BYTES: usize = 16 << 10;
/// The loop is behind when it never found its socket empty for so long (ours).
const BEHIND_NS: Nanos = 2_000_000;
/// Who competes is counted over about 134 ms (ours: a power of two).
const WINDOW_BITS: u32 = 27;
/// More are not told apart (ours).
const MAX_SEEN: usize = 8;

/// The trunk that a packet came by, and its class.
pub(super) type Key = (TrunkId, ClassId);

/// A packet that waits, in its slot.
struct Waiting {
    fields: HopFields,
    lane: Lane,
    bytes: usize,
}

#[derive(Default)]
struct Queue {
    control: VecDeque<u32>,
    data: VecDeque<u32>,
    bytes: usize,
    deficit: usize,
}

impl Queue {
    fn first(&self) -> Option<u32> {
        self.control.front().or(self.data.front()).copied()
    }
}

/// A packet whose turn it is; it stays in its slot until `free`.
pub(super) struct Next {
    pub(super) slot: u32,
    pub(super) trunk: TrunkId,
    pub(super) fields: HopFields,
    pub(super) lane: Lane,
    pub(super) place: std::ops::Range<usize>,
}

/// What waits, and who is to go next.
#[derive(Default)]
pub(super) struct Share {
    pub(super) arena: Vec<u8>,
    slot_bytes: usize,
    waiting: Vec<Option<Waiting>>,
    free: Vec<u32>,
    queues: FastMap<Key, Queue>,
    round: VecDeque<Key>,
    bytes: usize,
    all: Bucket,
    rivals: Rivals,
    behind_since: Option<Nanos>,
}

impl Share {
    pub(super) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether a packet has to wait for its turn.
    pub(super) fn holds(&self, rate: u64, now: Nanos) -> bool {
        !self.round.is_empty() || self.is_behind(now) || rate != 0 && !self.all.is_open(rate, now)
    }

    /// The loop could not keep up for a while, and there is more than one to be fair to.
    pub(super) fn is_behind(&self, now: Nanos) -> bool {
        self.behind_since.is_some_and(|since| now >= since + BEHIND_NS) && self.rivals.compete()
    }

    /// How the loop found its socket at the end of a turn: empty, or with more in it.
    pub(super) fn note_socket(&mut self, empty: bool, now: Nanos) {
        self.behind_since = if empty { None } else { self.behind_since.or(Some(now)) };
    }

    /// Somebody's packets pass.
    pub(super) fn note(&mut self, key: Key, now: Nanos) {
        self.rivals.note(key, now);
    }

    /// Bytes went out.
    pub(super) fn spend(&self, bytes: usize) {
        self.all.spend(bytes);
    }

    /// Whether the rate of all lets a packet go now.
    pub(super) fn is_open(&self, rate: u64, now: Nanos) -> bool {
        rate == 0 || self.all.is_open(rate, now)
    }

    /// When there is something to do though nothing comes in.
    pub(super) fn due(&self, rate: u64, now: Nanos) -> Option<Nanos> {
        let at = if self.is_open(rate, now) { 0 } else { self.all.opens_at(rate, now) };
        (!self.round.is_empty()).then_some(at)
    }

    /// Lets a packet wait; where there is no room, some of whoever has most go, and `lost` is told the class of each.
    pub(super) fn push(
        &mut self,
        key: Key,
        packet: &[u8],
        fields: &HopFields,
        lane: Lane,
        room: Room,
        mut lost: impl FnMut(ClassId),
    ) -> Result<(), DropReason> {
        if self.slot_bytes < room.packet_bytes {
            if !self.round.is_empty() {
                return Err(DropReason::RelayFull); // larger ones from when these have gone
            }
            self.make_slots(room.packet_bytes);
        }
        if packet.len() > self.slot_bytes {
            return Err(DropReason::ExceedsMtu);
        }
        if !self.queues.contains_key(&key) && self.queues.len() >= MAX_QUEUES {
            self.queues.retain(|_, queue| queue.first().is_some());
            if self.queues.len() >= MAX_QUEUES {
                return Err(DropReason::RelayFull);
            }
        }
        if lane == Lane::Control && self.queues.get(&key).is_some_and(|queue| queue.control.len() >= MAX_CONTROL) {
            return Err(DropReason::RelayFull);
        }
        let most = most_waiting(room.rate);
        while self.free.is_empty() || self.bytes + packet.len() > most {
            let longest = self.round.iter().copied().max_by_key(|one| self.queues[one].bytes);
            let own = self.queues.get(&key).map_or(0, |queue| queue.bytes) + packet.len();
            let Some(longest) = longest.filter(|one| self.queues[one].bytes > own) else {
                return Err(DropReason::RelayFull);
            };
            self.push_out(longest);
            lost(longest.1);
        }
        let Some(slot) = self.free.pop() else { return Err(DropReason::RelayFull) };
        let queue = self.queues.entry(key).or_default();
        if queue.first().is_none() {
            self.round.push_back(key);
        }
        let lane_queue = if lane == Lane::Control { &mut queue.control } else { &mut queue.data };
        lane_queue.push_back(slot);
        queue.bytes += packet.len();
        self.bytes += packet.len();
        let at = slot as usize * self.slot_bytes;
        self.arena[at..at + packet.len()].copy_from_slice(packet);
        self.waiting[slot as usize] = Some(Waiting { fields: *fields, lane, bytes: packet.len() });
        Ok(())
    }

    /// The packet whose turn it is.
    pub(super) fn next(&mut self) -> Option<Next> {
        loop {
            let key = *self.round.front()?;
            let queue = self.queues.get_mut(&key)?;
            let Some(slot) = queue.first() else {
                queue.deficit = 0;
                self.round.pop_front();
                continue;
            };
            let one = self.waiting[slot as usize].take()?;
            if queue.deficit < one.bytes {
                queue.deficit += QUANTUM_BYTES;
                self.waiting[slot as usize] = Some(one);
                self.round.rotate_left(1);
                continue;
            }
            if queue.control.pop_front().is_none() {
                queue.data.pop_front();
            }
            queue.deficit -= one.bytes;
            queue.bytes -= one.bytes;
            self.bytes -= one.bytes;
            if queue.first().is_none() {
                queue.deficit = 0;
                self.round.pop_front();
            }
            let at = slot as usize * self.slot_bytes;
            return Some(Next { slot, trunk: key.0, fields: one.fields, lane: one.lane, place: at..at + one.bytes });
        }
    }

    /// The packets of these slots have left.
    pub(super) fn free(&mut self, slots: &mut Vec<u32>) {
        self.free.append(slots);
    }

    /// The newest frame of a queue goes, or its newest control packet where there is no frame.
    fn push_out(&mut self, key: Key) {
        let Some(queue) = self.queues.get_mut(&key) else { return };
        let Some(slot) = queue.data.pop_back().or_else(|| queue.control.pop_back()) else { return };
        if let Some(one) = self.waiting[slot as usize].take() {
            queue.bytes -= one.bytes;
            self.bytes -= one.bytes;
        }
        self.free.push(slot);
    }

    fn make_slots(&mut self, packet_bytes: usize) {
        self.slot_bytes = packet_bytes;
        let slots = MAX_WAITING_BYTES / packet_bytes;
        self.arena = vec![0; slots * packet_bytes];
        self.waiting = (0..slots).map(|_| None).collect();
        self.free = (0..slots as u32).rev().collect();
    }
}

/// What there is room for.
#[derive(Clone, Copy)]
pub(super) struct Room {
    /// The largest packet of any trunk.
    pub(super) packet_bytes: usize,
    /// The rate of all; 0: none.
    pub(super) rate: u64,
}

fn most_waiting(rate: u64) -> usize {
    if rate == 0 {
        return MAX_WAITING_BYTES;
    }
    let bytes = u128::from(rate) * MAX_WAIT_NS / 1_000_000_000;
    usize::try_from(bytes).unwrap_or(usize::MAX).clamp(MIN_WAITING_BYTES, MAX_WAITING_BYTES)
}

/// Who sent in the present window of time and the one before.
#[derive(Default)]
struct Rivals {
    window: Nanos,
    now: Vec<Key>,
    before: Vec<Key>,
}

impl Rivals {
    fn note(&mut self, key: Key, now: Nanos) {
        let window = now >> WINDOW_BITS;
        if window != self.window {
            if window == self.window + 1 {
                std::mem::swap(&mut self.now, &mut self.before);
            } else {
                self.before.clear();
            }
            self.now.clear();
            self.window = window;
        }
        if self.now.len() < MAX_SEEN && !self.now.contains(&key) {
            self.now.push(key);
        }
    }

    /// Two classes, or three trunks: the two directions of one VLAN between two neighbours are none.
    fn compete(&self) -> bool {
        let mut all = self.now.iter().chain(&self.before);
        let Some(first) = all.next() else { return false };
        let mut second = None;
        for key in all {
            if key.1 != first.1 || *key != *first && second.is_some_and(|second| second != key) {
                return true;
            }
            second = second.or((key != first).then_some(key));
        }
        false
    }
}

/// Packets of one trunk and class in a row: looked up and counted together.
#[derive(Default)]
pub(super) struct Run {
    key: Option<Key>,
    class: Option<usize>,
    packets: u64,
    bytes: u64,
}

impl Run {
    /// The place of the class in the tables; the packets before are counted where it is another one.
    pub(super) fn follow(&mut self, live: &Live, key: Key) -> (bool, Option<usize>) {
        if self.key == Some(key) {
            return (false, self.class);
        }
        self.end(live);
        self.key = Some(key);
        self.class = live.tables.class(key.1);
        (true, self.class)
    }

    pub(super) fn count(&mut self, packets: usize, bytes: usize) {
        self.packets += packets as u64;
        self.bytes += bytes as u64;
    }

    pub(super) fn end(&mut self, live: &Live) {
        if let (Some(class), true) = (self.class, self.packets > 0) {
            let state = &live.classes[class];
            add(&state.packets, self.packets);
            add(&state.bytes, self.bytes);
        }
        *self = Self::default();
    }
}

/// One thread writes these counters.
pub(super) fn add(counter: &AtomicU64, n: u64) {
    counter.store(counter.load(Ordering::Relaxed) + n, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const ROOM: Room = Room { packet_bytes: 1500, rate: 0 };
    const FIELDS: HopFields = HopFields { label: 1, hop_limit: 9, flags: 0, nonce: [0; 12] };

    fn served(share: &mut Share, bytes: usize) -> HashMap<Key, usize> {
        let (mut by_key, mut total) = (HashMap::new(), 0);
        while total < bytes {
            let Some(next) = share.next() else { break };
            let class = ClassId::from(share.arena[next.place.start]);
            *by_key.entry((next.trunk, class)).or_default() += next.place.len();
            total += next.place.len();
            share.free(&mut vec![next.slot]);
        }
        by_key
    }

    /// Returns the classes of what was pushed out.
    fn push_within(
        share: &mut Share,
        key: Key,
        bytes: usize,
        lane: Lane,
        room: Room,
    ) -> Result<Vec<ClassId>, DropReason> {
        let mut lost = Vec::new();
        share.push(key, &vec![key.1 as u8; bytes], &FIELDS, lane, room, |class| lost.push(class)).map(|()| lost)
    }

    fn push(share: &mut Share, key: Key, bytes: usize) -> Result<Vec<ClassId>, DropReason> {
        push_within(share, key, bytes, Lane::Data, ROOM)
    }

    #[test]
    fn a_greedy_class_gets_no_more_than_a_modest_one() {
        let mut share = Share::default();
        let (greedy, modest) = ((1, 1), (1, 2));
        for _ in 0..500 {
            push(&mut share, greedy, 1400).unwrap();
        }
        for _ in 0..100 {
            push(&mut share, modest, 200).unwrap();
        }
        let got = served(&mut share, 40_000);
        assert!(got[&modest] == 20_000 || got[&modest] + QUANTUM_BYTES >= got[&greedy], "{got:?}");
    }

    #[test]
    fn when_there_is_no_room_whoever_has_most_gives_way() {
        let mut share = Share::default();
        let full = (0..10_000).take_while(|_| push(&mut share, (1, 1), 1500).is_ok()).count();
        assert_eq!(full, MAX_WAITING_BYTES / 1500);
        assert_eq!(push(&mut share, (1, 1), 1500), Err(DropReason::RelayFull));
        assert_eq!(push(&mut share, (2, 7), 1500), Ok(vec![1]));
        assert!(share.bytes() <= MAX_WAITING_BYTES);
        assert!(served(&mut share, 60_000).contains_key(&(2, 7)));
    }

    #[test]
    fn every_packet_that_gives_way_to_a_longer_one_is_told() {
        let (mut share, room) = (Share::default(), Room { rate: 1, ..ROOM });
        let full = (0..1000).take_while(|_| push_within(&mut share, (1, 1), 200, Lane::Data, room).is_ok()).count();
        assert_eq!(full, MIN_WAITING_BYTES / 200);
        assert_eq!(push_within(&mut share, (2, 7), 1500, Lane::Data, room), Ok(vec![1; 7]));
        assert_eq!(share.bytes(), (full - 7) * 200 + 1500);
    }

    #[test]
    fn control_goes_before_the_frames_of_its_own_queue_and_is_bounded() {
        let mut share = Share::default();
        push(&mut share, (1, 1), 1000).unwrap();
        for _ in 0..MAX_CONTROL {
            push_within(&mut share, (1, 1), 99, Lane::Control, ROOM).unwrap();
        }
        assert_eq!(push_within(&mut share, (1, 1), 99, Lane::Control, ROOM), Err(DropReason::RelayFull));
        for _ in 0..MAX_CONTROL {
            assert_eq!(share.next().unwrap().place.len(), 99);
        }
        assert_eq!(share.next().unwrap().place.len(), 1000);
        assert!(share.next().is_none() && share.is_empty());
    }

    #[test]
    fn nobody_competes_with_the_other_direction_of_its_own_vlan() {
        let (mut rivals, now) = (Rivals::default(), 1 << 40);
        assert!(!rivals.compete());
        rivals.note((1, 1), now);
        rivals.note((2, 1), now);
        assert!(!rivals.compete());
        rivals.note((3, 1), now);
        assert!(rivals.compete(), "three trunks");
        let later = now + (3 << WINDOW_BITS);
        rivals.note((1, 1), later);
        assert!(!rivals.compete(), "the others have stopped");
        rivals.note((1, 2), later);
        assert!(rivals.compete(), "two classes");
    }

    #[test]
    fn packets_wait_while_the_loop_is_behind_for_long_and_somebody_competes() {
        let (mut share, now) = (Share::default(), 1 << 40);
        share.note((1, 1), now);
        share.note_socket(false, now);
        assert!(!share.is_behind(now + BEHIND_NS), "alone");
        share.note((1, 2), now);
        assert!(!share.is_behind(now + BEHIND_NS - 1) && !share.holds(0, now));
        assert!(share.is_behind(now + BEHIND_NS) && share.holds(0, now + BEHIND_NS));
        share.note_socket(true, now + BEHIND_NS);
        assert!(!share.is_behind(now + 2 * BEHIND_NS), "it has caught up");
    }

    #[test]
    fn a_queue_for_each_of_many_keys_is_bounded() {
        let mut share = Share::default();
        let taken = (0..5000).filter(|&n| push(&mut share, (n, 1), 100).is_ok()).count();
        assert_eq!((taken, share.queues.len()), (MAX_QUEUES, MAX_QUEUES));
        while let Some(next) = share.next() {
            share.free(&mut vec![next.slot]);
        }
        assert_eq!(push(&mut share, (9999, 1), 100), Ok(vec![]), "queues that are empty give way");
    }

    proptest! {
        #[test]
        fn what_goes_in_comes_out_once_in_order_and_within_the_bound(
            steps in prop::collection::vec((0u32..4, 1u32..4, 80usize..1500, any::<bool>()), 0..2000), rate in 0u64..40_000_000)
        {
            let room = Room { rate, ..ROOM };
            let mut share = Share::default();
            let mut order: HashMap<Key, u64> = HashMap::new();
            for (number, (trunk, class, bytes, take)) in (1u64..).zip(steps) {
                let fields = HopFields { nonce: std::array::from_fn(|i| if i < 8 { number.to_be_bytes()[i] } else { 0 }), ..FIELDS };
                let _ = share.push((trunk, class), &vec![class as u8; bytes], &fields, Lane::Data, room, |_| ());
                prop_assert!(share.bytes() <= most_waiting(rate));
                if take && let Some(next) = share.next() {
                    let class = ClassId::from(share.arena[next.place.start]);
                    let got = u64::from_be_bytes(std::array::from_fn(|i| next.fields.nonce[i]));
                    let last = order.insert((next.trunk, class), got).unwrap_or(0);
                    prop_assert!(got > last);
                    share.free(&mut vec![next.slot]);
                }
            }
            while let Some(next) = share.next() {
                share.free(&mut vec![next.slot]);
            }
            prop_assert_eq!((share.bytes(), share.free.len()), (0, share.waiting.len()));
        }
    }
}
