//! The outbound half: port, switch, hold or seal, send.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::backlog::Backlog;
use super::deliver::POLICED_PER_EVENT;
use super::live::{Live, LiveVlan};
use super::looping::Looping;
use super::overlay::{self, Groups, Overlay};
use super::send::{Outgoing, Turn};
use super::shared::{Loop, Shared};
use super::{OUTGOING_BYTES, READS_PER_TURN, hex};
use crate::drops::DropReason;
use crate::events::Event;
use crate::frame::{Frame, Mac, is_for_bridges, is_group};
use crate::hold::{HOLD_NS, Hold};
use crate::lookup::FastMap;
use crate::loops::may_be_probe;
use crate::multicast::{Budgets, Kind, classify_untrusted};
use crate::offload::Virtio;
use crate::offload::segment::plan_untrusted;
use crate::port::{Port, Ports, Read};
use crate::storm::{Buckets, Class};
use crate::switch::{Address, Learned};
use crate::sys::{Epoll, Ready};
use crate::tables::{Vlan, Way};
use crate::vlan_keys::KIND_GROUP;
use crate::{MemberId, Nanos, PortId, Token, VlanId};

/// The epoll number of the wake-up; ports have their ids.
pub(super) const WAKE: u64 = u64::MAX;
const LAST_PORT: u64 = PortId::MAX as u64;
/// A port that reports "down", or an error without saying which, is asked again after so long (ours), so that it does not keep the loop busy.
const REST_NS: Nanos = 100_000_000;
/// Bytes read from a port per turn (DATAPATH), so that no port starves another.
const BYTES_PER_TURN: usize = 256 << 10;
/// Bytes that are sent before more is read ahead (ours: about one super-frame).
const STEP_BYTES: usize = 64 << 10;
/// What the smallest frame counts for in these budgets: the work for it is much the same (ours).
const LEAST_FRAME_COST: usize = 1024;
/// So many bytes that wait are sent before more is read (ours: half a train, so that both ends work at the same time).
const FLUSH_BYTES: usize = 32 << 10;

/// How often hosts are looked through for those that were not seen for long (ours: they live for minutes).
const SWEEP_NS: Nanos = 10_000_000_000;
/// Group addresses whose tokens are kept (ours: above the groups that tables name); then all are made again.
const MAX_TOKENS: usize = 4096;

/// For whom a frame waits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Destination {
    Member(MemberId),
    Group,
}

/// A port and what was read from it.
struct Source {
    port: Arc<Port>,
    backlog: Backlog,
    buckets: Buckets,
}

/// How reading from a port ended.
enum Filled {
    /// There may be more.
    Enough,
    /// There is nothing more now.
    Empty,
    /// The link is down; ask again later.
    Down,
    /// The descriptor is of no more use.
    Gone,
}

pub(super) struct Outbound {
    shared: Arc<Shared>,
    epoll: Arc<Epoll>,
    ports: Arc<Ports>,
    watched: FastMap<PortId, Source>,
    /// Ports with a backlog, which need no event to go on.
    unfinished: Vec<PortId>,
    resting: Vec<(Nanos, PortId)>,
    hold: Hold<(VlanId, Destination), (Virtio, Vec<u8>)>,
    generation: u64,
    turn: usize,
    out: Outgoing,
    groups: Groups,
    looping: Looping,
    /// When hosts are swept next; 0 = no VLAN has any.
    sweep_at: Nanos,
    /// Tokens of group addresses that frames were sent to. Local hosts choose the addresses.
    tokens: HashMap<(VlanId, Mac), Token>,
    budgets: Budgets,
}

impl Outbound {
    pub(super) fn new(shared: Arc<Shared>, epoll: Arc<Epoll>) -> io::Result<Self> {
        epoll.add(shared.wake_out.fd(), WAKE)?;
        Ok(Self {
            shared,
            epoll,
            ports: Arc::default(),
            watched: FastMap::default(),
            unfinished: Vec::new(),
            resting: Vec::new(),
            hold: Hold::default(),
            generation: 0,
            turn: 0,
            out: Outgoing::new(OUTGOING_BYTES),
            groups: Groups::default(),
            looping: Looping::default(),
            sweep_at: 0,
            tokens: HashMap::new(),
            budgets: Budgets::default(),
        })
    }

    /// When `turn` has something to do of itself; 0 = now.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        if !self.unfinished.is_empty() {
            return Some(0);
        }
        let resting = self.resting.iter().map(|(at, _)| *at);
        let sweep = (self.sweep_at > 0).then_some(self.sweep_at);
        let others = self.hold.next_deadline().into_iter().chain(self.groups.deadline());
        resting.chain(others).chain(self.looping.deadline()).chain(sweep).min()
    }

    pub(super) fn turn(&mut self, live: &Live, ready: &[Ready], now: Nanos) {
        self.adopt(live, now);
        self.turn = self.turn.wrapping_add(1);
        let mut sources: Vec<_> = ready.iter().filter(|r| r.token <= LAST_PORT).copied().collect();
        let rest = std::mem::take(&mut self.unfinished).into_iter().map(u64::from);
        for token in rest.filter(|&id| ready.iter().all(|r| r.token != id)) {
            sources.push(Ready { token, hung_up: false });
        }
        for n in 0..sources.len() {
            let Ready { token, hung_up } = sources[(n + self.turn) % sources.len()];
            self.serve(live, token as PortId, hung_up, now);
        }
        self.flush(live, now);
        self.expire(now);
        self.looping.turn(&self.shared, live, &self.ports, now);
        self.believe(live, now);
        if self.sweep_at > 0 && self.sweep_at <= now {
            self.sweep(live, now);
        }
    }

    /// Takes up new ports and tables.
    fn adopt(&mut self, live: &Live, now: Nanos) {
        let ports = self.shared.ports.load_full();
        if !Arc::ptr_eq(&ports, &self.ports) {
            for (_, source) in self.watched.extract_if(|id, _| !ports.contains_key(id)) {
                self.epoll.remove(&source.port.fd);
            }
            for (&id, port) in ports.iter() {
                if !self.watched.contains_key(&id) && !port.is_gone() {
                    self.watch(port);
                }
            }
            self.ports = ports;
            self.looping.adopt(live, &self.ports);
        }
        let waiting = std::mem::take(&mut self.resting);
        for (at, id) in waiting {
            match self.ports.get(&id).cloned() {
                Some(port) if at <= now => self.watch(&port),
                Some(_) => self.resting.push((at, id)),
                None => {}
            }
        }
        if live.generation != self.generation {
            self.generation = live.generation;
            self.tokens.clear(); // their keys may be others now
            self.budgets.retain(|vlan| live.tables.vlan(vlan).is_some());
            self.shared.note_applied(Loop::Outbound, live.generation);
            self.looping.adopt(live, &self.ports);
            for (vlan, state) in live.tables.vlans.iter().zip(&live.vlans) {
                if !vlan.spec.passage.forwards {
                    state.state.local_macs.clear(); // whoever forwards has those hosts
                }
            }
            for ((vlan, _), expires_at, (virtio, mut frame)) in self.hold.take() {
                let result = match live.tables.vlan(vlan) {
                    Some(at) => self.send(live, at, &mut frame, &virtio, expires_at, now),
                    None => Err(DropReason::NoVlan),
                };
                self.shared.count(result);
            }
        }
    }

    fn watch(&mut self, port: &Arc<Port>) {
        if self.epoll.add(&port.fd, u64::from(port.id)).is_ok() {
            self.watched.insert(
                port.id,
                Source { port: Arc::clone(port), backlog: Backlog::new(), buckets: Buckets::default() },
            );
        } else {
            port.set_gone();
            self.shared.drops.count(DropReason::PortGone);
        }
    }

    /// A port's turn: reads ahead, sends a train's worth, and again, within its budget.
    fn serve(&mut self, live: &Live, id: PortId, hung_up: bool, now: Nanos) {
        let Some(mut source) = self.watched.remove(&id) else { return };
        let (mut bytes, mut filled) = (0, Filled::Enough);
        while bytes < BYTES_PER_TURN {
            filled = source.fill(&self.shared, hung_up, now);
            let step_ends = bytes + STEP_BYTES;
            while bytes < step_ends {
                let Some((frame, virtio)) = source.backlog.pop() else { break };
                bytes += frame.len().max(LEAST_FRAME_COST);
                let result = self.on_frame(live, (&source.port, &source.buckets), frame, &virtio, now);
                self.shared.count(result);
                if self.out.bytes() >= FLUSH_BYTES {
                    self.flush(live, now);
                }
            }
            if !matches!(filled, Filled::Enough) && source.backlog.is_empty() {
                break;
            }
        }
        if matches!(filled, Filled::Down | Filled::Gone) {
            self.shared.drops.add(DropReason::PortDown, source.backlog.len() as u64);
        }
        match filled {
            Filled::Enough | Filled::Empty => {
                if !source.backlog.is_empty() {
                    self.unfinished.push(id);
                }
                self.watched.insert(id, source);
            }
            Filled::Down => {
                self.epoll.remove(&source.port.fd);
                self.resting.push((now + REST_NS, id));
            }
            Filled::Gone => {
                source.port.set_gone();
                self.shared.drops.count(DropReason::PortGone);
                self.epoll.remove(&source.port.fd);
            }
        }
    }

    /// What waits goes out; group frames when it is time to sign them.
    fn flush(&mut self, live: &Live, now: Nanos) {
        let turn = Turn { shared: &self.shared, live, now };
        Overlay { turn, out: &mut self.out }.sign_due(&mut self.groups);
        self.out.flush(turn);
    }

    /// One frame or super-frame.
    fn on_frame(
        &mut self,
        live: &Live,
        (port, buckets): (&Arc<Port>, &Buckets),
        bytes: &mut [u8],
        virtio: &Virtio,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let at = live.tables.vlan_of_port(port.id).ok_or(DropReason::NoVlan)?;
        let (vlan, state) = (&live.tables.vlans[at], &live.vlans[at].state);
        let frame = Frame::parse_untrusted(bytes).ok_or(DropReason::Runt)?;
        let (src, dst, vid, now_s) = (frame.src(), frame.dst(), frame.vid(), (now / 1_000_000_000) as u32);
        self.shared.say(Some(bytes), vlan.spec.id, "port read", || {
            format!("{} {} > {}, {} bytes", port.name, hex(&src), hex(&dst), bytes.len())
        });
        if may_be_probe(bytes) && self.looping.recognise_untrusted(&self.shared, vlan, port, bytes, now)? {
            return Ok(());
        }
        let passage = &vlan.spec.passage;
        if !passage.forwards {
            return Err(DropReason::PortBlocked);
        }
        if is_group(&src) {
            return Err(DropReason::BadSource);
        }
        if is_for_bridges(&dst) && !passage.bpdus {
            return Err(DropReason::Bpdu);
        }
        if vlan.spec.bridge {
            self.see(&live.vlans[at], vlan, port.id, (src, vid), now)?;
        } else if src != vlan.spec.mac {
            return Err(DropReason::ForeignMac);
        }
        if is_group(&dst) {
            self.police(&live.vlans[at], vlan, buckets, &dst, bytes.len(), now)?;
            if passage.answers && self.answers(live, at, port, bytes, now_s) {
                return Ok(());
            }
            self.to_other_ports(live, at, port.id, bytes, virtio);
            let kind = classify_untrusted(bytes);
            if matches!(kind, Kind::Router | Kind::Report) {
                self.shared.tell_multicast(&mut self.budgets, vlan.spec.id, None, bytes, now);
            }
            if kind == Kind::Report {
                return Ok(()); // control reports for its hosts, where there is a router
            }
        } else if vlan.floods {
            match state.local_macs.lookup(&dst, vid, now_s) {
                Some(place) if place == port.id => return Err(DropReason::SamePort),
                Some(place) if vlan.spec.ports.contains(&place) => return self.to_port(place, bytes, virtio),
                _ => {}
            }
            if vlan.member_by_mac(&dst).or_else(|| behind(vlan, &live.vlans[at], &dst, vid, now)).is_none() {
                self.police(&live.vlans[at], vlan, buckets, &dst, bytes.len(), now)?;
                self.to_other_ports(live, at, port.id, bytes, virtio);
            }
        }
        self.send(live, at, bytes, virtio, now + HOLD_NS, now)
    }

    /// A host speaks at a port.
    fn see(
        &mut self,
        live: &LiveVlan,
        vlan: &Vlan,
        port: PortId,
        (mac, vid): Address,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if vlan.member_by_mac(&mac).is_some() {
            return Err(DropReason::ForeignMac);
        }
        let (id, now_s) = (vlan.spec.id, (now / 1_000_000_000) as u32);
        match live.state.local_macs.refresh(&mac, vid, port, now_s) {
            Some(Learned::Refused) => Err(DropReason::MacFrozen),
            Some(_) => Ok(()),
            None if self.looping.probes(id) && behind(vlan, live, &mac, vid, now).is_some() => {
                if self.looping.comes_over(id, (mac, vid), port, now) {
                    // What comes of it from the overlay may be what another member took from this very LAN.
                    self.tell_displaced(id, &live.state.local_macs.doubt(&mac, vid, now_s));
                }
                Err(DropReason::MacMoving)
            }
            None => {
                self.learn(live, vlan, port, (mac, vid), now);
                Ok(())
            }
        }
    }

    /// A host is at a port from now on.
    fn learn(&mut self, live: &LiveVlan, vlan: &Vlan, port: PortId, (mac, vid): Address, now: Nanos) {
        let id = vlan.spec.id;
        let learned = live.state.local_macs.learn(&mac, vid, port, (now / 1_000_000_000) as u32);
        self.tell_displaced(id, &learned);
        match learned {
            Learned::New(_) => {
                if mac != vlan.spec.mac {
                    self.shared.tell(Event::MacSeen { vlan: id, mac, vid });
                }
                if self.sweep_at == 0 {
                    self.sweep_at = now + SWEEP_NS;
                }
            }
            Learned::Full => self.shared.drops.count(DropReason::MacNotLearned),
            Learned::Known | Learned::Refused => {}
        }
    }

    /// A host made room for another one.
    fn tell_displaced(&self, vlan: VlanId, learned: &Learned) {
        if let Learned::New(Some((mac, vid))) = *learned {
            self.shared.tell(Event::MacGone { vlan, mac, vid });
        }
    }

    /// Hosts that came over from other members are believed now.
    fn believe(&mut self, live: &Live, now: Nanos) {
        for (id, host, port) in self.looping.take_come_over(now) {
            let Some(at) = live.tables.vlan(id) else { continue };
            let (vlan, state) = live.vlan_at(at);
            if vlan.spec.ports.contains(&port) {
                self.learn(state, vlan, port, host, now);
            }
        }
    }

    /// Forgets hosts that were not seen for long.
    fn sweep(&mut self, live: &Live, now: Nanos) {
        self.sweep_at = 0;
        for (vlan, state) in live.tables.vlans.iter().zip(&live.vlans) {
            for (mac, vid) in state.state.local_macs.sweep((now / 1_000_000_000) as u32) {
                self.shared.tell(Event::MacGone { vlan: vlan.spec.id, mac, vid });
            }
            if !state.state.local_macs.is_empty() {
                self.sweep_at = now + SWEEP_NS;
            }
        }
    }

    /// Whether a port may bring in one more frame for all.
    fn police(
        &self,
        live: &LiveVlan,
        vlan: &Vlan,
        buckets: &Buckets,
        dst: &Mac,
        bytes: usize,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let class = Class::of(dst);
        buckets.take(&vlan.spec.passage.limits, class, bytes, now).inspect_err(|_| {
            if live.state.policed.fetch_add(1, Ordering::Relaxed).is_multiple_of(POLICED_PER_EVENT) {
                self.shared.tell(Event::Storm { vlan: vlan.spec.id, member: None, class: class.name() });
            }
        })
    }

    /// Whether a question for an address was answered here; what a host says of itself is noted.
    fn answers(&self, live: &Live, at: usize, port: &Port, bytes: &[u8], now_s: u32) -> bool {
        let (vlan, live) = live.vlan_at(at);
        let Some(vid) = Frame::parse_untrusted(bytes).map(|frame| frame.vid()) else { return false };
        live.state.neighbours.hear_local_untrusted(bytes, vid);
        let is_placed =
            |mac: &Mac| vlan.member_by_mac(mac).is_some() || live.state.remote_macs.lookup(mac, vid, now_s).is_some();
        let Some(answer) = live.state.neighbours.answer_untrusted(bytes, vid, now_s, is_placed) else { return false };
        live.state.answered.fetch_add(1, Ordering::Relaxed);
        self.shared.count(port.write(&answer));
        true
    }

    /// Sends a frame into the overlay, or lets it wait until `expires_at`.
    fn send(
        &mut self,
        live: &Live,
        at: usize,
        bytes: &mut [u8],
        virtio: &Virtio,
        expires_at: Nanos,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let vlan = &live.tables.vlans[at];
        let frame = Frame::parse_untrusted(bytes).ok_or(DropReason::Runt)?;
        let (dst, vid) = (frame.dst(), frame.vid());
        let member_at = match vlan.member_by_mac(&dst) {
            None if vlan.floods && !is_group(&dst) => behind(vlan, &live.vlans[at], &dst, vid, now),
            known => known,
        };
        let way = if member_at.is_none() && is_group(&dst) { self.way(vlan, &dst, bytes) } else { Way::All };
        let turn = Turn { shared: &self.shared, live, now };
        let mut overlay = Overlay { turn, out: &mut self.out };
        let destination = match member_at {
            Some(member_at) if overlay::reaches(live, &vlan.spec.members[member_at]) => {
                let plan = plan_untrusted(bytes, virtio).ok_or(DropReason::BadOffload)?;
                return overlay.send_pair(at, member_at, bytes, plan);
            }
            Some(member_at) => Destination::Member(vlan.spec.members[member_at].id),
            None if !is_group(&dst) && (!vlan.floods || dst == vlan.spec.mac) => {
                return Err(DropReason::UnknownMac);
            }
            None if overlay::reaches_group(live, vlan, way) => {
                let plan = plan_untrusted(bytes, virtio).ok_or(DropReason::BadOffload)?;
                return overlay.send_group(at, bytes, plan, way, &mut self.groups);
            }
            None if way != Way::All && vlan.hops(way).is_empty() => return Err(DropReason::NoListener),
            None => Destination::Group,
        };
        self.shared.say(Some(bytes), vlan.spec.id, "hold", || "no key or route yet".into());
        self.hold.push((vlan.spec.id, destination), (*virtio, bytes.to_vec()), bytes.len(), expires_at)
    }

    /// For whom a frame to a group address is.
    fn way(&mut self, vlan: &Vlan, dst: &Mac, bytes: &[u8]) -> Way {
        if classify_untrusted(bytes) != Kind::Group {
            return Way::All;
        }
        let Some(keys) = &vlan.spec.listening.keys else { return Way::Rest };
        if let Some(token) = self.tokens.get(&(vlan.spec.id, *dst)) {
            return Way::Group(*token);
        }
        if self.tokens.len() >= MAX_TOKENS {
            self.tokens.clear();
        }
        let token = keys.token(KIND_GROUP, dst);
        self.tokens.insert((vlan.spec.id, *dst), token);
        Way::Group(token)
    }

    fn to_port(&self, id: PortId, frame: &mut [u8], virtio: &Virtio) -> Result<(), DropReason> {
        self.ports.get(&id).ok_or(DropReason::PortGone)?.write_offloaded(frame, virtio)
    }

    /// Writing may complete checksums, which the next writer must not do again: each gets its own copy.
    fn to_other_ports(&self, live: &Live, at: usize, from: PortId, frame: &[u8], virtio: &Virtio) {
        for &id in live.tables.vlans[at].spec.ports.iter().filter(|&&id| id != from) {
            self.shared.count(self.to_port(id, &mut frame.to_vec(), virtio));
        }
    }

    fn expire(&mut self, now: Nanos) {
        for (_, destination) in self.hold.expire(now) {
            self.shared.drops.count(match destination {
                Destination::Group => DropReason::NoEdge,
                Destination::Member(_) => DropReason::HoldExpired,
            });
        }
    }
}

/// The member that a host is behind. Of one that no route leads to any more others may have taken the hosts over.
fn behind(vlan: &Vlan, live: &LiveVlan, mac: &Mac, vid: Option<u16>, now: Nanos) -> Option<usize> {
    let id = live.state.remote_macs.lookup(mac, vid, (now / 1_000_000_000) as u32)?;
    vlan.member_by_id(id).filter(|&at| vlan.spec.members[at].hop.is_some())
}

impl Source {
    /// Reads ahead; what is too much is read and dropped, so that it does not grow old in the TAP.
    fn fill(&mut self, shared: &Shared, hung_up: bool, now: Nanos) -> Filled {
        for _ in 0..READS_PER_TURN {
            let is_long = self.backlog.is_long(now);
            let Some(room) = self.backlog.room() else { return Filled::Enough };
            match self.port.read(room) {
                Read::Frame(0, _) if hung_up => return Filled::Gone,
                Read::Frame(0, _) => shared.drops.count(DropReason::Runt),
                Read::Frame(..) if is_long => shared.drops.count(DropReason::BacklogFull),
                Read::Frame(length, virtio) => self.backlog.push(length, virtio, now),
                Read::Malformed => shared.drops.count(DropReason::BadOffload),
                Read::Empty if !hung_up => return Filled::Empty,
                Read::Empty => return Filled::Down,
                Read::Down => {
                    shared.drops.count(DropReason::PortDown);
                    return Filled::Down;
                }
                Read::Gone => return Filled::Gone,
            }
        }
        Filled::Enough
    }
}
