//! Sealing frames and control messages for members, whole, in segments or in fragments.

use std::sync::atomic::Ordering;

use super::live::{Live, LiveVlan, Ways};
use super::name_of;
use super::send::{Outgoing, Turn};
use crate::aead::NONCE_BYTES;
use crate::drops::DropReason;
use crate::events::Event;
use crate::flow::flow_of_untrusted;
use crate::fragment::{FRAGMENT_HEADER_BYTES, split};
use crate::keys::SendKey;
use crate::offload::checksum;
use crate::offload::segment::{Plan, Split};
use crate::packet::{HOP_LIMIT, HopFields};
use crate::seal::{CONTENT_AT, ContentType, SignedFrames, seal_frame};
use crate::stream::Lane;
use crate::tables::{Hop, Member, Vlan, Way};
use crate::trailer::{MAX_DEPTH, MAX_TRAILER_BYTES};
use crate::{MemberId, Nanos, Token, VlanId, sys};

/// UDP payload of a group packet (SPEC 2.3): one tree must fit every branch.
pub(super) const GROUP_PAYLOAD_BYTES: usize = 1232;
/// Content of a group packet: the largest trailer is always reserved (SPEC 2.3).
pub(super) const GROUP_CONTENT_BYTES: usize = GROUP_PAYLOAD_BYTES - CONTENT_AT - MAX_TRAILER_BYTES;

/// Frames that share a signature (SPEC 2.4).
const TREE_FRAMES: usize = 1 << MAX_DEPTH;
/// At most one signature in so long unless a tree is full: a signature costs as much as 20 frames (ours).
const SIGNATURE_GAP_NS: Nanos = 1_000_000;

/// The sending side of one turn.
pub(super) struct Overlay<'a> {
    pub(super) turn: Turn<'a>,
    pub(super) out: &'a mut Outgoing,
}

/// Content for a group that waits for its signature.
struct Unsigned {
    vlan: VlanId,
    way: Way,
    content_type: ContentType,
    content: Vec<u8>,
}

/// Group frames of a moment: they are signed together. The first after a pause does not wait.
#[derive(Default)]
pub(super) struct Groups {
    waiting: Vec<Unsigned>,
    signed_at: Nanos,
}

impl Groups {
    /// When those that wait are signed.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        (!self.waiting.is_empty()).then_some(self.signed_at + SIGNATURE_GAP_NS)
    }
}

/// What is sealed for a member: the key, under which token, for which ways.
#[derive(Clone, Copy)]
struct Message<'a> {
    vlan: VlanId,
    key: &'a SendKey,
    token: &'a Token,
    limit: usize,
    ways: Ways,
    lane: Lane,
}

/// Whether a frame for this member could leave now.
pub(super) fn reaches(live: &Live, member: &Member) -> bool {
    member.pair_send.is_some() && live.reaches(member)
}

/// Whether a group frame could leave now.
pub(super) fn reaches_group(live: &Live, vlan: &Vlan, way: Way) -> bool {
    vlan.spec.group_send.is_some() && vlan.hops(way).iter().any(|&hop| live.is_open(hop))
}

impl Overlay<'_> {
    /// A frame under the member's pair key, as planned.
    pub(super) fn send_pair(
        &mut self,
        vlan_at: usize,
        member_at: usize,
        frame: &mut [u8],
        plan: Plan,
    ) -> Result<(), DropReason> {
        let (vlan, live) = self.turn.live.vlan_at(vlan_at);
        let member = &vlan.spec.members[member_at];
        let ways = self.turn.live.ways(member, || flow_of_untrusted(frame)).ok_or(DropReason::NoRoute)?;
        let message = self.pair_message(vlan, member, ways, Lane::Data)?;
        self.turn.shared.say(Some(frame), vlan.spec.id, "switch", || format!("member {}", member.id));
        let frames = count_sealed(live, frame, plan);
        live.members[member_at].tx_frames.fetch_add(frames, Ordering::Relaxed);
        match plan {
            Plan::Partial(_) if frame.len() <= message.limit => {
                self.seal(&message, ContentType::PartialFrame, None, frame.len(), |out| out.copy_from_slice(frame))
            }
            Plan::Partial(headers) => {
                checksum::complete(frame, &headers);
                self.send(&message, ContentType::Frame, frame)
            }
            Plan::Whole => self.send(&message, ContentType::Frame, frame),
            Plan::Split(split) => self.send_segments(&message, frame, split),
        }
    }

    /// A super-frame. A datagram too large for the path goes in fragments; TCP segments are made to fit.
    fn send_segments(&mut self, message: &Message<'_>, frame: &[u8], mut split: Split) -> Result<(), DropReason> {
        if !split.limit(message.limit) {
            return each_whole_segment(frame, split, |segment| self.send(message, ContentType::Frame, segment));
        }
        for n in 0..split.count() {
            self.seal(message, ContentType::PartialFrame, None, split.bytes_of(n), |out| {
                split.emit(frame, n, out);
            })?;
        }
        Ok(())
    }

    /// A frame for a group, as planned; its checksums become whole. It waits in `groups` until `sign`.
    pub(super) fn send_group(
        &mut self,
        vlan_at: usize,
        frame: &mut [u8],
        plan: Plan,
        way: Way,
        groups: &mut Groups,
    ) -> Result<(), DropReason> {
        let (vlan, live) = self.turn.live.vlan_at(vlan_at);
        let spec = &vlan.spec;
        self.turn.shared.say(Some(frame), spec.id, "switch", || format!("group, {} edges", vlan.hops(way).len()));
        count_sealed(live, frame, plan);
        match plan {
            Plan::Split(split) => {
                return each_whole_segment(frame, split, |segment| self.add_group(spec.id, way, segment, groups));
            }
            Plan::Partial(headers) => checksum::complete(frame, &headers),
            Plan::Whole => {}
        }
        self.add_group(spec.id, way, frame, groups)
    }

    fn add_group(&mut self, vlan: VlanId, way: Way, frame: &[u8], groups: &mut Groups) -> Result<(), DropReason> {
        if frame.len() <= GROUP_CONTENT_BYTES {
            let (content_type, content) = (ContentType::Frame, frame.to_vec());
            self.add_unsigned(Unsigned { vlan, way, content_type, content }, groups);
            return Ok(());
        }
        let id = self.turn.shared.fragment_id.fetch_add(1, Ordering::Relaxed);
        let fragments = split(frame, id, GROUP_CONTENT_BYTES - FRAGMENT_HEADER_BYTES).ok_or(DropReason::TooLarge)?;
        for fragment in fragments {
            let mut content = vec![0; FRAGMENT_HEADER_BYTES];
            fragment.emit_header(&mut content);
            content.extend_from_slice(fragment.bytes);
            self.add_unsigned(Unsigned { vlan, way, content_type: ContentType::FrameFragment, content }, groups);
        }
        Ok(())
    }

    fn add_unsigned(&mut self, one: Unsigned, groups: &mut Groups) {
        groups.waiting.push(one);
        if groups.waiting.len() >= TREE_FRAMES {
            self.sign(groups);
        }
    }

    /// Signs and sends what waits, if it is time.
    pub(super) fn sign_due(&mut self, groups: &mut Groups) {
        if groups.deadline().is_some_and(|at| at <= self.turn.now) {
            self.sign(groups);
        }
    }

    /// Signs what waits, one tree a VLAN, and sends it under our group keys.
    pub(super) fn sign(&mut self, groups: &mut Groups) {
        let mut waiting = std::mem::take(&mut groups.waiting);
        waiting.sort_by_key(|one| one.vlan); // stable: each VLAN's frames keep their order
        for frames in waiting.chunk_by(|a, b| a.vlan == b.vlan) {
            if let Err(reason) = self.send_tree(frames) {
                self.turn.shared.drops.add(reason, frames.len() as u64);
            }
        }
        waiting.clear();
        *groups = Groups { waiting, signed_at: self.turn.now };
    }

    fn send_tree(&mut self, frames: &[Unsigned]) -> Result<(), DropReason> {
        let Turn { shared, live, .. } = self.turn;
        let vlan = &live.tables.vlans[live.tables.vlan(frames[0].vlan).ok_or(DropReason::NoVlan)?];
        let spec = &vlan.spec;
        let key = spec.group_send.as_ref().ok_or(DropReason::NoEdge)?;
        let salt = sys::random().map_err(|_| DropReason::KeyExhausted)?;
        let contents = frames.iter().map(|one| (one.content_type, &one.content[..]));
        let signed = SignedFrames::sign(contents, key, &spec.group_token, salt)?;
        for (n, one) in frames.iter().enumerate() {
            let end = CONTENT_AT + one.content.len();
            let slot = self.out.slot(self.turn, end + MAX_TRAILER_BYTES);
            slot[CONTENT_AT..end].copy_from_slice(&one.content);
            let (end, nonce) = signed.seal(n, slot, end);
            let traced = shared.trace.is_on().then_some(&one.content[..]);
            self.leave(spec.id, key, (vlan.hops(one.way), Lane::Data), one.content_type, end, nonce, traced);
        }
        Ok(())
    }

    /// A control message under the member's pair key: by the way that is given, or as a frame would go.
    pub(super) fn send_control(
        &mut self,
        vlan: VlanId,
        member: MemberId,
        control: &[u8],
        by: Option<Hop>,
    ) -> Result<(), DropReason> {
        let live = self.turn.live;
        let at = live.tables.vlan(vlan).ok_or(DropReason::NoRoute)?;
        let vlan = &live.tables.vlans[at];
        let member = &vlan.spec.members[vlan.member_by_id(member).ok_or(DropReason::NoRoute)?];
        let ways = by.map(Ways::one).or_else(|| live.ways(member, || 0)).ok_or(DropReason::NoRoute)?;
        let message = self.pair_message(vlan, member, ways, Lane::Control)?;
        self.send(&message, ContentType::Control, control)
    }

    /// A control message for all, under our group key. It is signed alone: what waits for its signature is of the loop.
    pub(super) fn send_group_control(&mut self, vlan: VlanId, control: &[u8]) -> Result<(), DropReason> {
        let at = self.turn.live.tables.vlan(vlan).ok_or(DropReason::NoRoute)?;
        if !reaches_group(self.turn.live, &self.turn.live.tables.vlans[at], Way::All) {
            return Err(DropReason::NoEdge);
        }
        let content = control.to_vec();
        self.send_tree(&[Unsigned { vlan, way: Way::All, content_type: ContentType::Control, content }])
    }

    fn pair_message<'a>(
        &self,
        vlan: &'a Vlan,
        member: &'a Member,
        ways: Ways,
        lane: Lane,
    ) -> Result<Message<'a>, DropReason> {
        let key = member.pair_send.as_ref().ok_or(DropReason::NoRoute)?;
        let mut limit = member.max_payload;
        for hop in ways.hops() {
            let (trunk, state) = self.turn.live.trunk(hop.0).ok_or(DropReason::NoTrunk)?;
            limit = limit.min(trunk.max_payload).min(state.udp_path.packet_bytes());
        }
        Ok(Message { vlan: vlan.spec.id, key, token: &member.token, limit: limit - CONTENT_AT, ways, lane })
    }

    /// Content whole, or in fragments where it does not fit.
    fn send(&mut self, message: &Message<'_>, content_type: ContentType, content: &[u8]) -> Result<(), DropReason> {
        if content.len() <= message.limit {
            return self.seal(message, content_type, None, content.len(), |out| out.copy_from_slice(content));
        }
        let id = self.turn.shared.fragment_id.fetch_add(1, Ordering::Relaxed);
        let fragments = split(content, id, message.limit - FRAGMENT_HEADER_BYTES).ok_or(DropReason::TooLarge)?;
        for fragment in fragments {
            let length = FRAGMENT_HEADER_BYTES + fragment.bytes.len();
            self.seal(message, content_type.fragment(), Some(content), length, |out| {
                let (header, bytes) = out.split_at_mut(FRAGMENT_HEADER_BYTES);
                fragment.emit_header(header);
                bytes.copy_from_slice(fragment.bytes);
            })?;
        }
        Ok(())
    }

    /// Seals content of `length` bytes once, then the hop part for each hop. `whole` is the frame of a fragment, for the trace.
    fn seal(
        &mut self,
        message: &Message<'_>,
        content_type: ContentType,
        whole: Option<&[u8]>,
        length: usize,
        emit: impl FnOnce(&mut [u8]),
    ) -> Result<(), DropReason> {
        let Turn { shared, .. } = self.turn;
        let slot = self.out.slot(self.turn, CONTENT_AT + length + MAX_TRAILER_BYTES);
        let end = CONTENT_AT + length;
        emit(&mut slot[CONTENT_AT..end]);
        let traced = shared.trace.is_on().then(|| whole.unwrap_or(&slot[CONTENT_AT..end]).to_vec());
        let nonce = seal_frame(slot, end, message.key, message.token, content_type)?;
        let ways = (message.ways.hops(), message.lane);
        self.leave(message.vlan, message.key, ways, content_type, end, nonce, traced.as_deref());
        Ok(())
    }

    /// The sealed packet in the slot goes by each hop.
    #[allow(clippy::too_many_arguments)] // one packet's facts, used once
    fn leave(
        &mut self,
        vlan: VlanId,
        key: &SendKey,
        (hops, lane): (&[Hop], Lane),
        content_type: ContentType,
        end: usize,
        nonce: [u8; NONCE_BYTES],
        traced: Option<&[u8]>,
    ) {
        let Turn { shared, .. } = self.turn;
        if key.step_is_due() {
            shared.tell(Event::Generation { vlan, kid: key.kid() });
        }
        shared.say(traced, vlan, "seal", || format!("{content_type:?} {}", name_of(&nonce)));
        for (n, &(trunk, label)) in hops.iter().enumerate() {
            let fields = HopFields { label, hop_limit: HOP_LIMIT, flags: 0, nonce };
            let sent = self.out.push(self.turn, trunk, end, &fields, lane, n + 1 == hops.len());
            shared.say(traced, vlan, "send", || match sent {
                Ok(()) => format!("trunk {trunk} label {label}, {end} bytes"),
                Err(reason) => format!("trunk {trunk} label {label}: {}", reason.name()),
            });
            shared.count(sent);
        }
        self.out.keep(end);
    }
}

/// The segments of a super-frame one by one, with whole checksums.
fn each_whole_segment(
    frame: &[u8],
    split: Split,
    mut each: impl FnMut(&[u8]) -> Result<(), DropReason>,
) -> Result<(), DropReason> {
    let mut segment = vec![0; split.frame_bytes()];
    for n in 0..split.count() {
        let (end, headers) = split.emit(frame, n, &mut segment);
        checksum::complete(&mut segment, &headers);
        each(&segment[..end])?;
    }
    Ok(())
}

/// Counts what is sealed; returns how many frames that is.
fn count_sealed(live: &LiveVlan, frame: &[u8], plan: Plan) -> u64 {
    let frames = if let Plan::Split(split) = plan { split.count() } else { 1 };
    live.state.tx_frames.fetch_add(frames as u64, Ordering::Relaxed);
    live.state.tx_bytes.fetch_add(frame.len() as u64, Ordering::Relaxed);
    frames as u64
}
