//! The MAC table: where learned addresses live. A fixed array of atomics, one writer, any readers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::frame::Mac;

/// Entries per table (ours: 64 KiB, four members at their limit).
pub const SLOTS: usize = 4096;
/// Slots in which one address may be; the oldest makes room.
const WAYS: usize = 8;
/// Addresses per member or port: bounds the table against one that invents addresses (ours).
pub const MAX_MACS_PER_PLACE: u32 = 1024;

/// Bit 63 = used, bit 60 = tagged, bits 48 to 59 = VID, the rest the MAC.
type Key = u64;
const USED: Key = 1 << 63;
const TAGGED: Key = 1 << 60;

fn key_of(mac: &Mac, vid: Option<u16>) -> Key {
    let mac = mac.iter().fold(0, |sum, &byte| sum << 8 | Key::from(byte));
    USED | mac | vid.map_or(0, |vid| TAGGED | Key::from(vid & 0x0fff) << 48)
}

#[derive(Default)]
struct Slot {
    key: AtomicU64,
    place: AtomicU64, // place in the high half, second last seen in the low half
}

/// Of one place.
#[derive(Default)]
struct Count {
    addresses: u32,
    searched_at_s: Option<u32>, // when stale entries were last looked for
}

/// What `learn` did.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address is in the table at this place.
    Known,
    /// The place has its 1024 addresses, or fresh ones fill the slots.
    Full,
}

/// Learned addresses; each is at one place (a member or a port).
///
/// A reader that races the writer at worst finds the address where it was a moment ago.
pub struct MacTable {
    slots: Box<[Slot]>,
    seed: u64,
    counts: Mutex<HashMap<u32, Count>>, // per place; the writer's
    age_s: u32,
}

impl MacTable {
    /// An empty table whose entries live `age_s` after they were last seen; the seed keeps strangers from aiming at slots.
    pub fn new(age_s: u32, seed: u64) -> Self {
        let slots = (0..SLOTS).map(|_| Slot::default()).collect();
        Self { slots, seed, counts: Mutex::default(), age_s }
    }

    /// Where an address is.
    pub fn lookup(&self, mac: &Mac, vid: Option<u16>, now_s: u32) -> Option<u32> {
        let key = key_of(mac, vid);
        self.bucket(key).iter().find_map(|slot| {
            if slot.key.load(Ordering::Acquire) != key {
                return None;
            }
            let place = slot.place.load(Ordering::Acquire);
            let same = slot.key.load(Ordering::Acquire) == key;
            (same && self.is_fresh(place, now_s)).then_some((place >> 32) as u32)
        })
    }

    /// Notes that an address was seen at a place; one thread alone calls this.
    pub fn learn(&self, mac: &Mac, vid: Option<u16>, place: u32, now_s: u32) -> Learned {
        let key = key_of(mac, vid);
        let value = u64::from(place) << 32 | u64::from(now_s);
        let bucket = self.bucket(key);
        if let Some(slot) = bucket.iter().find(|s| s.key.load(Ordering::Relaxed) == key) {
            let old = slot.place.load(Ordering::Relaxed);
            if old == value {
                return Learned::Known;
            }
            let old_place = (old >> 32) as u32;
            if old_place != place {
                let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
                if !self.has_room(&mut counts, place, now_s) {
                    return Learned::Full;
                }
                release(&mut counts, old_place);
                counts.entry(place).or_default().addresses += 1;
            }
            slot.place.store(value, Ordering::Release);
            return Learned::Known;
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if !self.has_room(&mut counts, place, now_s) {
            return Learned::Full;
        }
        // The lowest "last seen" is a free slot (0) or the oldest entry.
        let oldest = bucket.iter().min_by_key(|s| match s.key.load(Ordering::Relaxed) {
            0 => 0,
            _ => 1 + (s.place.load(Ordering::Relaxed) & 0xffff_ffff),
        });
        let Some(slot) = oldest else { return Learned::Full };
        if slot.key.load(Ordering::Relaxed) != 0 {
            release(&mut counts, (slot.place.load(Ordering::Relaxed) >> 32) as u32);
        }
        counts.entry(place).or_default().addresses += 1;
        slot.key.store(0, Ordering::Release);
        slot.place.store(value, Ordering::Release);
        slot.key.store(key, Ordering::Release);
        Learned::Known
    }

    /// All fresh entries: MAC, place, age in seconds.
    pub fn entries(&self, now_s: u32) -> Vec<(Mac, u32, u32)> {
        let entry = |slot: &Slot| {
            let (key, place) = (slot.key.load(Ordering::Acquire), slot.place.load(Ordering::Acquire));
            let mac = std::array::from_fn(|i| (key >> (40 - 8 * i)) as u8);
            let age = now_s.saturating_sub(place as u32);
            (key != 0 && self.is_fresh(place, now_s)).then_some((mac, (place >> 32) as u32, age))
        };
        self.slots.iter().filter_map(entry).collect()
    }

    fn is_fresh(&self, place: u64, now_s: u32) -> bool {
        now_s.saturating_sub(place as u32) < self.age_s
    }

    fn bucket(&self, key: Key) -> &[Slot] {
        let hash = (key ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29 ^ self.seed).wrapping_mul(0xbf58_476d_1ce4_e5b9); // splitmix64's finalizer
        let at = (hash >> 40) as usize % (SLOTS / WAYS) * WAYS;
        &self.slots[at..at + WAYS]
    }

    /// At the limit the place's stale entries are freed first; once a second, for one that invents addresses must not cost more.
    fn has_room(&self, counts: &mut HashMap<u32, Count>, place: u32, now_s: u32) -> bool {
        let Some(count) = counts.get_mut(&place) else { return true };
        if count.addresses < MAX_MACS_PER_PLACE {
            return true;
        }
        if count.searched_at_s.replace(now_s) == Some(now_s) {
            return false;
        }
        for slot in &self.slots {
            let value = slot.place.load(Ordering::Relaxed);
            let used = slot.key.load(Ordering::Relaxed) != 0;
            if used && (value >> 32) as u32 == place && !self.is_fresh(value, now_s) {
                slot.key.store(0, Ordering::Release);
                release(counts, place);
            }
        }
        counts.get(&place).is_none_or(|count| count.addresses < MAX_MACS_PER_PLACE)
    }
}

fn release(counts: &mut HashMap<u32, Count>, place: u32) {
    if let Some(count) = counts.get_mut(&place) {
        count.addresses -= 1;
        if count.addresses == 0 {
            counts.remove(&place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mac(n: u32) -> Mac {
        let n = n.to_be_bytes();
        [2, 0, n[0], n[1], n[2], n[3]]
    }

    #[test]
    fn an_address_is_found_where_it_was_last_seen_until_it_ages() {
        let table = MacTable::new(300, 1);
        assert_eq!(table.lookup(&mac(1), None, 10), None);
        table.learn(&mac(1), None, 7, 10);
        assert_eq!(table.lookup(&mac(1), None, 309), Some(7));
        assert_eq!(table.lookup(&mac(1), None, 310), None);
        table.learn(&mac(1), None, 8, 310);
        assert_eq!(table.lookup(&mac(1), None, 310), Some(8));
        assert_eq!(table.entries(312), [(mac(1), 8, 2)]);
    }

    #[test]
    fn the_same_address_in_two_vlans_has_two_places() {
        let table = MacTable::new(300, 1);
        table.learn(&mac(1), None, 1, 0);
        table.learn(&mac(1), Some(5), 2, 0);
        assert_eq!((table.lookup(&mac(1), None, 0), table.lookup(&mac(1), Some(5), 0)), (Some(1), Some(2)));
    }

    #[test]
    fn one_place_holds_1024_addresses_and_gets_room_when_they_age() {
        let table = MacTable::new(300, 3);
        for n in 0..3000 {
            table.learn(&mac(n), None, 1, 0);
        }
        assert!(table.entries(0).len() <= 1024);
        let mut other = 0;
        for n in 5000..5100 {
            other += usize::from(table.learn(&mac(n), None, 2, 0) == Learned::Known);
        }
        assert_eq!(other, 100);
        assert_eq!(table.learn(&mac(9000), None, 1, 301), Learned::Known);
    }
}
