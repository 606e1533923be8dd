//! Loop probes at the ports of bridging VLANs: sent in time, whatever Python does, and recognised (SPEC 14.2).

use std::sync::Arc;

use super::live::Live;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::events::Event;
use crate::lookup::FastMap;
use crate::loops::{MAX_CHECKS_PER_S, OWN_IS_RECENT, Probe};
use crate::port::{Port, Ports};
use crate::tables::{Probing, Vlan};
use crate::{Nanos, PortId, VlanId};

const NANOS_PER_S: Nanos = 1_000_000_000;
/// Probes out of turn are so far apart at least (ours).
const HURRY_GAP_NS: Nanos = 100_000_000;

/// One VLAN's probes.
#[derive(Default)]
struct Sent {
    run: [u8; 8],
    forwards: bool,
    number: u64,
    sent_at: Nanos,
    next_at: Nanos,
}

/// What was sent, and how much was checked in this second.
#[derive(Default)]
pub(super) struct Looping {
    sent: FastMap<VlanId, Sent>,
    checks: FastMap<PortId, (Nanos, u32)>,
}

impl Looping {
    /// Takes up tables: what changed is said at once.
    pub(super) fn adopt(&mut self, live: &Live, ports: &Ports) {
        let wants = |vlan: &Vlan| vlan.spec.passage.probing.as_ref().is_some_and(|probing| probing.gap_ns > 0);
        self.sent.retain(|&id, _| live.tables.vlan(id).is_some_and(|at| wants(&live.tables.vlans[at])));
        self.checks.retain(|id, _| ports.contains_key(id));
        for vlan in live.tables.vlans.iter().filter(|vlan| wants(vlan)) {
            let Some(probing) = &vlan.spec.passage.probing else { continue };
            let sent = self.sent.entry(vlan.spec.id).or_default();
            if sent.run != probing.run {
                *sent = Sent { run: probing.run, ..Sent::default() };
            }
            if sent.forwards != vlan.spec.passage.forwards {
                (sent.forwards, sent.next_at) = (vlan.spec.passage.forwards, 0);
            }
        }
    }

    /// When the next probe is due.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        self.sent.values().map(|sent| sent.next_at).min()
    }

    /// Sends what is due.
    pub(super) fn turn(&mut self, shared: &Shared, live: &Live, ports: &Ports, now: Nanos) {
        for (&id, sent) in self.sent.iter_mut().filter(|(_, sent)| sent.next_at <= now) {
            let Some(vlan) = live.tables.vlan(id).map(|at| &live.tables.vlans[at]) else { continue };
            let Some(Probing { keys, handle, run, gap_ns }) = &vlan.spec.passage.probing else { continue };
            (sent.sent_at, sent.next_at) = (now, now + gap_ns);
            sent.number += 1;
            let probe = Probe { forwards: sent.forwards, handle: *handle, run: *run, number: sent.number };
            for key in keys {
                let frame = probe.emit(key);
                for port in vlan.spec.ports.iter().filter_map(|id| ports.get(id)) {
                    shared.count(port.write(&frame));
                }
            }
        }
    }

    /// Another member may forward for the same LAN: it is to hear of us now.
    pub(super) fn hurry(&mut self, vlan: VlanId) {
        if let Some(sent) = self.sent.get_mut(&vlan) {
            sent.next_at = sent.next_at.min(sent.sent_at + HURRY_GAP_NS);
        }
    }

    /// Whether a frame from a port is a member's probe; Python is told then.
    pub(super) fn recognise_untrusted(
        &mut self,
        shared: &Shared,
        vlan: &Vlan,
        port: &Arc<Port>,
        frame: &[u8],
        now: Nanos,
    ) -> Result<bool, DropReason> {
        let Some(probing) = &vlan.spec.passage.probing else { return Ok(false) };
        let (second, checks) = self.checks.entry(port.id).or_default();
        if *second != now / NANOS_PER_S {
            (*second, *checks) = (now / NANOS_PER_S, 0);
        }
        *checks += 1;
        if *checks > MAX_CHECKS_PER_S {
            return Err(DropReason::ProbeExcess);
        }
        let keys = probing.keys.iter().map(Arc::as_ref);
        let Some(probe) = Probe::parse_untrusted(frame, keys) else { return Ok(false) };
        let own = (probe.handle, probe.run) == (probing.handle, probing.run);
        let newest = self.sent.get(&vlan.spec.id).map_or(0, |sent| sent.number);
        if !own || probe.number.saturating_add(OWN_IS_RECENT) > newest && probe.number <= newest {
            shared.tell(Event::Probed { vlan: vlan.spec.id, probe, own });
        }
        if !own && probe.forwards && vlan.spec.passage.forwards {
            self.hurry(vlan.spec.id);
        }
        Ok(true)
    }
}
