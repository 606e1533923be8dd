//! Packets on their way out: collected during a turn, grouped by trunk, sent as trains of datagrams.
//!
//! ```text
//!     arena:   ├ packet ┼ packet ┼ packet ┼ …      own packets, or those that were just received (a relay copies none)
//!     queued:  trunk, place in the arena, and for copies of one packet to several trunks a head of its own
//!     flush:   one train per run of equal size and trunk ──> sendmmsg
//! ```

use std::io::IoSlice;
use std::ops::Range;
use std::sync::atomic::Ordering;

use super::live::Live;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::events::Event;
use crate::liveness::SILENCE_NS;
use crate::packet::{BODY_AT, HopFields, INNER_TAG_AT, seal_head, seal_hop};
use crate::stream::Lane;
use crate::sys::udp::{Message, SEND_MESSAGES};
use crate::tables::Carrier;
use crate::udp::{Address, reason_of};
use crate::{Nanos, TrunkId};

/// Packets that are collected before they go (ours).
const MAX_QUEUED: usize = 512;

/// A packet that waits for the end of the turn.
struct Queued {
    /// Its trunk's place in the tables.
    trunk: usize,
    /// A head of its own, instead of the one in the arena.
    head: Option<usize>,
    place: Range<usize>,
}

/// One message of a flush.
struct Train {
    trunk: usize,
    to: Address,
    /// Which packets of the queue.
    packets: Range<usize>,
    /// Bytes of a datagram; 0: there is one.
    segment: u16,
}

/// What goes out at the end of a turn.
#[derive(Default)]
pub(super) struct SendBatch {
    queued: Vec<Queued>,
    heads: Vec<[u8; INNER_TAG_AT]>,
}

/// Where and when a turn happens.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) shared: &'a Shared,
    pub(super) live: &'a Live,
    pub(super) now: Nanos,
}

impl SendBatch {
    pub(super) fn is_full(&self) -> bool {
        self.queued.len() >= MAX_QUEUED
    }

    /// Seals the hop part of the packet at a place of the arena and lets it wait for `flush`, or for the trunk's stream.
    ///
    /// `last`: nobody needs this packet after us, so its head is written where it is.
    #[allow(clippy::too_many_arguments)] // one packet's facts, used once
    pub(super) fn push(
        &mut self,
        turn: Turn<'_>,
        trunk_id: TrunkId,
        arena: &mut [u8],
        place: Range<usize>,
        fields: &HopFields,
        lane: Lane,
        last: bool,
    ) -> Result<(), DropReason> {
        let Turn { shared, live, now } = turn;
        let at = live.tables.trunk(trunk_id).ok_or(DropReason::NoTrunk)?;
        let (trunk, state) = (&live.tables.trunks[at], &live.trunks[at]);
        let packet = &mut arena[place.clone()];
        if packet.len() > trunk.max_payload {
            return Err(DropReason::ExceedsMtu);
        }
        let down = trunk.send_stream.is_some() && state.udp_down.load(Ordering::Relaxed);
        let by_udp = trunk.carrier == Carrier::Udp && !down;
        let key = match trunk.carrier {
            Carrier::None => None,
            _ if by_udp => trunk.send_udp.as_ref().filter(|_| trunk.remote.is_some_and(|to| shared.udp.0.reaches(&to))),
            _ => trunk.send_stream.as_ref(),
        };
        let key = key.ok_or(DropReason::NoCarrier)?;
        let mut own_head = [0; BODY_AT];
        if last {
            seal_hop(packet, key, fields)?;
        } else {
            own_head[INNER_TAG_AT..].copy_from_slice(&packet[INNER_TAG_AT..BODY_AT]);
            seal_head(&mut own_head, packet.len(), key, fields)?;
        }
        if by_udp {
            let head = (!last).then(|| {
                self.heads.push(std::array::from_fn(|i| own_head[i]));
                self.heads.len() - 1
            });
            self.queued.push(Queued { trunk: at, head, place });
            return Ok(());
        }
        let (head, rest) = packet.split_at(INNER_TAG_AT);
        let head = if last { head } else { &own_head[..INNER_TAG_AT] };
        if state.stream.push(&[head, rest], lane, now)? {
            shared.tell(Event::Stream { trunk: trunk_id });
        }
        state.sent(1, packet.len());
        Ok(())
    }

    /// Sends everything that waits, trunk by trunk, each in order.
    pub(super) fn flush(&mut self, turn: Turn<'_>, arena: &[u8]) {
        if self.queued.is_empty() {
            return;
        }
        let Turn { shared, live, now } = turn;
        if self.queued.iter().any(|one| one.trunk != self.queued[0].trunk) {
            self.queued.sort_by_key(|one| one.trunk); // stable: a trunk's packets keep their order
        }
        let lengths: Vec<_> = self.queued.iter().map(|one| one.place.len()).collect();
        let mut trains = Vec::new();
        let mut from = 0;
        for run in self.queued.chunk_by(|a, b| a.trunk == b.trunk) {
            let (trunk, end) = (run[0].trunk, from + run.len());
            let state = &live.trunks[trunk];
            let Some(to) = live.tables.trunks[trunk].remote else { continue }; // `push` saw it
            if state.sent_udp(now) && shared.inbound_wakes_at.load(Ordering::SeqCst) > now + SILENCE_NS {
                shared.wake_in.signal(); // so that silence is noticed in time
            }
            let gso = shared.allowed.gso && shared.udp.0.gso;
            state.udp_path.trains(gso, &lengths[from..end], |packets, segment| {
                trains.push(Train { trunk, to, packets: from + packets.start..from + packets.end, segment });
            });
            from = end;
        }
        self.send(turn, arena, &trains);
        self.queued.clear();
        self.heads.clear();
    }

    /// Sends trains in order. What is refused goes one by one, and when the socket is full the rest is dropped.
    fn send(&self, turn: Turn<'_>, arena: &[u8], trains: &[Train]) {
        let Turn { shared, live, .. } = turn;
        let mut rest = trains;
        while !rest.is_empty() {
            let (messages, slices) = self.messages(arena, &rest[..rest.len().min(SEND_MESSAGES)]);
            let (sent, error) = shared.udp.0.send_messages(&messages, &slices, shared.allowed.mmsg);
            for train in &rest[..sent] {
                let bytes = self.queued[train.packets.clone()].iter().map(|one| one.place.len()).sum();
                live.trunks[train.trunk].sent(train.packets.len(), bytes);
            }
            rest = &rest[sent..];
            let (Some(error), Some((refused, after))) = (error, rest.split_first()) else { continue };
            let path = &live.trunks[refused.trunk].udp_path;
            let errno = error.raw_os_error().unwrap_or_default();
            let last = self.queued[refused.packets.end - 1].place.len();
            let is_even = last == usize::from(refused.segment);
            let refusal = (refused.segment != 0).then(|| path.refuse(errno, refused.segment, is_even)).flatten();
            if let Some(refusal) = refusal {
                if let Some(text) = refusal.text {
                    shared.tell(Event::Offload { trunk: live.tables.trunks[refused.trunk].id, text });
                }
                let single = |n| Train { packets: n..n + 1, segment: 0, ..*refused };
                self.send(turn, arena, &refused.packets.clone().map(single).collect::<Vec<_>>());
                rest = after;
                continue;
            }
            let reason = reason_of(&error);
            let lost = if reason == DropReason::UdpFull { rest } else { &rest[..1] };
            let packets = lost.iter().map(|train| train.packets.len() as u64).sum();
            shared.drops.add(reason, packets);
            rest = &rest[lost.len()..];
        }
    }

    /// The system's form of some trains. Neighbours in the arena are one slice.
    fn messages<'a>(&'a self, arena: &'a [u8], trains: &[Train]) -> (Vec<Message>, Vec<IoSlice<'a>>) {
        let (mut messages, mut slices) = (Vec::with_capacity(trains.len()), Vec::with_capacity(2 * trains.len()));
        for train in trains {
            let first = slices.len();
            let mut open: Option<Range<usize>> = None;
            for one in &self.queued[train.packets.clone()] {
                open = match (open, one.head) {
                    (Some(open), None) if open.end == one.place.start => Some(open.start..one.place.end),
                    (before, head) => {
                        slices.extend(before.map(|place| IoSlice::new(&arena[place])));
                        slices.extend(head.map(|head| IoSlice::new(&self.heads[head])));
                        let skip = if head.is_some() { INNER_TAG_AT } else { 0 };
                        Some(one.place.start + skip..one.place.end)
                    }
                };
            }
            slices.extend(open.map(|place| IoSlice::new(&arena[place])));
            messages.push(Message { to: train.to, first, count: slices.len() - first, segment: train.segment });
        }
        (messages, slices)
    }
}

/// Room for the packets that a turn makes itself, and what waits of them.
pub(super) struct Outgoing {
    arena: Box<[u8]>,
    used: usize,
    batch: SendBatch,
}

impl Outgoing {
    /// With room for packets of so many bytes in all.
    pub(super) fn new(bytes: usize) -> Self {
        Self { arena: vec![0; bytes].into_boxed_slice(), used: 0, batch: SendBatch::default() }
    }

    /// Room for a packet of so many bytes, which must be less than there is in all; what waits may leave for it.
    pub(super) fn slot(&mut self, turn: Turn<'_>, bytes: usize) -> &mut [u8] {
        if self.used + bytes > self.arena.len() || self.batch.is_full() {
            self.flush(turn);
        }
        &mut self.arena[self.used..self.used + bytes]
    }

    /// Bytes that wait.
    pub(super) fn bytes(&self) -> usize {
        self.used
    }

    /// The packet of so many bytes in the slot goes by one hop. `last`: after that the slot is done.
    #[allow(clippy::too_many_arguments)] // as above
    pub(super) fn push(
        &mut self,
        turn: Turn<'_>,
        trunk: TrunkId,
        bytes: usize,
        fields: &HopFields,
        lane: Lane,
        last: bool,
    ) -> Result<(), DropReason> {
        let place = self.used..self.used + bytes;
        self.batch.push(turn, trunk, &mut self.arena, place, fields, lane, last)
    }

    /// The packet in the slot stays until the flush.
    pub(super) fn keep(&mut self, bytes: usize) {
        self.used += bytes;
    }

    /// Sends everything that waits.
    pub(super) fn flush(&mut self, turn: Turn<'_>) {
        self.batch.flush(turn, &self.arena[..self.used]);
        self.used = 0;
    }
}
