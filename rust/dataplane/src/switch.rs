//! The MAC table: where addresses live. A fixed array of atomics; readers take no lock, nor does a known address's refresh.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::frame::Mac;

/// Slots in which one address may be; the oldest makes room.
const WAYS: usize = 8;
/// Entries of the table of local addresses (ours: 64 KiB, four ports at their limit).
pub const LOCAL_SLOTS: usize = 4096;
/// Entries of the table of members' addresses (ours: twice what the control plane places, so that hardly one is displaced).
pub const REMOTE_SLOTS: usize = 8192;
/// Addresses per member or port: bounds the table against one that invents addresses (ours).
pub const MAX_MACS_PER_PLACE: u32 = 1024;
/// The place of an address that no port may use: the control plane froze it elsewhere.
const REFUSED: u32 = u32::MAX;
/// The place of an address that speaks at a port and may be elsewhere.
const DOUBTED: u32 = u32::MAX - 1;
/// A doubt ends so long after the address was last seen (ours: longer than it takes to believe it).
const DOUBT_S: u32 = 2;

/// An address within its 802.1Q VLAN.
pub type Address = (Mac, Option<u16>);

/// Bit 63 = used, bit 60 = tagged, bits 48 to 59 = VID, the rest the MAC.
type Key = u64;
const USED: Key = 1 << 63;
const TAGGED: Key = 1 << 60;

fn key_of(mac: &Mac, vid: Option<u16>) -> Key {
    let mac = mac.iter().fold(0, |sum, &byte| sum << 8 | Key::from(byte));
    USED | mac | vid.map_or(0, |vid| TAGGED | Key::from(vid & 0x0fff) << 48)
}

fn address_of(key: Key) -> Address {
    let vid = (key & TAGGED != 0).then_some((key >> 48) as u16 & 0x0fff);
    (std::array::from_fn(|i| (key >> (40 - 8 * i)) as u8), vid)
}

#[derive(Default)]
struct Slot {
    key: AtomicU64,
    place: AtomicU64, // place in the high half, second last seen in the low half
}

impl Slot {
    fn is_used(&self) -> bool {
        self.key.load(Ordering::Acquire) != 0
    }

    fn place(&self) -> u32 {
        (self.place.load(Ordering::Acquire) >> 32) as u32
    }
}

fn value_of(place: u32, now_s: u32) -> u64 {
    u64::from(place) << 32 | u64::from(now_s)
}

/// What `learn` did.
#[derive(Debug, PartialEq, Eq)]
pub enum Learned {
    /// The address was in the table at this place.
    Known,
    /// It is now; another one may have made room for it.
    New(Option<Address>),
    /// The place has its 1024 addresses.
    Full,
    /// It may not be at any port.
    Refused,
}

/// Addresses, each at one place (a member or a port).
///
/// A reader that races a writer at worst finds the address where it was a moment ago.
pub struct MacTable {
    slots: Box<[Slot]>,
    seed: u64,
    counts: Mutex<HashMap<u32, u32>>, // addresses per place; whoever adds or removes holds it
    age_s: u32,
}

impl MacTable {
    /// An empty table whose entries live `age_s` after they were last seen; the seed keeps strangers from aiming at slots.
    pub fn new(slots: usize, age_s: u32, seed: u64) -> Self {
        let slots = (0..slots.max(WAYS)).map(|_| Slot::default()).collect();
        Self { slots, seed, counts: Mutex::default(), age_s }
    }

    /// Where an address is.
    pub fn lookup(&self, mac: &Mac, vid: Option<u16>, now_s: u32) -> Option<u32> {
        self.find(mac, vid, now_s).filter(|&place| is_place(place))
    }

    /// Whether an address was seen, and is refused or doubted.
    pub fn is_barred(&self, mac: &Mac, vid: Option<u16>, now_s: u32) -> bool {
        self.find(mac, vid, now_s).is_some_and(|place| !is_place(place))
    }

    fn find(&self, mac: &Mac, vid: Option<u16>, now_s: u32) -> Option<u32> {
        let key = key_of(mac, vid);
        self.bucket(key).iter().find_map(|slot| {
            if slot.key.load(Ordering::Acquire) != key {
                return None;
            }
            let value = slot.place.load(Ordering::Acquire);
            let same = slot.key.load(Ordering::Acquire) == key;
            (same && self.is_fresh(value, now_s)).then_some((value >> 32) as u32)
        })
    }

    /// Notes that an address was seen at a place.
    pub fn learn(&self, mac: &Mac, vid: Option<u16>, place: u32, now_s: u32) -> Learned {
        self.refresh(mac, vid, place, now_s).unwrap_or_else(|| self.put(key_of(mac, vid), place, now_s))
    }

    /// As `learn` where that changes no place: `Known` or `Refused`; None where the address is new at this place.
    pub fn refresh(&self, mac: &Mac, vid: Option<u16>, place: u32, now_s: u32) -> Option<Learned> {
        let key = key_of(mac, vid);
        let slot = self.bucket(key).iter().find(|s| s.key.load(Ordering::Acquire) == key)?;
        let old = slot.place.load(Ordering::Acquire);
        if (old >> 32) as u32 == REFUSED && self.is_fresh(old, now_s) {
            return Some(Learned::Refused);
        }
        if (old >> 32) as u32 != place {
            return None;
        }
        let value = value_of(place, now_s);
        if old != value {
            // Whoever changed it meanwhile knows better.
            let _ = slot.place.compare_exchange(old, value, Ordering::AcqRel, Ordering::Relaxed);
        }
        Some(Learned::Known)
    }

    /// Says where an address is, whatever was seen.
    pub fn place(&self, mac: &Mac, vid: Option<u16>, place: u32, now_s: u32) -> Learned {
        self.put(key_of(mac, vid), place, now_s)
    }

    /// No place may have an address until it ages or is forgotten.
    pub fn refuse(&self, mac: &Mac, vid: Option<u16>, now_s: u32) {
        self.put(key_of(mac, vid), REFUSED, now_s);
    }

    /// An address was seen and is at no place, until it is learned or was not seen for a while.
    pub fn doubt(&self, mac: &Mac, vid: Option<u16>, now_s: u32) -> Learned {
        self.put(key_of(mac, vid), DOUBTED, now_s)
    }

    /// An address is nowhere any more.
    pub fn forget(&self, mac: &Mac, vid: Option<u16>) {
        let key = key_of(mac, vid);
        let mut counts = self.counts();
        for slot in self.bucket(key).iter().filter(|slot| slot.key.load(Ordering::Acquire) == key) {
            free(&mut counts, slot);
        }
    }

    /// No address is anywhere any more.
    pub fn clear(&self) {
        let mut counts = self.counts();
        for slot in self.slots.iter().filter(|slot| slot.is_used()) {
            free(&mut counts, slot);
        }
    }

    /// Forgets what was not seen for too long; returns the addresses that were at a place.
    pub fn sweep(&self, now_s: u32) -> Vec<Address> {
        let (mut counts, mut gone) = (self.counts(), Vec::new());
        for slot in self.slots.iter().filter(|slot| slot.is_used()) {
            if !self.is_fresh(slot.place.load(Ordering::Acquire), now_s) {
                if is_place(slot.place()) {
                    gone.push(address_of(slot.key.load(Ordering::Acquire)));
                }
                free(&mut counts, slot);
            }
        }
        gone
    }

    /// Whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.counts().is_empty()
    }

    /// All fresh entries: address, place, age in seconds.
    pub fn entries(&self, now_s: u32) -> Vec<(Address, u32, u32)> {
        let entry = |slot: &Slot| {
            let (key, value) = (slot.key.load(Ordering::Acquire), slot.place.load(Ordering::Acquire));
            let (place, age_s) = ((value >> 32) as u32, now_s.saturating_sub(value as u32));
            let is_there = key != 0 && is_place(place) && self.is_fresh(value, now_s);
            is_there.then_some((address_of(key), place, age_s))
        };
        self.slots.iter().filter_map(entry).collect()
    }

    fn put(&self, key: Key, place: u32, now_s: u32) -> Learned {
        let (mut counts, bucket) = (self.counts(), self.bucket(key));
        let present = bucket.iter().find(|slot| slot.key.load(Ordering::Acquire) == key);
        if present.is_some_and(|slot| slot.place() == place) {
            present.inspect(|slot| slot.place.store(value_of(place, now_s), Ordering::Release));
            return Learned::Known;
        }
        if counts.get(&place).is_some_and(|&count| count >= MAX_MACS_PER_PLACE) {
            return Learned::Full;
        }
        // The lowest "last seen" is a free slot (0) or the oldest entry.
        let oldest = || {
            bucket.iter().min_by_key(|slot| match slot.is_used() {
                false => 0,
                true => 1 + (slot.place.load(Ordering::Acquire) & 0xffff_ffff),
            })
        };
        let Some(slot) = present.or_else(oldest) else { return Learned::Full };
        let displaced = (present.is_none() && slot.is_used() && is_place(slot.place()))
            .then(|| address_of(slot.key.load(Ordering::Acquire)));
        if slot.is_used() {
            release(&mut counts, slot.place());
        }
        *counts.entry(place).or_default() += 1;
        if present.is_none() {
            slot.key.store(0, Ordering::Release);
        }
        slot.place.store(value_of(place, now_s), Ordering::Release);
        slot.key.store(key, Ordering::Release);
        Learned::New(displaced)
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<u32, u32>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self, value: u64, now_s: u32) -> bool {
        let age_s = if (value >> 32) as u32 == DOUBTED { DOUBT_S } else { self.age_s };
        now_s.saturating_sub(value as u32) < age_s
    }

    fn bucket(&self, key: Key) -> &[Slot] {
        let hash = (key ^ self.seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let hash = (hash ^ hash >> 29 ^ self.seed).wrapping_mul(0xbf58_476d_1ce4_e5b9); // splitmix64's finalizer
        let at = (hash >> 40) as usize % (self.slots.len() / WAYS) * WAYS;
        &self.slots[at..at + WAYS]
    }
}

fn is_place(place: u32) -> bool {
    place < DOUBTED
}

fn free(counts: &mut HashMap<u32, u32>, slot: &Slot) {
    slot.key.store(0, Ordering::Release);
    release(counts, slot.place());
}

fn release(counts: &mut HashMap<u32, u32>, place: u32) {
    if let Some(count) = counts.get_mut(&place) {
        *count -= 1;
        if *count == 0 {
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

    fn table(seed: u64) -> MacTable {
        MacTable::new(LOCAL_SLOTS, 300, seed)
    }

    #[test]
    fn an_address_is_found_where_it_was_last_seen_until_it_ages() {
        let table = table(1);
        assert_eq!(table.lookup(&mac(1), None, 10), None);
        assert_eq!(table.learn(&mac(1), None, 7, 10), Learned::New(None));
        assert_eq!(table.lookup(&mac(1), None, 309), Some(7));
        assert_eq!(table.lookup(&mac(1), None, 310), None);
        assert_eq!(table.learn(&mac(1), None, 8, 310), Learned::New(None));
        assert_eq!(table.learn(&mac(1), None, 8, 311), Learned::Known);
        assert_eq!(table.entries(312), [((mac(1), None), 8, 1)]);
    }

    #[test]
    fn the_same_address_in_two_vlans_has_two_places() {
        let table = table(1);
        table.learn(&mac(1), None, 1, 0);
        table.learn(&mac(1), Some(5), 2, 0);
        assert_eq!((table.lookup(&mac(1), None, 0), table.lookup(&mac(1), Some(5), 0)), (Some(1), Some(2)));
        let mut found: Vec<_> = table.entries(0).into_iter().map(|(address, ..)| address).collect();
        found.sort_unstable();
        assert_eq!(found, [(mac(1), None), (mac(1), Some(5))]);
    }

    #[test]
    fn one_place_holds_1024_addresses_and_gets_room_when_they_are_swept() {
        let table = table(3);
        for n in 0..3000 {
            table.learn(&mac(n), None, 1, 0);
        }
        assert!(table.entries(0).len() <= 1024);
        assert_eq!(table.learn(&mac(9000), None, 1, 301), Learned::Full);
        let others = (5000..5100).filter(|&n| matches!(table.learn(&mac(n), None, 2, 0), Learned::New(_))).count();
        assert_eq!(others, 100);
        assert!(table.sweep(301).len() > 1000);
        assert_eq!(table.learn(&mac(9000), None, 1, 301), Learned::New(None));
    }

    #[test]
    fn what_ages_is_told_once_and_what_makes_room_too() {
        let table = MacTable::new(WAYS, 300, 1);
        for n in 0..8 {
            assert_eq!(table.learn(&mac(n), Some(9), 1, n), Learned::New(None));
        }
        assert_eq!(table.learn(&mac(8), None, 1, 100), Learned::New(Some((mac(0), Some(9)))));
        let mut gone = table.sweep(302);
        gone.sort_unstable();
        assert_eq!(gone, [(mac(1), Some(9)), (mac(2), Some(9))]);
        assert_eq!(table.sweep(302), []);
    }

    #[test]
    fn a_refused_address_is_at_no_port_until_it_is_forgotten() {
        let table = table(1);
        table.learn(&mac(1), None, 7, 0);
        table.refuse(&mac(1), None, 0);
        assert!(table.is_barred(&mac(1), None, 0) && !table.is_barred(&mac(2), None, 0));
        assert_eq!((table.lookup(&mac(1), None, 0), table.learn(&mac(1), None, 7, 1)), (None, Learned::Refused));
        assert_eq!(table.entries(0), []);
        table.forget(&mac(1), None);
        assert_eq!(table.learn(&mac(1), None, 7, 1), Learned::New(None));
        table.refuse(&mac(1), None, 1);
        assert_eq!(table.learn(&mac(1), None, 7, 301), Learned::New(None), "a refusal ages too");
        table.doubt(&mac(1), None, 302);
        assert!(table.is_barred(&mac(1), None, 303) && table.entries(303).is_empty());
        assert!(!table.is_barred(&mac(1), None, 304), "a doubt is short");
        assert_eq!((table.lookup(&mac(1), None, 302), table.refresh(&mac(1), None, 7, 302)), (None, None));
        assert_eq!(table.learn(&mac(1), None, 7, 303), Learned::New(None));
        table.clear();
        assert!(table.is_empty() && table.lookup(&mac(1), None, 301).is_none());
    }
}
