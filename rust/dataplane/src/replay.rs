//! The replay window (SPEC 2.5): which counters of a key were seen.

use crate::drops::DropReason;

/// Counters that the window remembers (SPEC 2.5).
pub const WINDOW: u64 = 65_536;
const WORD_BITS: u64 = 64;
/// No key seals this counter or a later one, so none is accepted (SPEC 3.3).
pub const COUNTER_END: u64 = 1 << 32;

/// The last 65,536 counters of one key as a ring of bits, grown only as far as counters reach.
#[derive(Default)]
pub struct ReplayWindow {
    bits: Vec<u64>, // a power of two of words once not empty; bit = counter mod its length
    next: u64,      // highest seen + 1; 0 = none
    floor: u64,
}

impl ReplayWindow {
    /// A window that refuses every counter below the floor.
    pub fn with_floor(floor: u64) -> Self {
        Self { floor, ..Self::default() }
    }

    /// Whether this counter would be the highest so far.
    pub fn is_newest(&self, counter: u64) -> bool {
        counter >= self.next
    }

    /// Whether this counter may still come.
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter >= COUNTER_END || counter < self.floor || counter + WINDOW < self.next {
            return false;
        }
        counter >= self.next || self.bits[self.word(counter)] & bit(counter) == 0
    }

    /// Marks a counter as seen, after its tag or signature was found right.
    pub fn accept(&mut self, counter: u64) -> Result<(), DropReason> {
        if !self.is_fresh(counter) {
            return Err(DropReason::InnerReplay);
        }
        if counter >= self.next {
            self.grow(counter);
            self.clear(self.next, counter);
            self.next = counter + 1;
        }
        let word = self.word(counter);
        self.bits[word] |= bit(counter);
        Ok(())
    }

    fn word(&self, counter: u64) -> usize {
        (counter / WORD_BITS) as usize & (self.bits.len() - 1)
    }

    /// While counters are below the ring's length the ring has not wrapped, so it can simply get longer.
    fn grow(&mut self, counter: u64) {
        let words = counter.min(WINDOW - 1) / WORD_BITS + 1;
        let words = (words as usize).next_power_of_two();
        if words > self.bits.len() {
            self.bits.resize(words, 0);
        }
    }

    /// Forgets the counters that the ring's new part held one window ago.
    fn clear(&mut self, from: u64, to: u64) {
        if to - from >= WINDOW {
            self.bits.fill(0);
            return;
        }
        let mut counter = from;
        while counter <= to {
            let word = self.word(counter);
            if counter.is_multiple_of(WORD_BITS) && counter + WORD_BITS - 1 <= to {
                self.bits[word] = 0;
                counter += WORD_BITS;
            } else {
                self.bits[word] &= !bit(counter);
                counter += 1;
            }
        }
    }
}

fn bit(counter: u64) -> u64 {
    1 << (counter % WORD_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn window_agrees_with_a_set_of_seen_counters(
            steps in prop::collection::vec((0u64..200_000, 0u64..4), 1..400), floor in 0u64..1000)
        {
            let mut window = ReplayWindow::with_floor(floor);
            let (mut seen, mut highest) = (HashSet::new(), None::<u64>);
            let mut base = 0;
            for (step, kind) in steps {
                let counter = match kind { 0 => { base += step; base }, 1 => base + step % 70, 2 => base.saturating_sub(step), _ => base + 1 };
                let old = highest.is_some_and(|h| h >= WINDOW - 1 && counter < h - (WINDOW - 1));
                let want = counter >= floor && !old && !seen.contains(&counter);
                prop_assert_eq!(window.is_fresh(counter), want);
                prop_assert_eq!(window.accept(counter).is_ok(), want);
                if want { seen.insert(counter); highest = Some(highest.map_or(counter, |h| h.max(counter))); }
            }
        }
    }

    #[test]
    fn the_oldest_counter_of_the_window_is_highest_minus_65_535() {
        let mut window = ReplayWindow::default();
        window.accept(100_000).unwrap();
        assert!(!window.is_fresh(100_000 - 65_536));
        assert!(window.is_fresh(100_000 - 65_535));
    }

    #[test]
    fn counters_that_no_key_seals_are_refused() {
        let mut window = ReplayWindow::default();
        assert!(window.accept(u64::MAX).is_err());
        assert!(window.accept(COUNTER_END).is_err());
        window.accept(COUNTER_END - 1).unwrap();
    }

    #[test]
    fn a_young_key_needs_little_memory() {
        let mut window = ReplayWindow::default();
        window.accept(5).unwrap();
        assert_eq!(window.bits.len(), 1);
    }
}
