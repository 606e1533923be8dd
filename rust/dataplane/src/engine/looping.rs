//! Loop probes at the ports of bridging VLANs: sent in time, whatever Python does, and recognised (SPEC 14.2). A host that
//! comes over from another member is believed when no other one answers that it forwards for the same LAN.

use std::collections::HashMap;
use std::sync::Arc;

use super::live::Live;
use super::shared::Shared;
use crate::drops::DropReason;
use crate::events::Event;
use crate::lookup::FastMap;
use crate::loops::{MAX_CHECKS_PER_S, OWN_IS_RECENT, Probe};
use crate::port::{Port, Ports};
use crate::switch::Address;
use crate::tables::{Probing, Vlan};
use crate::{Nanos, PortId, VlanId};

const NANOS_PER_S: Nanos = 1_000_000_000;
/// Probes out of turn are so far apart at least (ours).
const HURRY_GAP_NS: Nanos = 50_000_000;
/// A host that comes over is believed after so long (ours: for a probe and its answer, each up to a gap late, and to spare).
const COMES_OVER_NS: Nanos = 250_000_000;
/// Hosts of a VLAN that come over at once (ours: as many as a port learns).
const MAX_COMING: usize = 1024;
/// Runs of others whose last number is known (ours: a LAN has few members).
const MAX_RIVALS: usize = 64;

/// The LAN at one VLAN's port: what we say there, who else does, and the hosts that come over.
#[derive(Default)]
struct Lan {
    run: [u8; 8],
    forwards: bool,
    number: u64,
    sent_at: Nanos,
    next_at: Nanos,
    /// The last number of each run of another one.
    rivals: HashMap<([u8; 8], [u8; 8]), u64>,
    /// When one of them last said that it forwards.
    rival_at: Nanos,
    coming: HashMap<Address, Coming>,
}

impl Lan {
    fn hurry(&mut self) {
        self.next_at = self.next_at.min(self.sent_at + HURRY_GAP_NS);
    }

    /// Whether a probe of another one is later than all of its run before it; a recording is not.
    fn is_news(&mut self, probe: &Probe) -> bool {
        let has_room = self.rivals.len() < MAX_RIVALS;
        match self.rivals.get_mut(&(probe.handle, probe.run)) {
            Some(last) if probe.number <= *last => return false,
            Some(last) => *last = probe.number,
            None if has_room => _ = self.rivals.insert((probe.handle, probe.run), probe.number),
            None => {}
        }
        true
    }
}

/// A host that spoke at a port while it is behind another member.
struct Coming {
    port: PortId,
    since: Nanos,
}

/// The LANs where probes are sent, and how much was checked at each port in this second.
#[derive(Default)]
pub(super) struct Looping {
    lans: FastMap<VlanId, Lan>,
    checks: FastMap<PortId, (Nanos, u32)>,
}

impl Looping {
    /// Takes up tables: what changed is said at once.
    pub(super) fn adopt(&mut self, live: &Live, ports: &Ports) {
        let wants = |vlan: &Vlan| vlan.spec.passage.probing.as_ref().is_some_and(|probing| probing.gap_ns > 0);
        self.lans.retain(|&id, _| live.tables.vlan(id).is_some_and(|at| wants(&live.tables.vlans[at])));
        self.checks.retain(|id, _| ports.contains_key(id));
        for vlan in live.tables.vlans.iter().filter(|vlan| wants(vlan)) {
            let Some(probing) = &vlan.spec.passage.probing else { continue };
            let lan = self.lans.entry(vlan.spec.id).or_default();
            if lan.run != probing.run {
                *lan = Lan { run: probing.run, ..Lan::default() };
            }
            if lan.forwards != vlan.spec.passage.forwards {
                (lan.forwards, lan.next_at) = (vlan.spec.passage.forwards, 0);
                lan.coming.clear();
            }
        }
    }

    /// When the next probe is due, or a host has come over.
    pub(super) fn deadline(&self) -> Option<Nanos> {
        let coming = self.lans.values().flat_map(|lan| lan.coming.values()).map(|one| one.since + COMES_OVER_NS);
        self.lans.values().map(|lan| lan.next_at).chain(coming).min()
    }

    /// Sends what is due.
    pub(super) fn turn(&mut self, shared: &Shared, live: &Live, ports: &Ports, now: Nanos) {
        for (&id, lan) in self.lans.iter_mut().filter(|(_, lan)| lan.next_at <= now) {
            let Some(vlan) = live.tables.vlan(id).map(|at| &live.tables.vlans[at]) else { continue };
            let Some(Probing { keys, handle, run, gap_ns }) = &vlan.spec.passage.probing else { continue };
            (lan.sent_at, lan.next_at) = (now, now + gap_ns);
            lan.number += 1;
            let probe = Probe { forwards: lan.forwards, handle: *handle, run: *run, number: lan.number };
            for key in keys {
                let frame = probe.emit(key);
                for port in vlan.spec.ports.iter().filter_map(|id| ports.get(id)) {
                    shared.count(port.write(&frame));
                }
            }
        }
    }

    /// Whether a VLAN's port says what it does, so that others answer.
    pub(super) fn probes(&self, vlan: VlanId) -> bool {
        self.lans.contains_key(&vlan)
    }

    /// A host that is behind another member speaks at a port: it moved here, or is on a LAN that another one forwards for,
    /// who is to hear of us now. Returns whether there is room to note it.
    pub(super) fn comes_over(&mut self, vlan: VlanId, host: Address, port: PortId, now: Nanos) -> bool {
        let Some(lan) = self.lans.get_mut(&vlan) else { return false };
        let is_known = lan.coming.contains_key(&host);
        if !is_known && lan.coming.len() < MAX_COMING {
            lan.coming.insert(host, Coming { port, since: now });
            lan.hurry();
            return true;
        }
        is_known
    }

    /// The hosts that have come over by now; not those in whose time another one said that it forwards.
    pub(super) fn take_come_over(&mut self, now: Nanos) -> Vec<(VlanId, Address, PortId)> {
        let mut out = Vec::new();
        for (&id, lan) in &mut self.lans {
            let rival_at = lan.rival_at;
            let due = lan.coming.extract_if(|_, one| one.since + COMES_OVER_NS <= now);
            out.extend(due.filter(|(_, one)| rival_at < one.since).map(|(host, one)| (id, host, one.port)));
        }
        out
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
        let newest = self.lans.get(&vlan.spec.id).map_or(0, |lan| lan.number);
        if !own || probe.number.saturating_add(OWN_IS_RECENT) > newest && probe.number <= newest {
            shared.tell(Event::Probed { vlan: vlan.spec.id, probe, own });
        }
        if !own
            && let Some(lan) = self.lans.get_mut(&vlan.spec.id)
            && lan.is_news(&probe)
            && probe.forwards
            && vlan.spec.passage.forwards
        {
            lan.rival_at = now;
            lan.hurry();
        }
        Ok(true)
    }
}
