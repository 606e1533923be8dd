//! A token bucket of one number: so many a second, and some at once.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Nanos;

const NANOS_PER_S: u64 = 1_000_000_000;

/// Instead of tokens the instant at which it is full again (GCRA, ITU-T I.371), so that one number is its state. One
/// thread takes.
#[derive(Debug, Default)]
pub struct Bucket(AtomicU64);

impl Bucket {
    /// Takes so many, all or none, of `rate` (above 0) a second; what comes in `burst_ns` may go at once.
    #[inline]
    pub fn take(&self, count: u64, rate: u64, burst_ns: Nanos, now: Nanos) -> bool {
        let full_at = self.0.load(Ordering::Relaxed).max(now) + count * NANOS_PER_S / rate;
        let has_room = full_at <= now + burst_ns;
        if has_room {
            self.0.store(full_at, Ordering::Relaxed);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn over_any_time_no_more_passes_than_rate_and_burst(
            rate in 1u64..100_000, burst_ns in 1u64..4_000_000_000, gaps in prop::collection::vec(0u64..500_000_000, 1..100))
        {
            let (bucket, mut now, mut passed) = (Bucket::default(), NANOS_PER_S, 0);
            for gap in gaps {
                now += gap;
                passed += (1..=20).filter(|count| bucket.take(*count, rate, burst_ns, now)).sum::<u64>();
            }
            let most = u128::from(rate) * u128::from(now - NANOS_PER_S + burst_ns) / u128::from(NANOS_PER_S);
            // Each taking is rounded down by a nanosecond at most.
            prop_assert!(u128::from(passed) <= most + u128::from(rate * 2000 / NANOS_PER_S) + 1);
        }
    }

    #[test]
    fn it_fills_again_and_saves_up_no_more_than_its_burst() {
        let bucket = Bucket::default();
        let taken = |now| (0..1000).filter(|_| bucket.take(1, 100, 2 * NANOS_PER_S, now)).count();
        assert_eq!([taken(0), taken(NANOS_PER_S / 2), taken(60 * NANOS_PER_S)], [200, 50, 200]);
    }
}
