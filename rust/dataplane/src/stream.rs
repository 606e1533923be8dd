//! The stream carrier's queues between the loops and Python: outbound per trunk, inbound one ring.
//!
//! A batch is a sequence of lp(packet), at most 65,536 bytes (SPEC 2.1).

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::drops::DropReason;
use crate::{Nanos, TrunkId};

/// Bytes of one batch (SPEC 2.1).
pub const MAX_BATCH_BYTES: usize = 65_536;
/// Bytes of frames that may wait per trunk (DATAPATH: 256 KiB).
pub const MAX_QUEUE_BYTES: usize = 256 << 10;
/// A queue longer than this takes nothing while its oldest frame is late (ours: one batch).
const SHORT_QUEUE_BYTES: usize = 64 << 10;
/// A frame that waited longer is late (DATAPATH: 5 ms).
const LATE_NS: Nanos = 5_000_000;
/// Control packets that may wait per trunk, beside the frames (ours).
const MAX_CONTROL_PACKETS: usize = 64;
/// Packets that may wait inbound, for all trunks (ours).
pub const MAX_INBOUND_PACKETS: usize = 4096;
/// Bytes that may wait inbound, for all trunks (ours: 4096 packets of 2 KiB).
pub const MAX_INBOUND_BYTES: usize = 8 << 20;

/// Which lane a packet takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// Frames: the newest is dropped at the entry.
    Data,
    /// Introductions and member control: taken first.
    Control,
}

#[derive(Default)]
struct Outbound {
    control: VecDeque<Vec<u8>>,
    data: VecDeque<(Nanos, Vec<u8>)>,
    bytes: usize,
}

/// What waits for one trunk's stream.
#[derive(Default)]
pub struct OutboundQueue(Mutex<Outbound>);

impl OutboundQueue {
    /// Adds a packet; true when the queue was empty before.
    pub fn push(&self, packet: &[u8], lane: Lane, now: Nanos) -> Result<bool, DropReason> {
        let mut queue = lock(&self.0);
        let was_empty = queue.control.is_empty() && queue.data.is_empty();
        match lane {
            Lane::Control if queue.control.len() < MAX_CONTROL_PACKETS => queue.control.push_back(packet.to_vec()),
            Lane::Data if has_room(&queue, packet.len(), now) => {
                queue.bytes += packet.len();
                queue.data.push_back((now, packet.to_vec()));
            }
            _ => return Err(DropReason::StreamFull),
        }
        Ok(was_empty)
    }

    /// The next batch, control first; None when nothing waits.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.0);
        let mut batch = Vec::new();
        while queue.control.front().is_some_and(|p| fits(&batch, p)) {
            append(&mut batch, &queue.control.pop_front()?);
        }
        while queue.data.front().is_some_and(|(_, p)| fits(&batch, p)) {
            let (_, packet) = queue.data.pop_front()?;
            queue.bytes -= packet.len();
            append(&mut batch, &packet);
        }
        (!batch.is_empty()).then_some(batch)
    }
}

fn has_room(queue: &Outbound, length: usize, now: Nanos) -> bool {
    let late = queue.data.front().is_some_and(|(at, _)| now.saturating_sub(*at) > LATE_NS);
    queue.bytes + length <= MAX_QUEUE_BYTES && !(late && queue.bytes > SHORT_QUEUE_BYTES)
}

fn fits(batch: &[u8], packet: &[u8]) -> bool {
    batch.len() + 2 + packet.len() <= MAX_BATCH_BYTES
}

/// Packets are at most 65,507 bytes long.
fn append(batch: &mut Vec<u8>, packet: &[u8]) {
    batch.extend_from_slice(&(packet.len() as u16).to_be_bytes());
    batch.extend_from_slice(packet);
}

#[derive(Default)]
struct Inbound {
    packets: VecDeque<(TrunkId, Vec<u8>)>,
    bytes: usize,
}

/// What Python put in and the inbound loop takes out.
#[derive(Default)]
pub struct InboundRing(Mutex<Inbound>);

impl InboundRing {
    /// Splits a batch and adds its packets; returns one reason for each loss. What is not lp(packet) ends the batch.
    pub fn put_untrusted(&self, trunk: TrunkId, batch: &[u8]) -> Vec<DropReason> {
        if batch.len() > MAX_BATCH_BYTES {
            return vec![DropReason::StreamMalformed];
        }
        let (mut rest, mut lost) = (batch, Vec::new());
        let mut ring = lock(&self.0);
        while !rest.is_empty() {
            let Some((packet, after)) = split_lp(rest) else {
                lost.push(DropReason::StreamMalformed);
                break;
            };
            rest = after;
            if ring.packets.len() >= MAX_INBOUND_PACKETS || ring.bytes + packet.len() > MAX_INBOUND_BYTES {
                lost.push(DropReason::StreamRingFull);
                continue;
            }
            ring.bytes += packet.len();
            ring.packets.push_back((trunk, packet.to_vec()));
        }
        lost
    }

    /// The oldest packet.
    pub fn pop(&self) -> Option<(TrunkId, Vec<u8>)> {
        let mut ring = lock(&self.0);
        let (trunk, packet) = ring.packets.pop_front()?;
        ring.bytes -= packet.len();
        Some((trunk, packet))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).packets.is_empty()
    }
}

fn split_lp(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_at_checked(2)?;
    rest.split_at_checked(usize::from(u16::from_be_bytes([length[0], length[1]])))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_batch_taken_is_a_batch_put_and_control_comes_first() {
        let (queue, ring) = (OutboundQueue::default(), InboundRing::default());
        assert_eq!(queue.push(b"data", Lane::Data, 0), Ok(true));
        assert_eq!(queue.push(b"control", Lane::Control, 0), Ok(false));
        assert!(ring.put_untrusted(5, &queue.take().unwrap()).is_empty());
        assert_eq!(queue.take(), None);
        assert_eq!(ring.pop(), Some((5, b"control".to_vec())));
        assert_eq!(ring.pop(), Some((5, b"data".to_vec())));
        assert_eq!(ring.pop(), None);
    }

    #[test]
    fn a_full_or_late_queue_drops_at_the_entry_but_takes_control() {
        let queue = OutboundQueue::default();
        let packet = [0; 1024];
        let filled = (0..1000).take_while(|_| queue.push(&packet, Lane::Data, 0).is_ok()).count();
        assert_eq!(filled, 256);
        assert_eq!(queue.push(&packet, Lane::Control, 0), Ok(false));
        for _ in 0..2 {
            assert!(queue.take().unwrap().len() <= MAX_BATCH_BYTES);
        }
        assert!(queue.push(&packet, Lane::Data, LATE_NS).is_ok());
        assert_eq!(queue.push(&packet, Lane::Data, LATE_NS + 1), Err(DropReason::StreamFull));
        for _ in 0..2 {
            queue.take();
        }
        assert!(queue.push(&packet, Lane::Data, LATE_NS + 1).is_ok());
    }

    #[test]
    fn the_ring_is_bounded() {
        let ring = InboundRing::default();
        let batch = [0, 1, 7].repeat(5000);
        let lost = ring.put_untrusted(1, &batch);
        assert_eq!(lost.len(), 5000 - MAX_INBOUND_PACKETS);
        assert!(lost.iter().all(|&r| r == DropReason::StreamRingFull));
        assert_eq!(ring.put_untrusted(1, &vec![0; MAX_BATCH_BYTES + 1]), [DropReason::StreamMalformed]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let ring = InboundRing::default();
            ring.put_untrusted(1, &bytes);
            while ring.pop().is_some() {}
            prop_assert_eq!(lock(&ring.0).bytes, 0);
        }
    }
}
