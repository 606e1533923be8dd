//! The stream carrier's queues between the loops and Python: outbound per trunk, inbound one ring.
//!
//! A batch is a sequence of lp(packet), at most 65,536 bytes (SPEC 2.1). Whole batches cross, in one copy each.

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
/// Batches that may wait inbound, for all trunks (ours).
pub const MAX_INBOUND_BATCHES: usize = 1024;
/// Bytes that may wait inbound, for all trunks (ours).
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
    data: VecDeque<(Nanos, Vec<u8>)>, // batches, with the time of their first packet
    bytes: usize,
}

/// What waits for one trunk's stream.
#[derive(Default)]
pub struct OutboundQueue(Mutex<Outbound>);

impl OutboundQueue {
    /// Adds a packet, given in pieces; true when the queue was empty before.
    pub fn push(&self, packet: &[&[u8]], lane: Lane, now: Nanos) -> Result<bool, DropReason> {
        let mut queue = lock(&self.0);
        let was_empty = queue.control.is_empty() && queue.data.is_empty();
        let length = packet.iter().map(|piece| piece.len()).sum::<usize>();
        match lane {
            Lane::Control if queue.control.len() < MAX_CONTROL_PACKETS => {
                let mut batch = Vec::with_capacity(2 + length);
                append(&mut batch, length, packet);
                queue.control.push_back(batch);
            }
            Lane::Data if has_room(&queue, length, now) => {
                queue.bytes += 2 + length;
                let last = queue.data.back_mut().filter(|(_, batch)| batch.len() + 2 + length <= MAX_BATCH_BYTES);
                match last {
                    Some((_, batch)) => append(batch, length, packet),
                    None => {
                        let mut batch = Vec::with_capacity(MAX_BATCH_BYTES);
                        append(&mut batch, length, packet);
                        queue.data.push_back((now, batch));
                    }
                }
            }
            _ => return Err(DropReason::StreamFull),
        }
        Ok(was_empty)
    }

    /// The next batch, control first; None when nothing waits.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut queue = lock(&self.0);
        if let Some(mut batch) = queue.control.pop_front() {
            while queue.control.front().is_some_and(|next| batch.len() + next.len() <= MAX_BATCH_BYTES) {
                batch.extend_from_slice(&queue.control.pop_front()?);
            }
            return Some(batch);
        }
        let (_, batch) = queue.data.pop_front()?;
        queue.bytes -= batch.len();
        Some(batch)
    }
}

fn has_room(queue: &Outbound, length: usize, now: Nanos) -> bool {
    let late = queue.data.front().is_some_and(|(at, _)| now.saturating_sub(*at) > LATE_NS);
    queue.bytes + 2 + length <= MAX_QUEUE_BYTES && !(late && queue.bytes > SHORT_QUEUE_BYTES)
}

/// Packets are at most 65,507 bytes long.
fn append(batch: &mut Vec<u8>, length: usize, packet: &[&[u8]]) {
    batch.extend_from_slice(&(length as u16).to_be_bytes());
    packet.iter().for_each(|piece| batch.extend_from_slice(piece));
}

#[derive(Default)]
struct Inbound {
    batches: VecDeque<(TrunkId, Vec<u8>)>,
    bytes: usize,
}

/// What Python put in and the inbound loop takes out.
#[derive(Default)]
pub struct InboundRing(Mutex<Inbound>);

impl InboundRing {
    /// Adds what came, one batch or several joined, whatever is in it.
    pub fn put_untrusted(&self, trunk: TrunkId, batch: &[u8]) -> Result<(), DropReason> {
        let mut ring = lock(&self.0);
        if ring.batches.len() >= MAX_INBOUND_BATCHES || ring.bytes + batch.len() > MAX_INBOUND_BYTES {
            return Err(DropReason::StreamRingFull);
        }
        ring.bytes += batch.len();
        ring.batches.push_back((trunk, batch.to_vec()));
        Ok(())
    }

    /// The oldest batch.
    pub fn pop(&self) -> Option<(TrunkId, Vec<u8>)> {
        let mut ring = lock(&self.0);
        let (trunk, batch) = ring.batches.pop_front()?;
        ring.bytes -= batch.len();
        Some((trunk, batch))
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        lock(&self.0).batches.is_empty()
    }
}

/// The place of the packet at the start of a batch's rest, which begins at `from`; None when that is no lp(packet).
pub fn next_packet_untrusted(batch: &[u8], from: usize) -> Option<std::ops::Range<usize>> {
    let length = batch.get(from..from + 2)?;
    let start = from + 2;
    let end = start + usize::from(u16::from_be_bytes([length[0], length[1]]));
    (end <= batch.len()).then_some(start..end)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packets(batch: &[u8]) -> Vec<&[u8]> {
        let (mut at, mut packets) = (0, Vec::new());
        while let Some(place) = next_packet_untrusted(batch, at) {
            at = place.end;
            packets.push(&batch[place]);
        }
        packets
    }

    #[test]
    fn a_batch_taken_is_a_batch_put_and_control_comes_first() {
        let (queue, ring) = (OutboundQueue::default(), InboundRing::default());
        assert_eq!(queue.push(&[b"da", b"ta"], Lane::Data, 0), Ok(true));
        assert_eq!(queue.push(&[b"more"], Lane::Data, 0), Ok(false));
        assert_eq!(queue.push(&[b"control"], Lane::Control, 0), Ok(false));
        while let Some(batch) = queue.take() {
            ring.put_untrusted(5, &batch).unwrap();
        }
        let (control, data) = (ring.pop().unwrap(), ring.pop().unwrap());
        assert_eq!((control.0, packets(&control.1)), (5, vec![&b"control"[..]]));
        assert_eq!(packets(&data.1), [b"data", b"more"]);
        assert!(ring.pop().is_none());
    }

    #[test]
    fn a_full_or_late_queue_drops_at_the_entry_but_takes_control() {
        let queue = OutboundQueue::default();
        let packet = [&[0; 1022][..]];
        let filled = (0..1000).take_while(|_| queue.push(&packet, Lane::Data, 0).is_ok()).count();
        assert_eq!(filled, 256);
        assert_eq!(queue.push(&packet, Lane::Control, 0), Ok(false));
        for _ in 0..3 {
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
        let batch = vec![0; MAX_BATCH_BYTES];
        let filled = (0..1000).take_while(|_| ring.put_untrusted(1, &batch).is_ok()).count();
        assert_eq!(filled, MAX_INBOUND_BYTES / MAX_BATCH_BYTES);
        assert_eq!(ring.put_untrusted(1, &batch), Err(DropReason::StreamRingFull));
    }

    proptest! {
        #[test]
        fn any_bytes_are_split_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
            let taken: usize = packets(&bytes).iter().map(|p| p.len() + 2).sum();
            prop_assert!(taken <= bytes.len());
        }
    }
}
