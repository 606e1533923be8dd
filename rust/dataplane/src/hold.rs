//! Frames and packets that wait a moment for a key or a route.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::Nanos;
use crate::drops::DropReason;

/// How long something may wait (PROTOCOL 1: 200 ms).
pub const HOLD_NS: Nanos = 200_000_000;
/// How much may wait per destination (PROTOCOL 1).
pub const MAX_HELD: usize = 32;
/// Destinations for which something waits (ours: 256 × 32 frames of 1.5 kB are 12 MB).
pub const MAX_DESTINATIONS: usize = 256;

/// A bounded waiting room; at its limits the newcomer is refused.
pub struct Hold<K, V> {
    rooms: HashMap<K, VecDeque<(Nanos, V)>>,
}

impl<K, V> Default for Hold<K, V> {
    fn default() -> Self {
        Self { rooms: HashMap::new() }
    }
}

impl<K: Hash + Eq + Copy, V> Hold<K, V> {
    /// Lets something wait until `expires_at`.
    pub fn push(&mut self, key: K, value: V, expires_at: Nanos) -> Result<(), DropReason> {
        if self.rooms.len() >= MAX_DESTINATIONS && !self.rooms.contains_key(&key) {
            return Err(DropReason::HoldFull);
        }
        let room = self.rooms.entry(key).or_default();
        if room.len() >= MAX_HELD {
            return Err(DropReason::HoldFull);
        }
        room.push_back((expires_at, value));
        Ok(())
    }

    /// Removes what waited too long and returns whose it was.
    pub fn expire(&mut self, now: Nanos) -> Vec<K> {
        let mut expired = Vec::new();
        self.rooms.retain(|key, room| {
            while room.front().is_some_and(|(expires_at, _)| *expires_at <= now) {
                room.pop_front();
                expired.push(*key);
            }
            !room.is_empty()
        });
        expired
    }

    /// When the next one expires.
    pub fn next_deadline(&self) -> Option<Nanos> {
        self.rooms.values().filter_map(|room| room.front().map(|(at, _)| *at)).min()
    }

    /// Takes everything out, oldest first per key, with the expiry of each.
    pub fn take(&mut self) -> Vec<(K, Nanos, V)> {
        let rooms = std::mem::take(&mut self.rooms);
        rooms.into_iter().flat_map(|(key, room)| room.into_iter().map(move |(at, value)| (key, at, value))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_33rd_of_a_destination_is_refused_and_the_rest_expires() {
        let mut hold = Hold::default();
        for n in 0..MAX_HELD {
            hold.push(1, n, 100 + n as u64).unwrap();
        }
        assert_eq!(hold.push(1, 99, 200), Err(DropReason::HoldFull));
        hold.push(2, 0, 150).unwrap();
        assert_eq!(hold.next_deadline(), Some(100));
        assert_eq!(hold.expire(101), [1, 1]);
        let mut rest = hold.take();
        rest.sort_unstable();
        assert_eq!((rest.len(), rest[0]), (31, (1, 102, 2)));
        assert_eq!(hold.next_deadline(), None);
    }
}
