//! Frames and packets that wait a moment for a key or a route.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::Nanos;
use crate::drops::DropReason;

/// How long something may wait (PROTOCOL 1: 200 ms).
pub const HOLD_NS: Nanos = 200_000_000;
/// How much may wait per destination (PROTOCOL 1).
pub const MAX_HELD: usize = 32;
/// Destinations for which something waits (ours).
pub const MAX_DESTINATIONS: usize = 256;
/// Bytes that may wait per destination, for super-frames (ours).
pub const MAX_HELD_BYTES: usize = 512 << 10;
/// Bytes that may wait in all (ours).
pub const MAX_BYTES: usize = 16 << 20;

/// What waits for one destination: expiry, bytes, thing.
struct Room<V> {
    waiting: VecDeque<(Nanos, usize, V)>,
    bytes: usize,
}

/// A bounded waiting room; at its limits the newcomer is refused.
pub struct Hold<K, V> {
    rooms: HashMap<K, Room<V>>,
    bytes: usize,
}

impl<K, V> Default for Hold<K, V> {
    fn default() -> Self {
        Self { rooms: HashMap::new(), bytes: 0 }
    }
}

impl<K: Hash + Eq + Copy, V> Hold<K, V> {
    /// Lets something of so many bytes wait until `expires_at`.
    pub fn push(&mut self, key: K, value: V, bytes: usize, expires_at: Nanos) -> Result<(), DropReason> {
        let is_new = !self.rooms.contains_key(&key);
        if is_new && self.rooms.len() >= MAX_DESTINATIONS || self.bytes + bytes > MAX_BYTES {
            return Err(DropReason::HoldFull);
        }
        let room = self.rooms.entry(key).or_insert_with(|| Room { waiting: VecDeque::new(), bytes: 0 });
        if room.waiting.len() >= MAX_HELD || room.bytes + bytes > MAX_HELD_BYTES {
            return Err(DropReason::HoldFull);
        }
        (self.bytes, room.bytes) = (self.bytes + bytes, room.bytes + bytes);
        room.waiting.push_back((expires_at, bytes, value));
        Ok(())
    }

    /// Removes what waited too long and returns whose it was.
    pub fn expire(&mut self, now: Nanos) -> Vec<K> {
        let mut expired = Vec::new();
        self.rooms.retain(|key, room| {
            while room.waiting.front().is_some_and(|(expires_at, ..)| *expires_at <= now) {
                let bytes = room.waiting.pop_front().map_or(0, |(_, bytes, _)| bytes);
                (self.bytes, room.bytes) = (self.bytes - bytes, room.bytes - bytes);
                expired.push(*key);
            }
            !room.waiting.is_empty()
        });
        expired
    }

    /// When the next one expires.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.rooms.values().filter_map(|room| room.waiting.front().map(|(at, ..)| *at)).min()
    }

    /// Takes everything out, oldest first per key, with the expiry of each.
    pub fn take(&mut self) -> Vec<(K, Nanos, V)> {
        self.bytes = 0;
        let rooms = std::mem::take(&mut self.rooms).into_iter();
        rooms.flat_map(|(key, room)| room.waiting.into_iter().map(move |(at, _, value)| (key, at, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_33rd_of_a_destination_is_refused_and_the_rest_expires() {
        let mut hold = Hold::default();
        for n in 0..MAX_HELD {
            hold.push(1, n, 1, 100 + n as u64).unwrap();
        }
        assert_eq!(hold.push(1, 99, 1, 200), Err(DropReason::HoldFull));
        hold.push(2, 0, 1, 150).unwrap();
        assert_eq!(hold.next_deadline(), Some(100));
        assert_eq!(hold.expire(101), [1, 1]);
        let mut rest = hold.take();
        rest.sort_unstable();
        assert_eq!((rest.len(), rest[0]), (31, (1, 102, 2)));
        assert_eq!(hold.next_deadline(), None);
    }

    #[test]
    fn bytes_are_bounded_and_freed_when_they_expire() {
        let mut hold = Hold::default();
        for n in 0..8 {
            hold.push(1, n, MAX_HELD_BYTES / 8, 100).unwrap();
        }
        assert_eq!(hold.push(1, 9, 1, 100), Err(DropReason::HoldFull));
        hold.push(2, 9, MAX_HELD_BYTES, 200).unwrap();
        hold.expire(100);
        hold.push(1, 9, MAX_HELD_BYTES, 300).unwrap();
        assert_eq!(hold.bytes, 2 * MAX_HELD_BYTES);
        assert_eq!((hold.take().len(), hold.bytes), (2, 0));
    }
}
