//! From a packet for a local VLAN to a frame on its ports: open, verify, reassemble, switch.

use std::collections::HashMap;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::live::Live;
use super::overlay::GROUP_PAYLOAD_BYTES;
use super::shared::Shared;
use super::{FRAME_BYTES, hex, name_of};
use crate::claims::{Claim, Claims, claim_untrusted};
use crate::drops::DropReason;
use crate::events::Event;
use crate::fragment::{Fragment, MessageKey, Reassembler};
use crate::frame::{Frame, is_for_bridges, is_group};
use crate::hold::{HOLD_NS, Hold};
use crate::keys::ReceiveKey;
use crate::lookup::FastMap;
use crate::multicast::{Budgets, Kind, classify_untrusted};
use crate::offload::checksum;
use crate::offload::coalesce::{Coalescer, Merges};
use crate::offload::headers::Headers;
use crate::packet::{BODY_AT, FLAG_INTRO, HopFields, INNER_TAG_AT, MIN_INTRO_BYTES};
use crate::port::{Port, Ports};
use crate::seal::{AAD_BYTES, ContentType, Opened, PLAIN_HEAD_BYTES, frame_aad, open_frame_untrusted, parse_plain};
use crate::storm::Class;
use crate::tables::{Label, Vlan};
use crate::trailer::{self, Trailer};
use crate::verify::{Job, Roots, Verdict, Verifier};
use crate::{Nanos, PortId, TrunkId, VlanId, vrrp};

/// Opened frames that wait for their write: more than one train holds, so that a train's frames can merge.
const ARENA_BYTES: usize = 2 * FRAME_BYTES;
/// So many bytes that wait are written before more is opened (ours: about one train).
const LONG_BYTES: usize = 48 << 10;

/// Kinds of member control that a group frame may carry (SPEC 5.4).
const GROUP_CONTROL: RangeInclusive<u8> = 16..=17;
/// So many frames too many make one event: Python looks at none of them.
pub(super) const POLICED_PER_EVENT: u64 = 1024;

/// A packet whose key is not known yet.
struct Held {
    packet: Vec<u8>,
    fields: HopFields,
    trunk: TrunkId,
}

/// Content of which it is settled who sent it, at a place of the arena.
struct Content {
    vlan_at: usize,
    member_at: usize,
    kid: [u8; 4],
    content_type: ContentType,
    is_group: bool,
    place: Range<usize>,
}

pub(super) struct Delivery {
    shared: Arc<Shared>,
    ports: Arc<Ports>,
    verifier: Verifier,
    roots: Roots,
    hold: Hold<VlanId, Held>,
    reassembly: HashMap<VlanId, Reassembler>,
    claims: HashMap<VlanId, Claims>,
    budgets: Budgets,
    /// What was opened in this turn; frames stay until they are written.
    arena: Box<[u8]>,
    used: usize,
    writes: FastMap<PortId, (Arc<Port>, Coalescer)>,
}

impl Delivery {
    pub(super) fn new(shared: Arc<Shared>, verifier: Verifier) -> Self {
        Self {
            shared,
            ports: Arc::default(),
            verifier,
            roots: Roots::default(),
            hold: Hold::default(),
            reassembly: HashMap::new(),
            claims: HashMap::new(),
            budgets: Budgets::default(),
            arena: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            writes: FastMap::default(),
        }
    }

    /// Takes up the ports; nothing waits for the old ones between turns.
    pub(super) fn adopt_ports(&mut self, ports: Arc<Ports>) {
        if !Arc::ptr_eq(&ports, &self.ports) {
            self.writes = ports.iter().map(|(&id, port)| (id, (Arc::clone(port), Coalescer::default()))).collect();
            self.ports = ports;
        }
    }

    /// Writes what waits for the ports.
    pub(super) fn flush(&mut self) {
        if self.used == 0 {
            return;
        }
        for (port, coalescer) in self.writes.values_mut() {
            coalescer.flush(&mut self.arena, |write| match port.write_merged(write) {
                Ok(done) => done,
                Err(reason) => {
                    self.shared.drops.add(reason, 1 + write.payloads.len() as u64);
                    true
                }
            });
        }
        self.used = 0;
    }

    /// The same when a train or more waits.
    pub(super) fn flush_if_long(&mut self) {
        if self.used >= LONG_BYTES {
            self.flush();
        }
    }

    /// Room for so many bytes, at most FRAME_BYTES, behind those in use.
    fn room(&mut self, bytes: usize) -> Range<usize> {
        if self.used + bytes > self.arena.len() {
            self.flush();
        }
        self.used..self.used + bytes
    }

    /// Takes up new tables: forgets what belongs to members that left, tries again what waits for a key.
    pub(super) fn adopt_tables(&mut self, live: &Live, now: Nanos) {
        self.roots.clear();
        self.reassembly.retain(|&vlan, reassembler| {
            let Some(at) = live.tables.vlan(vlan) else { return false };
            reassembler.retain(|member| live.tables.vlans[at].member_by_id(member).is_some());
            true
        });
        self.claims.retain(|&vlan, _| live.tables.vlan(vlan).is_some());
        self.budgets.retain(|vlan| live.tables.vlan(vlan).is_some());
        for (_, expires_at, held) in self.hold.take() {
            let result = match live.tables.label((held.trunk, held.fields.label)) {
                Some(label) => self.open(live, &held.packet, &held.fields, label, held.trunk, expires_at, now),
                None => Err(DropReason::UnknownLabel),
            };
            self.shared.count(result);
        }
    }

    pub(super) fn next_deadline(&self) -> Option<Nanos> {
        self.hold.next_deadline()
    }

    pub(super) fn expire(&mut self, now: Nanos) {
        let expired = self.hold.expire(now).len();
        self.shared.drops.add(DropReason::HoldExpired, expired as u64);
    }

    /// A packet whose label says that it is for a VLAN of ours.
    pub(super) fn on_packet(
        &mut self,
        live: &Live,
        packet: &[u8],
        fields: &HopFields,
        label: &Label,
        trunk: TrunkId,
        now: Nanos,
    ) -> Result<(), DropReason> {
        if fields.flags & FLAG_INTRO == 0 {
            return self.open(live, packet, fields, label, trunk, now + HOLD_NS, now);
        }
        let vlan = label.deliver.ok_or(DropReason::UnknownVlan)?;
        live.tables.vlan(vlan).ok_or(DropReason::UnknownVlan)?;
        if packet.len() < MIN_INTRO_BYTES {
            return Err(DropReason::TooShort);
        }
        let sealed = packet[INNER_TAG_AT..].to_vec();
        self.shared.tell(Event::Intro { vlan, trunk, token: label.token, nonce: fields.nonce, sealed });
        Ok(())
    }

    #[allow(clippy::too_many_arguments)] // one packet's facts, as a held packet has them too
    fn open(
        &mut self,
        live: &Live,
        packet: &[u8],
        fields: &HopFields,
        label: &Label,
        trunk: TrunkId,
        expires_at: Nanos,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let vlan_id = label.deliver.ok_or(DropReason::UnknownVlan)?;
        let vlan_at = live.tables.vlan(vlan_id).ok_or(DropReason::UnknownVlan)?;
        let vlan = &live.tables.vlans[vlan_at];
        let kid = fields.kid();
        let candidates = vlan.candidates(kid, label.group);
        if candidates.is_empty() {
            if vlan.spec.group_send.as_ref().is_some_and(|key| key.kid() == kid) {
                return Err(DropReason::OwnFrame);
            }
            self.shared.tell(Event::UnknownKid { vlan: vlan_id, kid, trunk });
            let held = Held { packet: packet.to_vec(), fields: *fields, trunk };
            return self.hold.push(vlan_id, held, packet.len(), expires_at).map_err(|_| DropReason::UnknownKid);
        }
        let room = self.room(packet.len() - BODY_AT);
        let opened = candidates.iter().find_map(|(member_at, key)| {
            let aad = frame_aad(key.names(), &label.token, &fields.nonce);
            if key.is_given_up() {
                return None;
            }
            if open_frame_untrusted(packet, &aad, &fields.nonce, key, &mut self.arena[room.clone()]) {
                return Some((*member_at, key, aad));
            }
            key.count_failed_open();
            None
        });
        let (member_at, key, aad) = opened.ok_or(DropReason::InnerAuth)?;
        let came = Came { vlan_at, member_at, key, fields, trunk };
        if label.group { self.on_group(live, &came, &aad, room, now) } else { self.on_pair(live, &came, room, now) }
    }

    fn on_pair(&mut self, live: &Live, came: &Came<'_>, plain: Range<usize>, now: Nanos) -> Result<(), DropReason> {
        came.key.window().accept(came.fields.counter())?;
        let opened = parse_plain(&self.arena[plain.clone()]).ok_or(DropReason::Malformed)?;
        let (content_type, start) = (opened.content_type, plain.start + PLAIN_HEAD_BYTES);
        self.say_opened(live, came, content_type, opened.rest, "pair");
        let place = start..start + opened.rest.len();
        let Came { vlan_at, member_at, key, .. } = *came;
        self.content(live, &Content { vlan_at, member_at, kid: key.kid(), content_type, is_group: false, place }, now)
    }

    /// Tag, window check, signature; the window moves after that.
    fn on_group(
        &mut self,
        live: &Live,
        came: &Came<'_>,
        aad: &[u8; AAD_BYTES],
        plain: Range<usize>,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let counter = came.fields.counter();
        if !came.key.window().is_fresh(counter) {
            return Err(DropReason::InnerReplay);
        }
        let plain = &self.arena[plain];
        let Opened { content_type, pad, rest } = parse_plain(plain).ok_or(DropReason::Malformed)?;
        // A larger one, or another type, is nothing that a member sends to all (SPEC 2.3, 5.4); so the side queue stays small.
        let is_for_all = match content_type {
            ContentType::Padding | ContentType::Frame | ContentType::FrameFragment => true,
            ContentType::Control => rest.first().is_some_and(|kind| GROUP_CONTROL.contains(kind)),
            _ => false,
        };
        if !is_for_all || BODY_AT + plain.len() > GROUP_PAYLOAD_BYTES {
            return Err(DropReason::Malformed);
        }
        let (bytes, trailer) = Trailer::split_untrusted(rest).ok_or(DropReason::Malformed)?;
        self.say_opened(live, came, content_type, bytes, "group");
        let leaf = trailer::leaf(&trailer.salt, aad, content_type as u8, pad, bytes);
        let job = Job {
            key: Arc::clone(came.key),
            vlan: live.tables.vlans[came.vlan_at].spec.id,
            member: live.tables.vlans[came.vlan_at].spec.members[came.member_at].id,
            trunk: came.trunk,
            counter,
            content_type,
            content: bytes.to_vec(),
            root: trailer.root(leaf),
            salt: trailer.salt,
            depth: trailer.depth,
            signature: trailer.signature,
        };
        // While an earlier frame of this sender waits for its verdict, later ones queue behind it.
        if self.roots.contains(&job) && !self.verifier.has_share_of(&job) {
            return self.verified(live, &job, now);
        }
        self.verifier.submit(job)
    }

    /// Takes verdicts; true when there may be more.
    pub(super) fn drain_verdicts(&mut self, live: &Live, limit: usize, now: Nanos) -> bool {
        for _ in 0..limit {
            let Some(Verdict { job, genuine }) = self.shared.verdicts.pop() else { return false };
            self.verifier.done(&job);
            let result = if genuine {
                self.roots.add(&job);
                self.verified(live, &job, now)
            } else {
                self.forged(live, &job)
            };
            self.shared.count(result);
        }
        true
    }

    /// A genuine group frame. The tables may have changed meanwhile: its key must still be in them.
    fn verified(&mut self, live: &Live, job: &Job, now: Nanos) -> Result<(), DropReason> {
        let vlan_at = live.tables.vlan(job.vlan).ok_or(DropReason::Revoked)?;
        let kid = job.key.kid();
        let candidates = live.tables.vlans[vlan_at].candidates(kid, true);
        let current = candidates.iter().find(|(_, key)| Arc::ptr_eq(key, &job.key));
        let (member_at, key) = current.ok_or(DropReason::Revoked)?;
        key.window().accept(job.counter)?;
        let place = self.room(job.content.len());
        self.arena[place.clone()].copy_from_slice(&job.content);
        let content =
            Content { vlan_at, member_at: *member_at, kid, content_type: job.content_type, is_group: true, place };
        self.content(live, &content, now)
    }

    fn forged(&self, live: &Live, job: &Job) -> Result<(), DropReason> {
        if let Some(at) = live.tables.vlan(job.vlan) {
            live.vlans[at].state.count_forged(job.trunk);
            self.shared.tell(Event::Forged { vlan: job.vlan, kid: job.key.kid(), trunk: job.trunk });
        }
        Err(DropReason::Forged)
    }

    fn content(&mut self, live: &Live, content: &Content, now: Nanos) -> Result<(), DropReason> {
        let place = content.place.clone();
        match content.content_type {
            ContentType::Padding => Ok(()),
            ContentType::Frame => self.frame(live, content, place, None, now),
            ContentType::PartialFrame => {
                let frame = &self.arena[place.clone()];
                let headers = Headers::parse_untrusted(frame).filter(|headers| headers.end == frame.len());
                self.frame(live, content, place, Some(headers.ok_or(DropReason::Malformed)?), now)
            }
            ContentType::Control => self.control(live, content, self.arena[place].to_vec()),
            ContentType::FrameFragment => match self.reassemble(live, content, now)? {
                Some(frame) => {
                    let place = self.room(frame.len());
                    self.arena[place.clone()].copy_from_slice(&frame);
                    self.frame(live, content, place, None, now)
                }
                None => Ok(()),
            },
            ContentType::ControlFragment => match self.reassemble(live, content, now)? {
                Some(message) => self.control(live, content, message),
                None => Ok(()),
            },
        }
    }

    fn reassemble(&mut self, live: &Live, content: &Content, now: Nanos) -> Result<Option<Vec<u8>>, DropReason> {
        let bytes = &self.arena[content.place.clone()];
        let fragment = Fragment::parse_untrusted(bytes).ok_or(DropReason::FragmentInvalid)?;
        let spec = &live.tables.vlans[content.vlan_at].spec;
        let member = spec.members[content.member_at].id;
        let key = MessageKey { member, kid: content.kid, content_type: content.content_type, id: fragment.id };
        let drops = &self.shared.drops;
        Ok(self.reassembly.entry(spec.id).or_default().add(key, &fragment, now, |reason| drops.count(reason)))
    }

    fn control(&self, live: &Live, content: &Content, message: Vec<u8>) -> Result<(), DropReason> {
        let spec = &live.tables.vlans[content.vlan_at].spec;
        let member = spec.members[content.member_at].id;
        self.shared.tell(match content.is_group {
            true => Event::GroupControl { vlan: spec.id, member, message },
            false => Event::Control { vlan: spec.id, member, message },
        });
        Ok(())
    }

    /// A frame from a member, to local ports only: what comes from the overlay never goes back to it. `partial`: its
    /// checksum is, and these are its headers.
    fn frame(
        &mut self,
        live: &Live,
        content: &Content,
        place: Range<usize>,
        partial: Option<Headers>,
        now: Nanos,
    ) -> Result<(), DropReason> {
        let (vlan, state) = live.vlan_at(content.vlan_at);
        let (spec, member) = (&vlan.spec, &vlan.spec.members[content.member_at]);
        let frame = Frame::parse_untrusted(&self.arena[place.clone()]).ok_or(DropReason::Runt)?;
        let (src, dst, vid, now_s) = (frame.src(), frame.dst(), frame.vid(), (now / 1_000_000_000) as u32);
        let to_group = is_group(&dst);
        let mut port = None;
        if member.bridge && is_group(&src) {
            return Err(DropReason::BadSource);
        }
        state.members[content.member_at].heard_at_s.store(now_s, Ordering::Relaxed);
        if src != member.mac {
            if !member.bridge || src == spec.mac || vlan.member_by_mac(&src).is_some() {
                return Err(self.spoofed(state, vlan, content.member_at, "mac", DropReason::SpoofedMac));
            }
            // A host that moves is announced by its new member; until then it is where it was (SPEC 14.3). One that was
            // seen here, and is frozen elsewhere or not believed yet, may be on a LAN that both of us bridge.
            let hosts = &state.state.local_macs;
            let is_here = hosts.lookup(&src, vid, now_s).is_some_and(|port| spec.ports.contains(&port));
            let remote = state.state.remote_macs.lookup(&src, vid, now_s);
            if is_here || remote.is_some_and(|id| id != member.id) || hosts.is_barred(&src, vid, now_s) {
                return Err(DropReason::MacElsewhere);
            }
        }
        if is_for_bridges(&dst) && !spec.passage.bpdus {
            return Err(DropReason::Bpdu);
        }
        if content.is_group {
            self.police(live, content, Class::of(&dst), place.len(), now)?;
        }
        if to_group
            && !member.bridge
            && let Some(addresses) = vrrp::addresses_untrusted(&self.arena[place.clone()])
        {
            let claims = self.claims.entry(spec.id).or_default();
            addresses.for_each(|address| claims.announced(member.id, vid, address, now_s));
        }
        if !member.bridge
            && let Some(claim) = claim_untrusted(&self.arena[place.clone()])
            && !self.may_claim(state, vlan, content.member_at, &claim, vid, now_s)
        {
            return Err(self.spoofed(state, vlan, content.member_at, "address", DropReason::SpoofedAddress));
        }
        if spec.passage.answers {
            state.state.neighbours.hear_untrusted(&self.arena[place.clone()], vid, now_s);
        }
        if !spec.passage.forwards {
            return Err(DropReason::PortBlocked);
        }
        if to_group {
            let frame = &self.arena[place.clone()];
            match classify_untrusted(frame) {
                Kind::Report if !spec.listening.has_router => return Err(DropReason::NoListener),
                Kind::Router => self.shared.tell_multicast(&mut self.budgets, spec.id, Some(member.id), frame, now),
                _ => {}
            }
        }
        if !to_group && spec.bridge {
            port = state.state.local_macs.lookup(&dst, vid, now_s).filter(|p| spec.ports.contains(p));
        } else if !to_group && dst != spec.mac {
            return Err(DropReason::NotForUs);
        }
        state.state.rx_frames.fetch_add(1, Ordering::Relaxed);
        state.state.rx_bytes.fetch_add(place.len() as u64, Ordering::Relaxed);
        state.members[content.member_at].rx_frames.fetch_add(1, Ordering::Relaxed);
        let known = port.map(|p| [p]);
        let ports = known.as_ref().map_or(&spec.ports[..], |p| &p[..]);
        let partial = self.finish(ports, &place, partial);
        // A merge writes into the first frame's headers, so frames for several ports stay single.
        let alone = ports.len() == 1;
        for id in ports {
            let to = self.writes.get_mut(id).filter(|(port, _)| !port.is_gone()).ok_or(DropReason::PortGone);
            let taken = to.map(|(port, waiting)| {
                let merges = if alone { port.merges(now) } else { Merges::default() };
                waiting.push(&self.arena, place.clone(), partial, merges);
            });
            self.shared.say(Some(&self.arena[place.clone()]), spec.id, "port write", || match taken {
                Ok(()) => format!("port {id}, {} > {}, {} bytes", hex(&src), hex(&dst), place.len()),
                Err(reason) => format!("port {id}: {}", reason.name()),
            });
            self.shared.count(taken);
        }
        self.used = place.end;
        Ok(())
    }

    /// Whether a member may send one more frame for all.
    fn police(&self, live: &Live, content: &Content, class: Class, bytes: usize, now: Nanos) -> Result<(), DropReason> {
        let (vlan, state) = live.vlan_at(content.vlan_at);
        let counters = &state.members[content.member_at];
        counters.buckets.take(&vlan.spec.passage.limits, class, bytes, now).inspect_err(|_| {
            if counters.policed.fetch_add(1, Ordering::Relaxed).is_multiple_of(POLICED_PER_EVENT) {
                let member = Some(vlan.spec.members[content.member_at].id);
                self.shared.tell(Event::Storm { vlan: vlan.spec.id, member, class: class.name() });
            }
        })
    }

    /// Whether what a member's ARP or neighbour discovery says can be right.
    fn may_claim(
        &mut self,
        state: &super::live::LiveVlan,
        vlan: &Vlan,
        member_at: usize,
        claim: &Claim,
        vid: Option<u16>,
        now_s: u32,
    ) -> bool {
        let member = &vlan.spec.members[member_at];
        let Some(address) = claim.address else { return claim.mac == member.mac };
        let heard_at_s = |id| vlan.member_by_id(id).map(|at| state.members[at].heard_at_s.load(Ordering::Relaxed));
        let claims = self.claims.entry(vlan.spec.id).or_default();
        claim.mac == member.mac && claims.allows(member.id, vid, address, now_s, heard_at_s)
    }

    /// Notes who said that it is another one.
    fn spoofed(
        &self,
        state: &super::live::LiveVlan,
        vlan: &Vlan,
        member_at: usize,
        what: &'static str,
        reason: DropReason,
    ) -> DropReason {
        state.members[member_at].spoofed.fetch_add(1, Ordering::Relaxed);
        self.shared.tell(Event::Spoofed { vlan: vlan.spec.id, member: vlan.spec.members[member_at].id, what });
        reason
    }

    /// Completes a partial checksum unless the frame goes to one port that takes it; whether it is partial still.
    fn finish(&mut self, ports: &[PortId], place: &Range<usize>, partial: Option<Headers>) -> bool {
        let Some(headers) = partial else { return false };
        if let [port] = ports
            && self.ports.get(port).is_some_and(|port| port.can.partial)
        {
            return true;
        }
        checksum::complete(&mut self.arena[place.clone()], &headers);
        false
    }

    fn say_opened(&self, live: &Live, came: &Came<'_>, content_type: ContentType, bytes: &[u8], kind: &str) {
        let spec = &live.tables.vlans[came.vlan_at].spec;
        let frame = matches!(content_type, ContentType::Frame | ContentType::PartialFrame).then_some(bytes);
        self.shared.say(frame, spec.id, "open", || {
            let (trunk, label, member) = (came.trunk, came.fields.label, spec.members[came.member_at].id);
            format!(
                "trunk {trunk} label {label} {kind} member {member} {content_type:?} {}",
                name_of(&came.fields.nonce)
            )
        });
    }
}

/// How an opened packet came.
struct Came<'a> {
    vlan_at: usize,
    member_at: usize,
    key: &'a Arc<ReceiveKey>,
    fields: &'a HopFields,
    trunk: TrunkId,
}
