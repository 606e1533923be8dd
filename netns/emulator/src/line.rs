//! One direction of the link, as a value: frames and a time go in, frames that are due come out. No clock and no device here.

use crate::random::Random;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Bytes under way in one direction at most; ours: bounds the memory, far above any delay times rate we emulate.
pub const MAX_QUEUED_BYTES: usize = 64 << 20;

/// What happens to frames. Times in nanoseconds, probabilities from 0 to 1.
#[derive(Clone, Debug, Default)]
pub struct Impairment {
    pub delay_ns: u64,
    /// Uniform, plus or minus; keeps the order.
    pub jitter_ns: u64,
    pub loss: f64,
    pub duplicate: f64,
    /// Probability that a frame is held back by `gap_ns`, so that later ones overtake it.
    pub reorder: f64,
    pub gap_ns: u64,
    /// Bits per second; 0 = no limit.
    pub rate_bps: u64,
    /// Longest wait for the rate before a frame is dropped at the tail.
    pub queue_ns: u64,
}

#[derive(Clone, Debug, Default)]
pub struct Counters {
    pub received: u64,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub queue_full: u64,
    pub delivered: u64,
}

type Entry = Reverse<(u64, u64, Vec<u8>)>; // due, order of arrival, frame

pub struct Line {
    impairment: Impairment,
    random: Random,
    waiting: BinaryHeap<Entry>,
    waiting_bytes: usize,
    spare: Vec<Vec<u8>>,
    arrivals: u64,
    link_free_at: u64,
    last_due: u64,
    pub counters: Counters,
}

impl Line {
    pub fn new(impairment: Impairment, seed: u64) -> Line {
        Line {
            impairment,
            random: Random::new(seed),
            waiting: BinaryHeap::new(),
            waiting_bytes: 0,
            spare: Vec::new(),
            arrivals: 0,
            link_free_at: 0,
            last_due: 0,
            counters: Counters::default(),
        }
    }

    /// A frame entered the link at `now`.
    pub fn offer(&mut self, frame: &[u8], now: u64) {
        self.counters.received += 1;
        // Every frame draws the same count of numbers, so one setting does not shift the others' outcome.
        let lost = self.random.happens(self.impairment.loss);
        let duplicated = self.random.happens(self.impairment.duplicate);
        let reordered = self.random.happens(self.impairment.reorder);
        let jitter = (self.random.unit() * 2.0 - 1.0) * self.impairment.jitter_ns as f64;
        if lost {
            self.counters.lost += 1;
            return;
        }
        let Some(sent_at) = self.sent_at(frame.len(), now) else {
            self.counters.queue_full += 1;
            return;
        };
        let delay = (self.impairment.delay_ns as f64 + jitter).max(0.0) as u64;
        let mut due = (sent_at + delay).max(self.last_due);
        if reordered {
            self.counters.reordered += 1;
            due += self.impairment.gap_ns;
        } else {
            self.last_due = due;
        }
        self.enqueue(frame, due);
        if duplicated {
            self.counters.duplicated += 1;
            self.enqueue(frame, due);
        }
    }

    /// The next frame whose time has come. Give its buffer back with `recycle`.
    pub fn take_due(&mut self, now: u64) -> Option<Vec<u8>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse((_, _, frame)) = self.waiting.pop()?;
        self.waiting_bytes -= frame.len();
        Some(frame)
    }

    pub fn next_due(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse((due, _, _))| *due)
    }

    pub fn recycle(&mut self, frame: Vec<u8>) {
        if self.spare.len() < 4096 {
            self.spare.push(frame);
        }
    }

    /// When the last bit of the frame has left under the rate; None where the queue is full.
    fn sent_at(&mut self, bytes: usize, now: u64) -> Option<u64> {
        if self.waiting_bytes + bytes > MAX_QUEUED_BYTES {
            return None;
        }
        if self.impairment.rate_bps == 0 {
            return Some(now);
        }
        let start = self.link_free_at.max(now);
        if start - now > self.impairment.queue_ns {
            return None;
        }
        self.link_free_at = start + bytes as u64 * 8 * 1_000_000_000 / self.impairment.rate_bps;
        Some(self.link_free_at)
    }

    fn enqueue(&mut self, frame: &[u8], due: u64) {
        let mut copy = self.spare.pop().unwrap_or_default();
        copy.clear();
        copy.extend_from_slice(frame);
        self.waiting_bytes += copy.len();
        self.waiting.push(Reverse((due, self.arrivals, copy)));
        self.arrivals += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(line: &mut Line, now: u64) -> Vec<u8> {
        std::iter::from_fn(|| line.take_due(now)).map(|frame| frame[0]).collect()
    }

    #[test]
    fn a_frame_waits_its_delay_and_no_longer() {
        let mut line = Line::new(Impairment { delay_ns: 100, ..Impairment::default() }, 1);
        line.offer(&[1], 5);
        assert_eq!(drain(&mut line, 104), []);
        assert_eq!(drain(&mut line, 105), [1]);
    }

    #[test]
    fn jitter_keeps_the_order() {
        let mut line = Line::new(Impairment { delay_ns: 1000, jitter_ns: 900, ..Impairment::default() }, 3);
        (0..100u8).for_each(|i| line.offer(&[i], u64::from(i)));
        assert_eq!(drain(&mut line, u64::MAX), (0..100u8).collect::<Vec<_>>());
    }

    #[test]
    fn a_reordered_frame_is_overtaken() {
        let mut line = Line::new(Impairment { reorder: 0.5, gap_ns: 10, ..Impairment::default() }, 3);
        (0..100u8).for_each(|i| line.offer(&[i], u64::from(i)));
        let order = drain(&mut line, u64::MAX);
        assert_eq!(order.len(), 100);
        assert!(order.windows(2).any(|pair| pair[0] > pair[1]));
        assert!(line.counters.reordered > 20);
    }

    #[test]
    fn loss_and_duplication_follow_their_probability() {
        let mut line = Line::new(Impairment { loss: 0.2, duplicate: 0.1, ..Impairment::default() }, 9);
        for _ in 0..100_000 {
            line.offer(&[0], 0);
            while line.take_due(0).is_some() {}
        }
        assert!((line.counters.lost as f64 / 100_000.0 - 0.2).abs() < 0.01);
        assert!((line.counters.duplicated as f64 / 80_000.0 - 0.1).abs() < 0.01);
    }

    #[test]
    fn the_rate_spaces_frames_and_a_full_queue_drops_the_newest() {
        let slow = Impairment { rate_bps: 8_000, queue_ns: 2_000_000, ..Impairment::default() };
        let mut line = Line::new(slow, 1);
        (0..10u8).for_each(|i| line.offer(&[i], 0)); // one byte takes 1 ms
        assert_eq!(drain(&mut line, 999_999), []);
        assert_eq!(drain(&mut line, 1_000_000), [0]);
        assert_eq!(drain(&mut line, u64::MAX), [1, 2]);
        assert_eq!(line.counters.queue_full, 7);
    }
}
