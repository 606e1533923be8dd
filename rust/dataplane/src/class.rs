//! What a relay carries for others, by VTag: whose packets they are, how many, and how many it takes.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::{ClassId, Nanos};

/// A token bucket holds what comes in so long (ours: TCP fills a limit of one round trip's burst).
const POLICED_BURST_NS: Nanos = 100_000_000;
/// The bucket of all that is carried holds so long: what waits behind it is shaped, and needs no burst (ours).
const SHAPED_BURST_NS: Nanos = 5_000_000;
/// What waits goes on in steps of so long at least, so that not each packet wakes the loop (ours).
const SHAPED_STEP_NS: Nanos = 2_000_000;
/// The least that a bucket holds: a super-frame (ours).
const MIN_BURST_BYTES: i64 = 64 << 10;

/// A VTag under which packets are carried.
pub struct Class {
    /// Its id, never used again in a process.
    pub id: ClassId,
    /// The limits are for it: it is no VLAN of this node.
    pub limited: bool,
}

/// What a relay carries at most, in bytes a second; 0: as much as comes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RelayLimits {
    /// All of it, on its way out.
    pub all: u64,
    /// What it takes from each trunk.
    pub per_trunk: u64,
    /// What it carries of each class.
    pub per_class: u64,
}

/// What was carried of one class.
#[derive(Default)]
pub struct ClassState {
    /// Packets sent on.
    pub packets: AtomicU64,
    /// Their bytes.
    pub bytes: AtomicU64,
    /// Packets beyond the rate of their trunk or class.
    pub over_rate: AtomicU64,
    /// Packets for which there was no room.
    pub no_room: AtomicU64,
    /// What it may have now.
    pub bucket: Bucket,
}

/// A token bucket. One thread uses it: plain loads and stores.
#[derive(Default)]
pub struct Bucket {
    tokens: AtomicI64,
    filled_at: AtomicU64, // 0: never
}

impl Bucket {
    /// Takes so many bytes, if they are there. What must not starve (`urgent`) may go into debt.
    pub fn take(&self, bytes: usize, rate: u64, now: Nanos, urgent: bool) -> bool {
        let burst = burst(rate, POLICED_BURST_NS);
        let tokens = self.fill(rate, burst, now);
        let left = tokens - bytes as i64;
        if left >= 0 || urgent && left >= -burst {
            self.tokens.store(left, Ordering::Relaxed);
            return true;
        }
        false
    }

    /// Whether the next packet may go, whatever its size.
    pub fn is_open(&self, rate: u64, now: Nanos) -> bool {
        self.fill(rate, burst(rate, SHAPED_BURST_NS), now) > 0
    }

    /// The bytes went, after `is_open`.
    pub fn spend(&self, bytes: usize) {
        self.tokens.store(self.tokens.load(Ordering::Relaxed) - bytes as i64, Ordering::Relaxed);
    }

    /// When it is open again, for some packets at a time.
    pub fn opens_at(&self, rate: u64, now: Nanos) -> Nanos {
        let wanted = bytes_in(rate, SHAPED_STEP_NS).clamp(1, MIN_BURST_BYTES / 4);
        let missing = wanted - self.tokens.load(Ordering::Relaxed);
        let wait = missing.max(0) as u128 * 1_000_000_000 / u128::from(rate.max(1));
        now + Nanos::try_from(wait).unwrap_or(Nanos::MAX / 2).min(1_000_000_000)
    }

    fn fill(&self, rate: u64, burst: i64, now: Nanos) -> i64 {
        let (tokens, at) = (self.tokens.load(Ordering::Relaxed), self.filled_at.load(Ordering::Relaxed));
        let gained = if at == 0 { burst } else { bytes_in(rate, now.saturating_sub(at)) };
        if gained == 0 {
            return tokens; // not so long that a byte came: `filled_at` stays
        }
        let filled = tokens.saturating_add(gained).min(burst);
        self.tokens.store(filled, Ordering::Relaxed);
        self.filled_at.store(now.max(1), Ordering::Relaxed);
        filled
    }
}

fn burst(rate: u64, ns: Nanos) -> i64 {
    bytes_in(rate, ns).max(MIN_BURST_BYTES)
}

fn bytes_in(rate: u64, ns: Nanos) -> i64 {
    i64::try_from(u128::from(rate) * u128::from(ns) / 1_000_000_000).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SECOND: Nanos = 1_000_000_000;

    #[test]
    fn what_must_not_starve_goes_into_debt_and_no_further() {
        let bucket = Bucket::default();
        let taken = (0..1000).take_while(|_| bucket.take(1000, 1000, SECOND, false)).count();
        assert_eq!(taken, 65, "64 KiB at once");
        let urgent = (0..1000).take_while(|_| bucket.take(1000, 1000, SECOND, true)).count();
        assert_eq!(urgent, 66);
        assert!(!bucket.take(1000, 1000, SECOND, true));
    }

    #[test]
    fn a_shaped_bucket_says_when_it_opens() {
        let (bucket, rate) = (Bucket::default(), 1_000_000);
        assert!(bucket.is_open(rate, SECOND));
        bucket.spend(100_000);
        assert!(!bucket.is_open(rate, SECOND));
        let at = bucket.opens_at(rate, SECOND);
        assert!(at > SECOND && bucket.is_open(rate, at));
    }

    proptest! {
        #[test]
        fn over_any_time_no_more_passes_than_rate_and_burst(
            rate in 1u64..10_000_000_000, gaps in prop::collection::vec(0u64..50_000_000, 1..200), size in 1usize..9000)
        {
            let bucket = Bucket::default();
            let (mut now, mut passed) = (SECOND, 0i64);
            for gap in gaps {
                now += gap;
                for _ in 0..50 {
                    passed += if bucket.take(size, rate, now, false) { size as i64 } else { 0 };
                }
            }
            prop_assert!(passed <= burst(rate, POLICED_BURST_NS) + bytes_in(rate, now - SECOND) + 1);
        }
    }
}
