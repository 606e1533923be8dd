//! What the data plane tells the control plane: a bounded, coalescing queue with one eventfd.

use std::collections::HashMap;
use std::io;
use std::sync::{Mutex, PoisonError};

use crate::drops::{DropReason, Drops};
use crate::frame::Mac;
use crate::loops::Probe;
use crate::sys::EventFd;
use crate::udp::Address;
use crate::{MemberId, Token, TrunkId, VlanId};

/// Something that happened.
#[allow(missing_docs)] // the fields' names and types say it
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Every loop uses this generation of tables.
    Applied(u64),
    /// An INTRO came for a local VLAN: nonce and body as `hello_seal` makes it.
    Intro { vlan: VlanId, trunk: TrunkId, token: Token, nonce: [u8; 12], sealed: Vec<u8> },
    /// A frame under a key that nobody introduced.
    UnknownKid { vlan: VlanId, kid: [u8; 4], trunk: TrunkId },
    /// A group frame with a right tag and a wrong signature.
    Forged { vlan: VlanId, kid: [u8; 4], trunk: TrunkId },
    /// A member said that it is another one: "mac", or "address" in ARP or neighbour discovery.
    Spoofed { vlan: VlanId, member: MemberId, what: &'static str },
    /// A host was seen at a port.
    MacSeen { vlan: VlanId, mac: Mac, vid: Option<u16> },
    /// A host was not seen for long, or made room for another.
    MacGone { vlan: VlanId, mac: Mac, vid: Option<u16> },
    /// A loop probe came in at a port; of our own only one that was sent just now.
    Probed { vlan: VlanId, probe: Probe, own: bool },
    /// Frames for all were too many: of a member, or at our own ports (None).
    Storm { vlan: VlanId, member: Option<MemberId>, class: &'static str },
    /// Member control for all.
    GroupControl { vlan: VlanId, member: MemberId, message: Vec<u8> },
    /// Member control, reassembled.
    Control { vlan: VlanId, member: MemberId, message: Vec<u8> },
    /// A host or router said something about multicast groups; `member`: None where it came from a port of ours.
    Multicast { vlan: VlanId, member: Option<MemberId>, frame: Vec<u8> },
    /// A send key reached 2^30.
    Generation { vlan: VlanId, kid: [u8; 4] },
    /// A probe of ours came back.
    Path { trunk: TrunkId, address: Address, rtt_s: f64 },
    /// Authentic packets come from another address than `remote`.
    Source { trunk: TrunkId, address: Address },
    /// The udp carrier is silent though we sent.
    PathDown { trunk: TrunkId },
    /// The system refused a train of datagrams: how this trunk's packets go from now on.
    Offload { trunk: TrunkId, text: &'static str },
    /// `stream_take` has something.
    Stream { trunk: TrunkId },
    /// One step of a traced frame.
    Trace { at_s: f64, vlan: VlanId, step: &'static str, text: String },
    /// A loop failed and forwarding has stopped.
    Panic(String),
    /// Events were lost: read a snapshot.
    Resync,
}

/// What coalesces: a later event of the same subject replaces the waiting one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Applied,
    UnknownKid(VlanId, [u8; 4]),
    Forged(VlanId, [u8; 4], TrunkId),
    Spoofed(VlanId, MemberId, &'static str),
    Mac(VlanId, Mac, Option<u16>),
    Probed(VlanId, [u8; 8], [u8; 8]),
    Storm(VlanId, Option<MemberId>, &'static str),
    Generation(VlanId, [u8; 4]),
    Path(TrunkId, Address),
    Source(TrunkId),
    PathDown(TrunkId),
    Offload(TrunkId),
    Stream(TrunkId),
}

/// Kinds are bounded one by one, so that no kind starves another.
const KINDS: usize = 8;
/// Most waiting events per kind (ours): state of trunks and keys, introductions, unknown kids, control messages, trace,
/// hosts at ports (as many as ports hold), control for all, multicast messages, whose order counts: none replaces another.
const MAX_WAITING: [usize; KINDS] = [4096, 256, 256, 64, 1000, 2048, 256, 256];
/// Of the introductions those by one trunk (ours): a neighbour that floods leaves room for what others bring.
const MAX_INTROS_PER_TRUNK: usize = 192;

impl Event {
    fn kind(&self) -> usize {
        match self {
            Self::Intro { .. } => 1,
            Self::UnknownKid { .. } | Self::Forged { .. } | Self::Spoofed { .. } => 2,
            Self::Probed { .. } | Self::Storm { .. } => 2,
            Self::MacSeen { .. } | Self::MacGone { .. } => 5,
            Self::GroupControl { .. } => 6,
            Self::Control { .. } => 3,
            Self::Trace { .. } => 4,
            Self::Multicast { .. } => 7,
            _ => 0,
        }
    }

    fn subject(&self) -> Option<Subject> {
        Some(match *self {
            Self::Applied(_) => Subject::Applied,
            Self::UnknownKid { vlan, kid, .. } => Subject::UnknownKid(vlan, kid),
            Self::Forged { vlan, kid, trunk } => Subject::Forged(vlan, kid, trunk),
            Self::Spoofed { vlan, member, what } => Subject::Spoofed(vlan, member, what),
            Self::MacSeen { vlan, mac, vid } | Self::MacGone { vlan, mac, vid } => Subject::Mac(vlan, mac, vid),
            Self::Probed { vlan, probe, .. } => Subject::Probed(vlan, probe.handle, probe.run),
            Self::Storm { vlan, member, class } => Subject::Storm(vlan, member, class),
            Self::Generation { vlan, kid } => Subject::Generation(vlan, kid),
            Self::Path { trunk, address, .. } => Subject::Path(trunk, address),
            Self::Source { trunk, .. } => Subject::Source(trunk),
            Self::PathDown { trunk } => Subject::PathDown(trunk),
            Self::Offload { trunk, .. } => Subject::Offload(trunk),
            Self::Stream { trunk } => Subject::Stream(trunk),
            _ => return None,
        })
    }
}

#[derive(Default)]
struct Queue {
    waiting: Vec<Event>,
    at: HashMap<Subject, usize>,
    counts: [usize; KINDS],
    intros: HashMap<TrunkId, usize>,
    overflow: bool,
}

impl Queue {
    /// Whether the event's trunk may add another introduction; if so it is noted.
    fn has_share(&mut self, event: &Event) -> bool {
        let Event::Intro { trunk, .. } = event else { return true };
        let count = self.intros.entry(*trunk).or_default();
        *count += 1;
        *count <= MAX_INTROS_PER_TRUNK
    }
}

/// The queue. At a kind's limit new events are dropped, counted, and `Resync` says so.
pub struct Events {
    queue: Mutex<Queue>,
    ready: EventFd,
}

impl Events {
    /// An empty queue.
    pub fn new() -> io::Result<Self> {
        Ok(Self { queue: Mutex::default(), ready: EventFd::new()? })
    }

    /// Readable while something waits.
    pub fn ready(&self) -> &EventFd {
        &self.ready
    }

    /// Adds an event, or replaces the waiting one of the same subject.
    pub fn push(&self, event: Event, drops: &Drops) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let was_empty = queue.waiting.is_empty() && !queue.overflow;
        let subject = event.subject();
        if let Some(&at) = subject.and_then(|s| queue.at.get(&s)) {
            queue.waiting[at] = event;
            return;
        }
        let kind = event.kind();
        if queue.counts[kind] >= MAX_WAITING[kind] || !queue.has_share(&event) {
            drops.count(DropReason::EventsFull);
            queue.overflow = true;
        } else {
            queue.counts[kind] += 1;
            if let Some(subject) = subject {
                let at = queue.waiting.len();
                queue.at.insert(subject, at);
            }
            queue.waiting.push(event);
        }
        drop(queue);
        if was_empty {
            self.ready.signal();
        }
    }

    /// Takes all, oldest first.
    pub fn take(&self) -> Vec<Event> {
        self.ready.clear();
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let Queue { mut waiting, overflow, .. } = std::mem::take(&mut *queue);
        if overflow {
            waiting.insert(0, Event::Resync);
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_subject_coalesce_to_the_latest() {
        let (events, drops) = (Events::new().unwrap(), Drops::default());
        events.push(Event::Applied(1), &drops);
        events.push(Event::Stream { trunk: 3 }, &drops);
        events.push(Event::Applied(2), &drops);
        assert_eq!(events.take(), [Event::Applied(2), Event::Stream { trunk: 3 }]);
        assert_eq!(events.take(), []);
    }

    #[test]
    fn an_overflow_of_one_kind_says_resync_and_leaves_room_for_others() {
        let (events, drops) = (Events::new().unwrap(), Drops::default());
        for i in 0..300u32 {
            events.push(Event::UnknownKid { vlan: 1, kid: i.to_be_bytes(), trunk: 1 }, &drops);
        }
        events.push(Event::PathDown { trunk: 1 }, &drops);
        let taken = events.take();
        assert_eq!((taken.len(), &taken[0], &taken[257]), (258, &Event::Resync, &Event::PathDown { trunk: 1 }));
        assert_eq!(drops.get(DropReason::EventsFull), 44);
    }

    #[test]
    fn introductions_by_one_trunk_leave_room_for_those_by_others() {
        let (events, drops) = (Events::new().unwrap(), Drops::default());
        let intro = |trunk| Event::Intro { vlan: 1, trunk, token: [0; 16], nonce: [0; 12], sealed: vec![] };
        for _ in 0..300 {
            events.push(intro(1), &drops);
        }
        events.push(intro(2), &drops);
        let taken = events.take();
        assert_eq!((taken.len(), taken.last()), (1 + MAX_INTROS_PER_TRUNK + 1, Some(&intro(2))));
        assert_eq!(drops.get(DropReason::EventsFull), 300 - MAX_INTROS_PER_TRUNK as u64);
    }
}
