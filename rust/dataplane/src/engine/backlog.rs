//! Frames that were read from a port and wait for their turn.
//!
//! A TAP queues by count: 1000 small frames are a short wait, 1000 super-frames are 60 MB. So the loop reads ahead, and the
//! queue that a flow fills is here, where it is bounded in bytes and in time: the newest frame is dropped at the entry, early.
//!
//! ```text
//!     arena:  ├ frame ┼ frame ┼ … ┤ free ├ oldest frame ┼ frame ┼ … ┤      a ring in whole frames
//!                                 head
//! ```

use std::collections::VecDeque;
use std::ops::Range;

use super::FRAME_BYTES;
use crate::Nanos;
use crate::offload::{VIRTIO_BYTES, Virtio};

/// Bytes that may wait per port (ours, measured: docs/decisions/0014).
pub(super) const LIMIT_BYTES: usize = 1 << 20;
/// Frames that may wait per port (ours); what is more waits in the TAP.
const LIMIT_FRAMES: usize = 1024;
/// A longer backlog takes nothing while its oldest frame is late (ours: two super-frames).
const SHORT_BYTES: usize = 128 << 10;
/// A frame that waited longer is late (DATAPATH: 5 ms).
const LATE_NS: Nanos = 5_000_000;
/// Room for one read.
const READ_BYTES: usize = VIRTIO_BYTES + FRAME_BYTES;

/// A frame behind the place for its virtio header.
struct Waiting {
    place: Range<usize>,
    virtio: Virtio,
    read_at: Nanos,
}

/// The frames of one port, oldest first.
pub(super) struct Backlog {
    arena: Box<[u8]>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    head: usize,
}

impl Backlog {
    /// Memory is touched only as far as frames wait.
    pub(super) fn new() -> Self {
        let arena = vec![0; LIMIT_BYTES + 3 * READ_BYTES].into_boxed_slice();
        Self { arena, waiting: VecDeque::new(), bytes: 0, head: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many frames wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Whether the next frame should be dropped.
    pub(super) fn is_long(&self, now: Nanos) -> bool {
        let late = self.waiting.front().is_some_and(|oldest| now.saturating_sub(oldest.read_at) > LATE_NS);
        self.bytes >= LIMIT_BYTES || late && self.bytes >= SHORT_BYTES
    }

    /// Room for a read; None when the port has to wait.
    pub(super) fn room(&mut self) -> Option<&mut [u8]> {
        if self.waiting.len() >= LIMIT_FRAMES {
            return None;
        }
        let oldest = self.waiting.front().map(|oldest| oldest.place.start);
        if oldest.is_none() || self.head + READ_BYTES > self.arena.len() && oldest.is_some_and(|at| at <= self.head) {
            self.head = 0;
        }
        let end = self.head + READ_BYTES;
        let free = end <= self.arena.len() && oldest.is_none_or(|at| at < self.head || at >= end);
        // Equal places mean that the ring is full: frames are never empty.
        (free && oldest != Some(self.head)).then(|| &mut self.arena[self.head..end])
    }

    /// The room holds a frame of so many bytes now.
    pub(super) fn push(&mut self, length: usize, virtio: Virtio, now: Nanos) {
        let start = self.head + VIRTIO_BYTES;
        self.waiting.push_back(Waiting { place: start..start + length, virtio, read_at: now });
        self.bytes += length;
        self.head = start + length;
    }

    /// Takes the oldest frame out.
    pub(super) fn pop(&mut self) -> Option<(&mut [u8], Virtio)> {
        let Waiting { place, virtio, .. } = self.waiting.pop_front()?;
        self.bytes -= place.len();
        Some((&mut self.arena[place], virtio))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(backlog: &mut Backlog, mark: u8, length: usize, now: Nanos) -> bool {
        let Some(room) = backlog.room() else { return false };
        room[VIRTIO_BYTES..VIRTIO_BYTES + length].fill(mark);
        backlog.push(length, Virtio::default(), now);
        true
    }

    #[test]
    fn a_backlog_is_long_by_bytes_or_when_it_is_late() {
        let mut backlog = Backlog::new();
        put(&mut backlog, 0, SHORT_BYTES / 3, 0);
        assert!(!backlog.is_long(2 * LATE_NS));
        for _ in 0..3 {
            put(&mut backlog, 0, SHORT_BYTES / 3, 0);
        }
        assert!(!backlog.is_long(LATE_NS) && backlog.is_long(LATE_NS + 1));
        while backlog.bytes < LIMIT_BYTES {
            assert!(put(&mut backlog, 0, 60_000, LATE_NS));
        }
        assert!(backlog.is_long(LATE_NS));
    }

    #[test]
    fn many_small_frames_are_left_to_the_tap() {
        let mut backlog = Backlog::new();
        let taken = (0..5000).take_while(|_| put(&mut backlog, 1, 64, 0)).count();
        assert_eq!(taken, LIMIT_FRAMES);
        assert!(!backlog.is_long(0));
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in(steps in prop::collection::vec((any::<bool>(), 14usize..FRAME_BYTES), 1..300)) {
            let mut backlog = Backlog::new();
            let mut model = VecDeque::new();
            for (n, (put_one, length)) in steps.into_iter().enumerate() {
                if put_one && !backlog.is_long(0) {
                    if put(&mut backlog, n as u8, length, 0) { model.push_back((n as u8, length)); }
                    else { prop_assert!(!model.is_empty()); }
                } else {
                    let got = backlog.pop().map(|(frame, _)| (frame.iter().all(|&b| b == frame[0]), frame[0], frame.len()));
                    prop_assert_eq!(got, model.pop_front().map(|(mark, length)| (true, mark, length)));
                }
                prop_assert_eq!(backlog.bytes, model.iter().map(|(_, l)| l).sum::<usize>());
            }
        }
    }
}
