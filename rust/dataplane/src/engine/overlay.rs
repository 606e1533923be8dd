//! Sealing frames and control messages for members, whole or in fragments.

use std::sync::atomic::Ordering;

use super::live::{Live, LiveVlan};
use super::name_of;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::events::Event;
use crate::fragment::{FRAGMENT_HEADER_BYTES, split};
use crate::keys::SendKey;
use crate::packet::{HOP_LIMIT, HopFields};
use crate::seal::{CONTENT_AT, ContentType, seal_frame};
use crate::stream::Lane;
use crate::tables::{Hop, Member, Vlan};
use crate::trailer::MAX_TRAILER_BYTES;
use crate::{MemberId, Nanos, Token, VlanId};

/// UDP payload of a group packet (SPEC 2.3): one tree must fit every branch.
pub(super) const GROUP_PAYLOAD_BYTES: usize = 1232;
/// Content of a group packet: the largest trailer is always reserved (SPEC 2.3).
pub(super) const GROUP_CONTENT_BYTES: usize = GROUP_PAYLOAD_BYTES - CONTENT_AT - MAX_TRAILER_BYTES;

/// The sending side of one turn.
pub(super) struct Overlay<'a> {
    pub(super) shared: &'a Shared,
    pub(super) live: &'a Live,
    pub(super) now: Nanos,
}

/// One message to seal: the key, under which token, as what, for which hops.
struct Message<'a> {
    vlan: VlanId,
    key: &'a SendKey,
    token: &'a Token,
    content_type: ContentType,
    limit: usize,
    hops: &'a [Hop],
    lane: Lane,
}

impl Overlay<'_> {
    /// Whether a frame for this member could leave now.
    pub(super) fn reaches(&self, member: &Member) -> bool {
        member.pair_send.is_some() && member.hop.is_some_and(|hop| self.is_open(hop))
    }

    /// Whether a group frame could leave now.
    pub(super) fn reaches_group(&self, vlan: &Vlan) -> bool {
        vlan.spec.group_send.is_some() && vlan.spec.group_edges.iter().any(|&hop| self.is_open(hop))
    }

    /// A frame under the member's pair key; the slot holds it at `CONTENT_AT..end`.
    pub(super) fn send_pair(
        &self,
        vlan_at: usize,
        member_at: usize,
        slot: &mut [u8],
        end: usize,
        piece: &mut [u8],
    ) -> Result<(), DropReason> {
        let (vlan, live) = self.live.vlan_at(vlan_at);
        let member = &vlan.spec.members[member_at];
        let message = self.pair_message(vlan, member, ContentType::Frame, Lane::Data)?;
        self.shared.say(Some(&slot[CONTENT_AT..end]), vlan.spec.id, "switch", || format!("member {}", member.id));
        live.members[member_at].tx_frames.fetch_add(1, Ordering::Relaxed);
        count_sealed(live, end);
        self.send(&message, slot, end, piece)
    }

    /// A frame under our group key.
    pub(super) fn send_group(
        &self,
        vlan_at: usize,
        slot: &mut [u8],
        end: usize,
        piece: &mut [u8],
    ) -> Result<(), DropReason> {
        let (vlan, live) = self.live.vlan_at(vlan_at);
        let spec = &vlan.spec;
        let key = spec.group_send.as_ref().ok_or(DropReason::NoEdge)?;
        self.shared.say(Some(&slot[CONTENT_AT..end]), spec.id, "switch", || {
            format!("group, {} edges", spec.group_edges.len())
        });
        let message = Message {
            vlan: spec.id,
            key,
            token: &spec.group_token,
            content_type: ContentType::Frame,
            limit: GROUP_CONTENT_BYTES,
            hops: &spec.group_edges,
            lane: Lane::Data,
        };
        count_sealed(live, end);
        self.send(&message, slot, end, piece)
    }

    /// A control message under the member's pair key.
    pub(super) fn send_control(
        &self,
        vlan: VlanId,
        member: MemberId,
        slot: &mut [u8],
        end: usize,
        piece: &mut [u8],
    ) -> Result<(), DropReason> {
        let at = self.live.tables.vlan(vlan).ok_or(DropReason::NoRoute)?;
        let vlan = &self.live.tables.vlans[at];
        let member = &vlan.spec.members[vlan.member_by_id(member).ok_or(DropReason::NoRoute)?];
        let message = self.pair_message(vlan, member, ContentType::Control, Lane::Control)?;
        self.send(&message, slot, end, piece)
    }

    fn pair_message<'a>(
        &self,
        vlan: &'a Vlan,
        member: &'a Member,
        content_type: ContentType,
        lane: Lane,
    ) -> Result<Message<'a>, DropReason> {
        let key = member.pair_send.as_ref().ok_or(DropReason::NoRoute)?;
        let hop = member.hop.as_ref().ok_or(DropReason::NoRoute)?;
        let (trunk, _) = self.live.trunk(hop.0).ok_or(DropReason::NoTrunk)?;
        Ok(Message {
            vlan: vlan.spec.id,
            key,
            token: &member.token,
            content_type,
            limit: member.max_payload.min(trunk.max_payload) - CONTENT_AT,
            hops: std::slice::from_ref(hop),
            lane,
        })
    }

    fn send(&self, message: &Message<'_>, slot: &mut [u8], end: usize, piece: &mut [u8]) -> Result<(), DropReason> {
        if end - CONTENT_AT <= message.limit {
            return self.seal(message, message.content_type, slot, end, None);
        }
        let id = self.shared.fragment_id.fetch_add(1, Ordering::Relaxed);
        let content = &slot[CONTENT_AT..end];
        let fragments = split(content, id, message.limit - FRAGMENT_HEADER_BYTES).ok_or(DropReason::TooLarge)?;
        for fragment in fragments {
            let at = CONTENT_AT + FRAGMENT_HEADER_BYTES;
            let end = at + fragment.bytes.len();
            fragment.emit_header(&mut piece[CONTENT_AT..at]);
            piece[at..end].copy_from_slice(fragment.bytes);
            self.seal(message, message.content_type.fragment(), piece, end, Some(content))?;
        }
        Ok(())
    }

    /// Seals once, then the hop part for each hop. `whole` is the frame of a fragment, for the trace.
    fn seal(
        &self,
        message: &Message<'_>,
        content_type: ContentType,
        slot: &mut [u8],
        end: usize,
        whole: Option<&[u8]>,
    ) -> Result<(), DropReason> {
        let traced = self.shared.trace.is_on().then(|| whole.unwrap_or(&slot[CONTENT_AT..end]).to_vec());
        let (end, nonce) = seal_frame(slot, end, message.key, message.token, content_type)?;
        if message.key.step_is_due() {
            self.shared.tell(Event::Generation { vlan: message.vlan, kid: message.key.kid() });
        }
        self.shared.say(traced.as_deref(), message.vlan, "seal", || format!("{content_type:?} {}", name_of(&nonce)));
        for &(trunk, label) in message.hops {
            let fields = HopFields { label, hop_limit: HOP_LIMIT, flags: 0, nonce };
            let sent = self.shared.transmit(self.live, trunk, &mut slot[..end], &fields, message.lane, self.now);
            self.shared.say(traced.as_deref(), message.vlan, "send", || match sent {
                Ok(()) => format!("trunk {trunk} label {label}, {end} bytes"),
                Err(reason) => format!("trunk {trunk} label {label}: {}", reason.name()),
            });
            self.shared.count(sent);
        }
        Ok(())
    }

    fn is_open(&self, hop: Hop) -> bool {
        self.live.trunk(hop.0).is_some_and(|(trunk, _)| trunk.can_send())
    }
}

fn count_sealed(live: &LiveVlan, end: usize) {
    live.state.tx_frames.fetch_add(1, Ordering::Relaxed);
    live.state.tx_bytes.fetch_add((end - CONTENT_AT) as u64, Ordering::Relaxed);
}
