//! The inbound half: every packet of every carrier, hop open, forward, hand over to delivery. It alone owns replay state.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::READS_PER_TURN;
use super::deliver::Delivery;
use super::live::Live;
use super::probes::Probes;
use super::send::{SendBatch, Turn};
use super::share::{Room, Run, Share, add};
use super::shared::{Loop, Shared};
use crate::drops::DropReason;
use crate::events::Event;
use crate::keys::HopReceiveKey;
use crate::packet::{self, FLAG_INTRO, HopFields, MIN_FRAME_PACKET_BYTES, PROBE_BYTES, PROBE_REPLY_BYTES, PacketType};
use crate::stream::{Lane, next_packet_untrusted};
use crate::sys::udp::{RECEIVE_SLOTS, ReceiveBuffers, Received};
use crate::sys::{Epoll, Ready};
use crate::tables::{Hop, Label};
use crate::udp::Address;
use crate::verify::Verifier;
use crate::{ClassId, Nanos, TrunkId};

/// Epoll numbers; the outbound half has those of ports and `u64::MAX`.
pub(super) const WAKE: u64 = u64::MAX - 1;
const UDP: u64 = u64::MAX - 2;
/// Batches from the stream ring per turn (ours).
const STREAM_PER_TURN: usize = 2;
/// Bytes received by udp per turn (DATAPATH), so that the streams get theirs.
const BYTES_PER_TURN: usize = 256 << 10;
/// While packets wait for their turn so many times as much is received, so that the socket overflows for nobody (ours).
const READ_AHEAD: usize = 4;
/// Bytes of waiting packets sent on per turn: as many as are received in a usual one.
const SERVED_PER_TURN: usize = BYTES_PER_TURN;
/// When messages are larger than this they come one by one, so that each is opened while it is in the cache (ours).
const LARGE_MESSAGE_BYTES: usize = 8 << 10;
/// Verdicts per turn (ours).
const VERDICTS_PER_TURN: usize = 64;
/// Source events per trunk: at most one in so long (contract: 1/s).
const SOURCE_EVENT_NS: Nanos = 1_000_000_000;

/// By what a packet came.
#[derive(Clone, Copy)]
pub(super) enum From {
    Udp(Address),
    Stream(TrunkId),
}

pub(super) struct Inbound {
    shared: Arc<Shared>,
    delivery: Delivery,
    probes: Probes,
    generation: u64,
    turn: usize,
    timers_at: Nanos,
    /// More waits than a turn takes.
    more: bool,
    source_told_at: HashMap<TrunkId, Nanos>,
    buffers: ReceiveBuffers,
    large_messages: bool,
    forward: SendBatch,
    heard: Heard,
    run: Run,
    share: Share,
    served: Vec<u32>,
    share_due: Option<Nanos>,
}

/// Authentic packets of one trunk in a row, noted in its state together.
#[derive(Default)]
struct Heard {
    trunk: usize,
    by_udp: bool,
    packets: usize,
    bytes: usize,
}

impl Heard {
    fn note(&mut self, live: &Live, trunk: usize, by_udp: bool, bytes: usize, now: Nanos) {
        if (self.trunk, self.by_udp) != (trunk, by_udp) {
            self.tell(live, now);
        }
        *self = Self { trunk, by_udp, packets: self.packets + 1, bytes: self.bytes + bytes };
    }

    fn tell(&mut self, live: &Live, now: Nanos) {
        if self.packets > 0 {
            live.trunks[self.trunk].heard(now, self.packets, self.bytes, self.by_udp);
        }
        *self = Self::default();
    }
}

impl Inbound {
    pub(super) fn new(shared: Arc<Shared>, epoll: &Epoll, verifier: Verifier) -> io::Result<Self> {
        epoll.add(shared.wake_in.fd(), WAKE)?;
        epoll.add(&shared.udp.0.fd, UDP)?;
        Ok(Self {
            delivery: Delivery::new(Arc::clone(&shared), verifier),
            probes: Probes::new(Arc::clone(&shared)),
            shared,
            generation: 0,
            turn: 0,
            timers_at: Nanos::MAX,
            more: false,
            source_told_at: HashMap::new(),
            buffers: ReceiveBuffers::new(),
            large_messages: false,
            forward: SendBatch::default(),
            heard: Heard::default(),
            run: Run::default(),
            share: Share::default(),
            served: Vec::new(),
            share_due: None,
        })
    }

    /// When `turn` has something to do of itself; 0 = now.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let timers_at = Some(self.timers_at).filter(|&at| at != Nanos::MAX);
        if self.more {
            Some(0)
        } else {
            timers_at.into_iter().chain(self.share_due).chain(self.delivery.next_deadline()).min()
        }
    }

    pub(super) fn turn(&mut self, live: &Live, ready: &[Ready], now: Nanos) {
        let woken = ready.iter().any(|r| r.token == WAKE);
        self.adopt(live, now);
        self.turn = self.turn.wrapping_add(1);
        let udp_ready = ready.iter().any(|r| r.token == UDP);
        // The two sources take turns in going first.
        if self.turn.is_multiple_of(2) {
            self.drain_udp(live, udp_ready, now);
            self.drain_stream(live, now);
        } else {
            self.drain_stream(live, now);
            self.drain_udp(live, udp_ready, now);
        }
        self.serve(live, now);
        self.more = self.delivery.drain_verdicts(live, VERDICTS_PER_TURN, now) || !self.shared.stream_in.is_empty();
        self.delivery.flush();
        self.probes.send_asked(live, now);
        self.delivery.expire(now);
        if woken || now >= self.timers_at {
            self.run_timers(live, now);
        }
    }

    /// Twice: a packet that left before `inbound_wakes_at` was set did not wake this loop, so look for it once more.
    fn run_timers(&mut self, live: &Live, now: Nanos) {
        for _ in 0..2 {
            self.timers_at = self.probes.run_timers(live, now);
            self.shared.inbound_wakes_at.store(self.timers_at, Ordering::SeqCst);
        }
    }

    fn adopt(&mut self, live: &Live, now: Nanos) {
        self.delivery.adopt_ports(self.shared.ports.load_full());
        if live.generation == self.generation {
            return;
        }
        self.generation = live.generation;
        self.probes.adopt(live, now);
        self.run_timers(live, now);
        self.source_told_at.retain(|&trunk, _| live.tables.trunk(trunk).is_some());
        self.delivery.adopt_tables(live, now);
        self.shared.note_applied(Loop::Inbound, live.generation);
    }

    fn drain_udp(&mut self, live: &Live, ready: bool, now: Nanos) {
        if !ready {
            self.share.note_socket(true, now);
            return;
        }
        let ahead = if self.share.is_empty() && !self.share.is_behind(now) { 1 } else { READ_AHEAD };
        let mut emptied = false;
        let mut buffers = std::mem::take(&mut self.buffers);
        let mut received = [Received::default(); RECEIVE_SLOTS];
        let mut bytes = 0;
        for _ in 0..READS_PER_TURN * ahead {
            let batch = self.shared.allowed.mmsg && !self.large_messages;
            // Any error ends the turn: a real one (ENOMEM) is not the packets' fault and epoll asks again.
            let Ok(count) = self.shared.udp.0.receive(&mut buffers, &mut received, batch) else {
                emptied = true;
                break;
            };
            let before = bytes;
            for (n, message) in received[..count].iter().enumerate() {
                let Some(from) = message.from else { continue };
                let start = ReceiveBuffers::start(n);
                for at in (0..message.length).step_by(message.segment) {
                    let place = start + at..start + message.length.min(at + message.segment);
                    let result = self.on_packet(live, buffers.bytes_mut(), place, From::Udp(from), now);
                    self.shared.count(result);
                }
                bytes += message.length;
            }
            self.end_batch(live, buffers.bytes(), now);
            self.delivery.flush_if_long();
            self.large_messages = bytes - before > count * LARGE_MESSAGE_BYTES;
            emptied = batch && count < RECEIVE_SLOTS;
            if emptied || bytes >= BYTES_PER_TURN * ahead {
                break;
            }
        }
        self.share.note_socket(emptied, now);
        self.delivery.flush();
        self.buffers = buffers;
    }

    fn drain_stream(&mut self, live: &Live, now: Nanos) {
        for _ in 0..STREAM_PER_TURN {
            let Some((trunk, mut batch)) = self.shared.stream_in.pop() else { break };
            let mut at = 0;
            while at < batch.len() {
                let Some(place) = next_packet_untrusted(&batch, at) else {
                    self.shared.drops.count(DropReason::StreamMalformed);
                    break;
                };
                at = place.end;
                let result = self.on_packet(live, &mut batch, place, From::Stream(trunk), now);
                self.shared.count(result);
            }
            self.end_batch(live, &batch, now);
            self.delivery.flush_if_long();
        }
        self.delivery.flush();
    }

    /// After what came together was handled, while it is still there.
    fn end_batch(&mut self, live: &Live, arena: &[u8], now: Nanos) {
        self.heard.tell(live, now);
        self.run.end(live);
        let shared = Arc::clone(&self.shared);
        self.forward.flush(Turn { shared: &shared, live, now }, arena);
    }

    /// A packet at a place of what was received.
    fn on_packet(
        &mut self,
        live: &Live,
        arena: &mut [u8],
        place: Range<usize>,
        from: From,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let packet = &mut arena[place.clone()];
        if packet.len() < PROBE_BYTES {
            return Err(DropReason::TooShort);
        }
        let (at, key) = live.tables.receive_key(packet::index_untrusted(packet)).ok_or(DropReason::UnknownIndex)?;
        let trunk = live.tables.trunks[*at].id;
        if matches!(from, From::Stream(of) if of != trunk) {
            return Err(DropReason::WrongCarrier);
        }
        if key.is_given_up() {
            return Err(DropReason::KeyExhausted);
        }
        let kind = packet::type_untrusted(packet).ok_or(DropReason::BadType)?;
        match (kind, from) {
            (PacketType::Frame, _) => {
                if packet.len() < MIN_FRAME_PACKET_BYTES {
                    return Err(DropReason::TooShort);
                }
                let opened = packet::open_hop_untrusted(packet, key);
                let fields = self.admit(live, *at, key, opened, packet.len(), from, now)?;
                self.on_frame(live, (*at, trunk), arena, place, &fields, now)
            }
            (_, From::Stream(_)) => Err(DropReason::WrongCarrier),
            (PacketType::Probe, From::Udp(address)) => {
                if packet.len() != PROBE_BYTES {
                    return Err(DropReason::BadProbe);
                }
                let opened = packet::open_probe_untrusted(packet, key);
                let id = self.admit(live, *at, key, opened, packet.len(), from, now)?;
                self.probes.answer(live, *at, &id, &address)
            }
            (PacketType::ProbeReply, From::Udp(_)) => {
                if packet.len() != PROBE_REPLY_BYTES {
                    return Err(DropReason::BadProbe);
                }
                let opened = packet::open_probe_untrusted(packet, key);
                let id = self.admit(live, *at, key, opened, packet.len(), from, now)?;
                self.probes.on_reply(live, trunk, &id, now)
            }
        }
    }

    /// After the hop tag: the window, then what an authentic packet tells about its trunk.
    #[allow(clippy::too_many_arguments)] // one packet's facts, used once
    fn admit<T>(
        &mut self,
        live: &Live,
        at: usize,
        key: &HopReceiveKey,
        opened: Option<(u64, T)>,
        length: usize,
        from: From,
        now: Nanos,
    ) -> Result<T, DropReason> {
        let Some((counter, inside)) = opened else {
            key.count_failed_open();
            return Err(DropReason::HopAuth);
        };
        let mut window = key.window();
        let newest = window.is_newest(counter);
        window.accept(counter).map_err(|_| DropReason::HopReplay)?;
        drop(window);
        self.heard.note(live, at, matches!(from, From::Udp(_)), length, now);
        if let (From::Udp(address), true) = (from, newest) {
            self.check_source(live, at, &address, now);
        }
        Ok(inside)
    }

    /// Tells when a trunk's newest packets come from elsewhere; `remote` changes by the control plane only.
    fn check_source(&mut self, live: &Live, at: usize, address: &Address, now: Nanos) {
        let trunk = &live.tables.trunks[at];
        if trunk.remote.is_some_and(|remote| remote.ip == address.ip && remote.port == address.port) {
            return;
        }
        let told_at = self.source_told_at.get(&trunk.id);
        if told_at.is_none_or(|&at| now >= at + SOURCE_EVENT_NS) {
            self.source_told_at.insert(trunk.id, now);
            self.shared.tell(Event::Source { trunk: trunk.id, address: *address });
        }
    }

    fn on_frame(
        &mut self,
        live: &Live,
        (at, trunk): (usize, TrunkId),
        arena: &mut [u8],
        place: Range<usize>,
        fields: &HopFields,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if fields.flags & !FLAG_INTRO != 0 {
            return Err(DropReason::BadFlags);
        }
        let label = live.tables.label((trunk, fields.label)).ok_or(DropReason::UnknownLabel)?;
        let forwarded = self.carry(live, (at, trunk), arena, place.clone(), fields, label, now);
        if label.deliver.is_some() {
            self.shared.count(forwarded);
            return self.delivery.on_packet(live, &arena[place], fields, label, trunk, now);
        }
        forwarded
    }

    /// What is to be sent on goes at once, or waits for its turn, or is beyond a rate.
    #[allow(clippy::too_many_arguments)] // one packet's facts, used once
    fn carry(
        &mut self,
        live: &Live,
        (at, trunk): (usize, TrunkId),
        arena: &mut [u8],
        place: Range<usize>,
        fields: &HopFields,
        label: &Label,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let ways = ways_out(live, label, trunk);
        if ways == 0 {
            return if label.deliver.is_some() || label.group { Ok(()) } else { Err(DropReason::NoTrunk) };
        }
        if fields.hop_limit <= 1 {
            return Err(DropReason::HopLimit);
        }
        let lane = if fields.flags & FLAG_INTRO != 0 { Lane::Control } else { Lane::Data };
        let Some(class) = label.class else {
            return self.forward(live, trunk, arena, place, fields, label, lane, now);
        };
        let (is_new, class_at) = self.run.follow(live, (trunk, class));
        if is_new {
            self.share.note((trunk, class), now);
        }
        let limits = &live.tables.limits;
        let class_at = class_at.filter(|&class| live.tables.classes[class].limited);
        if let Some(class_at) = class_at {
            let (bytes, urgent, state) = (place.len(), lane == Lane::Control, &live.classes[class_at]);
            if limits.per_trunk != 0 && !live.trunks[at].carried.take(bytes, limits.per_trunk, now, urgent) {
                add(&state.over_rate, 1);
                return Err(DropReason::RelayTrunkRate);
            }
            if limits.per_class != 0 && !state.bucket.take(bytes * ways, limits.per_class, now, urgent) {
                add(&state.over_rate, 1);
                return Err(DropReason::RelayVlanRate);
            }
        }
        let rate = if class_at.is_some() { limits.all } else { 0 };
        if self.share.holds(rate, now) {
            return self.wait(live, (trunk, class), &arena[place], fields, lane);
        }
        self.run.count(ways, place.len() * ways);
        if rate != 0 {
            self.share.spend(place.len() * ways);
        }
        self.forward(live, trunk, arena, place, fields, label, lane, now)
    }

    fn wait(
        &mut self,
        live: &Live,
        key: (TrunkId, ClassId),
        packet: &[u8],
        fields: &HopFields,
        lane: Lane,
    ) -> Result<(), DropReason> {
        let packet_bytes = live.tables.trunks.iter().map(|trunk| trunk.max_payload).max().unwrap_or(packet.len());
        let room = Room { packet_bytes, rate: live.tables.limits.all };
        let no_room = |class: ClassId| {
            if let Some(class) = live.tables.class(class) {
                add(&live.classes[class].no_room, 1);
            }
        };
        let pushed_out = |class: ClassId| {
            no_room(class);
            self.shared.drops.count(DropReason::RelayFull);
        };
        self.share.push(key, packet, fields, lane, room, pushed_out).inspect_err(|_| no_room(key.1))
    }

    /// Sends on what waits, in turn, as far as the rate of all and the turn allow.
    fn serve(&mut self, live: &Live, now: Nanos) {
        self.share_due = None;
        if self.share.is_empty() {
            return;
        }
        let rate = live.tables.limits.all;
        let mut arena = std::mem::take(&mut self.share.arena);
        let mut bytes = 0;
        while bytes < SERVED_PER_TURN && self.share.is_open(rate, now) {
            let Some(next) = self.share.next() else { break };
            self.served.push(next.slot);
            let length = next.place.len();
            bytes += length;
            let Some(label) = live.tables.label((next.trunk, next.fields.label)) else {
                self.shared.drops.count(DropReason::UnknownLabel); // the tables changed meanwhile
                continue;
            };
            let ways = ways_out(live, label, next.trunk);
            if let (Some(class), true) = (label.class, ways > 0) {
                let (_, class_at) = self.run.follow(live, (next.trunk, class));
                self.run.count(ways, length * ways);
                if rate != 0 && class_at.is_some_and(|class| live.tables.classes[class].limited) {
                    self.share.spend(length * ways);
                }
            }
            let sent = self.forward(live, next.trunk, &mut arena, next.place, &next.fields, label, next.lane, now);
            self.shared.count(sent);
        }
        self.end_batch(live, &arena, now);
        self.share.arena = arena;
        self.share.free(&mut self.served);
        self.share_due = self.share.due(rate, now);
        self.shared.relay_waiting.store(self.share.bytes() as u64, Ordering::Relaxed);
    }

    /// Seals the header again for each way out but the one it came by, or for the backup of the only one; the body stays as
    /// it is, where it is.
    #[allow(clippy::too_many_arguments)] // one packet's facts, used once
    fn forward(
        &mut self,
        live: &Live,
        trunk: TrunkId,
        arena: &mut [u8],
        place: Range<usize>,
        fields: &HopFields,
        label: &Label,
        lane: Lane,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let instead = way_instead(live, label);
        let out = instead.as_ref().map_or(&label.out[..], std::slice::from_ref);
        let hop_limit = fields.hop_limit.saturating_sub(1);
        let turn = Turn { shared: &self.shared, live, now };
        let mut ways = out.iter().filter(|(out, _)| *out != trunk).peekable();
        while let Some(&(out, label)) = ways.next() {
            if self.forward.is_full() {
                self.forward.flush(turn, arena);
            }
            let fields = HopFields { label, hop_limit, ..*fields };
            let last = ways.peek().is_none();
            self.shared.count(self.forward.push(turn, out, arena, place.clone(), &fields, lane, last));
        }
        Ok(())
    }
}

/// The one way of a unicast label, or its backup while that is down.
fn way_instead(live: &Live, label: &Label) -> Option<Hop> {
    label.out.first().map(|&hop| live.way(hop, label.backup)).filter(|_| label.backup.is_some())
}

/// By how many trunks a packet that came by this one goes on.
fn ways_out(live: &Live, label: &Label, trunk: TrunkId) -> usize {
    let instead = way_instead(live, label);
    let out = instead.as_ref().map_or(&label.out[..], std::slice::from_ref);
    out.iter().filter(|(out, _)| *out != trunk).count()
}
