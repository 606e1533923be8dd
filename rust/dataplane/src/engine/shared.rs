//! What the loops and the control side share.

use std::any::Any;
use std::collections::VecDeque;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::live::Live;
use super::lock;
use crate::drops::{DropReason, Drops};
use crate::events::{Event, Events};
use crate::multicast::{Budgets, MAX_MESSAGE_BYTES};
use crate::offload::Allowed;
use crate::port::Ports;
use crate::stream::InboundRing;
use crate::sys::EventFd;
use crate::trace::Trace;
use crate::udp::{Address, Udp};
use crate::verify::Verdicts;
use crate::{MemberId, Nanos, TrunkId, VlanId, sys};

pub(super) struct Shared {
    pub(super) live: ArcSwap<Live>,
    pub(super) ports: ArcSwap<Ports>,
    pub(super) udp: Udp,
    pub(super) allowed: Allowed,
    pub(super) drops: Drops,
    pub(super) events: Events,
    pub(super) trace: Trace,
    pub(super) wake_out: EventFd,
    pub(super) wake_in: EventFd,
    pub(super) stop: AtomicBool,
    pub(super) panic: Mutex<Option<String>>,
    pub(super) panic_wanted: AtomicBool,
    pub(super) stream_in: InboundRing,
    pub(super) probes_asked: Mutex<VecDeque<(TrunkId, Address)>>,
    pub(super) verdicts: Verdicts,
    pub(super) fragment_id: AtomicU32,
    /// When the inbound loop looks at its timers without being woken; read after `unanswered_since` was set.
    pub(super) inbound_wakes_at: AtomicU64,
    /// Bytes that wait to be carried.
    pub(super) relay_waiting: AtomicU64,
    applied: [AtomicU64; 2],
    applied_told: AtomicU64,
}

/// Which loop, for `applied`.
#[derive(Clone, Copy)]
pub(super) enum Loop {
    Outbound = 0,
    Inbound = 1,
}

impl Shared {
    pub(super) fn open(udp_port: u16, allowed: Allowed) -> io::Result<Self> {
        Ok(Self {
            live: ArcSwap::default(),
            ports: ArcSwap::default(),
            udp: Udp::open(udp_port, allowed.gro)?,
            allowed,
            drops: Drops::default(),
            events: Events::new()?,
            trace: Trace::default(),
            wake_out: EventFd::new()?,
            wake_in: EventFd::new()?,
            stop: AtomicBool::new(false),
            panic: Mutex::default(),
            panic_wanted: AtomicBool::new(false),
            stream_in: InboundRing::default(),
            probes_asked: Mutex::default(),
            verdicts: Verdicts::default(),
            fragment_id: AtomicU32::new(u32::from_ne_bytes(sys::random()?)),
            inbound_wakes_at: AtomicU64::new(0),
            relay_waiting: AtomicU64::new(0),
            applied: Default::default(),
            applied_told: AtomicU64::new(0),
        })
    }

    /// Wakes both loops.
    pub(super) fn wake(&self) {
        self.wake_out.signal();
        self.wake_in.signal();
    }

    /// A host or router said something about groups: control hears so much of it as it can bear.
    pub(super) fn tell_multicast(
        &self,
        budgets: &mut Budgets,
        vlan: VlanId,
        member: Option<MemberId>,
        frame: &[u8],
        now: Nanos,
    ) {
        if frame.len() <= MAX_MESSAGE_BYTES && budgets.take(vlan, frame.len(), now) {
            self.tell(Event::Multicast { vlan, member, frame: frame.to_vec() });
        } else {
            self.drops.count(DropReason::MulticastLimited);
        }
    }

    pub(super) fn tell(&self, event: Event) {
        self.events.push(event, &self.drops);
    }

    /// Counts a loss; what was done needs no count here.
    pub(super) fn count(&self, result: Result<(), DropReason>) {
        if let Err(reason) = result {
            self.drops.count(reason);
        }
    }

    pub(super) fn say(&self, frame: Option<&[u8]>, vlan: VlanId, step: &'static str, text: impl FnOnce() -> String) {
        self.trace.say((&self.events, &self.drops), frame, vlan, step, text);
    }

    /// A loop uses this generation from now on; the second one to say so makes the event.
    pub(super) fn note_applied(&self, which: Loop, generation: u64) {
        self.applied[which as usize].store(generation, Ordering::SeqCst);
        let both = self.applied.iter().map(|a| a.load(Ordering::SeqCst)).min().unwrap_or(0);
        if both > self.applied_told.fetch_max(both, Ordering::SeqCst) {
            self.tell(Event::Applied(both));
        }
    }

    /// The generation that both loops use.
    pub(super) fn applied(&self) -> u64 {
        self.applied_told.load(Ordering::SeqCst)
    }

    /// A loop panicked: nothing is forwarded any more, and Python hears of it.
    pub(super) fn fail(&self, panic: &Box<dyn Any + Send>) {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        let text = text.unwrap_or_else(|| "a loop panicked".into());
        *lock(&self.panic) = Some(text.clone());
        self.stop.store(true, Ordering::SeqCst);
        self.wake();
        self.tell(Event::Panic(text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generation_is_applied_when_both_loops_use_it() {
        let shared = Shared::open(0, Allowed::default()).unwrap();
        shared.note_applied(Loop::Outbound, 2);
        assert_eq!((shared.applied(), shared.events.take()), (0, vec![]));
        shared.note_applied(Loop::Inbound, 1);
        assert_eq!((shared.applied(), shared.events.take()), (1, vec![Event::Applied(1)]));
        shared.note_applied(Loop::Inbound, 2);
        assert_eq!((shared.applied(), shared.events.take()), (2, vec![Event::Applied(2)]));
    }
}
