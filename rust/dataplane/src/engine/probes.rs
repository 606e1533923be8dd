//! Probes, their replies, and the timers of liveness; part of the inbound loop.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::live::Live;
use super::lock;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::events::Event;
use crate::liveness::{Action, Liveness, SILENCE_NS};
use crate::packet::{seal_probe, seal_probe_reply};
use crate::tables::{Carrier, Trunk};
use crate::udp::Address;
use crate::{Nanos, TrunkId, sys};

/// How long a reply counts (SPEC 2.2).
const REPLY_NS: Nanos = 5_000_000_000;
/// Probes without reply that are remembered (ours); the oldest counts as lost.
const MAX_OUTSTANDING: usize = 256;
/// A trunk that sent something in the last second is looked at every 250 ms: packets need not wake the loop (ours).
const ACTIVE_NS: Nanos = 1_000_000_000;

struct Outstanding {
    id: [u8; 8],
    trunk: TrunkId,
    address: Address,
    sent_at: Nanos,
    /// Whether the address was in use when it was probed: a candidate that does not answer is no loss.
    in_use: bool,
}

pub(super) struct Probes {
    shared: Arc<Shared>,
    outstanding: VecDeque<Outstanding>,
    liveness: HashMap<TrunkId, (Liveness, Address)>,
}

impl Probes {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, outstanding: VecDeque::new(), liveness: HashMap::new() }
    }

    /// Watches the trunks that send by udp; a new carrier or address starts afresh.
    pub(super) fn adopt(&mut self, live: &Live, now: Nanos) {
        let mut old = std::mem::take(&mut self.liveness);
        for (trunk, state) in live.tables.trunks.iter().zip(&live.trunks) {
            let remote = trunk.remote.filter(|_| trunk.carrier == Carrier::Udp && trunk.send_udp.is_some());
            let known = old.remove(&trunk.id).filter(|(_, address)| Some(*address) == remote);
            if known.is_none() {
                state.udp_down.store(false, Ordering::Relaxed);
                state.unanswered_since.store(0, Ordering::Relaxed);
                state.udp_path.reset();
            }
            if let Some(remote) = remote {
                self.liveness.insert(trunk.id, known.unwrap_or_else(|| (Liveness::new(now), remote)));
            }
        }
    }

    /// Sends what Python asked for.
    pub(super) fn send_asked(&mut self, live: &Live, now: Nanos) {
        let asked = std::mem::take(&mut *lock(&self.shared.probes_asked));
        for (trunk, address) in asked {
            let sent = self.send(live, trunk, &address, now);
            self.shared.count(sent);
        }
    }

    /// Replies to the address that the probe came from.
    pub(super) fn answer(&self, live: &Live, at: usize, id: &[u8; 8], from: &Address) -> Result<(), DropReason> {
        let key = live.tables.trunks[at].send_udp.as_ref().ok_or(DropReason::NoCarrier)?;
        let reply = seal_probe_reply(key, id, from)?;
        self.shared.udp.send(&reply, from)?;
        live.trunks[at].sent(1, reply.len());
        Ok(())
    }

    /// An authentic reply, from wherever: the address that we probed is valid.
    pub(super) fn on_reply(&mut self, live: &Live, trunk: TrunkId, id: &[u8; 8], now: Nanos) -> Result<(), DropReason> {
        self.expire(live, now);
        let at = self.outstanding.iter().position(|o| o.id == *id && o.trunk == trunk);
        let at = at.ok_or(DropReason::ProbeUnmatched)?;
        let probe = self.outstanding.remove(at).ok_or(DropReason::ProbeUnmatched)?;
        let rtt_s = now.saturating_sub(probe.sent_at) as f64 / 1e9;
        note_end(live, &probe, Some(rtt_s));
        self.shared.tell(Event::Path { trunk, address: probe.address, rtt_s });
        Ok(())
    }

    /// Does what is due and says when to come again.
    pub(super) fn run_timers(&mut self, live: &Live, now: Nanos) -> Nanos {
        self.expire(live, now);
        let mut next = Nanos::MAX;
        let mut due = Vec::new();
        for (&trunk, (machine, remote)) in &mut self.liveness {
            let Some((_, state)) = live.trunk(trunk) else { continue };
            while let Some(action) = machine.turn(now, state.traffic()) {
                match action {
                    Action::Probe => due.push((trunk, *remote)),
                    Action::Down => {
                        state.udp_down.store(true, Ordering::Relaxed);
                        self.shared.tell(Event::PathDown { trunk });
                    }
                    Action::Up => state.udp_down.store(false, Ordering::Relaxed),
                }
            }
            let traffic = state.traffic();
            let active = now < state.sent_udp_at.load(Ordering::Relaxed).saturating_add(ACTIVE_NS);
            let tick = if active { now + SILENCE_NS } else { Nanos::MAX };
            next = next.min(machine.next_deadline(traffic)).min(tick);
        }
        for (trunk, remote) in due {
            let sent = self.send(live, trunk, &remote, now);
            self.shared.count(sent);
        }
        next.max(now + 1)
    }

    fn send(&mut self, live: &Live, trunk: TrunkId, address: &Address, now: Nanos) -> Result<(), DropReason> {
        let (spec, state) = live.trunk(trunk).ok_or(DropReason::NoTrunk)?;
        let key = spec.send_udp.as_ref().ok_or(DropReason::NoCarrier)?;
        let id = sys::random().map_err(|_| DropReason::NoCarrier)?;
        let packet = seal_probe(key, &id)?;
        if self.outstanding.len() >= MAX_OUTSTANDING {
            self.lose_oldest(live);
        }
        let in_use = spec.remote == Some(*address);
        self.outstanding.push_back(Outstanding { id, trunk, address: *address, sent_at: now, in_use });
        self.shared.udp.send(&packet, address)?;
        state.sent(1, packet.len());
        Ok(())
    }

    fn expire(&mut self, live: &Live, now: Nanos) {
        while self.outstanding.front().is_some_and(|o| now >= o.sent_at + REPLY_NS) {
            self.lose_oldest(live);
        }
    }

    fn lose_oldest(&mut self, live: &Live) {
        let Some(probe) = self.outstanding.pop_front() else { return };
        note_end(live, &probe, None);
    }
}

/// Only probes of the address in use say something about the trunk.
fn note_end(live: &Live, probe: &Outstanding, rtt_s: Option<f64>) {
    let here = |spec: &Trunk| spec.remote == Some(probe.address) && (probe.in_use || rtt_s.is_some());
    if let Some((_, state)) = live.trunk(probe.trunk).filter(|(spec, _)| here(spec)) {
        state.probe_ended(rtt_s);
    }
}
