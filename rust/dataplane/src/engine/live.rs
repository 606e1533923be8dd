//! Tables in use: the published set joined with the state that outlives it.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::class::ClassState;
use crate::flow::weight;
use crate::state::{MemberCounters, TrunkState, VlanState};
use crate::tables::{Carrier, Hop, Member, Tables, Trunk, Vlan};
use crate::{ClassId, TrunkId, VlanId};

/// One VLAN's state, members in the order of the tables.
pub(super) struct LiveVlan {
    pub(super) state: Arc<VlanState>,
    pub(super) members: Vec<Arc<MemberCounters>>,
}

/// The one or two ways of a packet for a member.
#[derive(Clone, Copy)]
pub(super) struct Ways {
    hops: [Hop; 2],
    count: usize,
}

impl Ways {
    /// One way.
    pub(super) fn one(hop: Hop) -> Self {
        Self { hops: [hop; 2], count: 1 }
    }

    /// Each of them gets the same packet.
    pub(super) fn hops(&self) -> &[Hop] {
        &self.hops[..self.count]
    }
}

/// One generation; `trunks`, `vlans` and `classes` are in the order of the tables.
#[derive(Default)]
pub(super) struct Live {
    pub(super) generation: u64,
    pub(super) tables: Arc<Tables>,
    pub(super) trunks: Vec<Arc<TrunkState>>,
    pub(super) vlans: Vec<LiveVlan>,
    pub(super) classes: Vec<Arc<ClassState>>,
}

impl Live {
    /// A trunk with its state.
    pub(super) fn trunk(&self, id: TrunkId) -> Option<(&Trunk, &TrunkState)> {
        let at = self.tables.trunk(id)?;
        Some((&self.tables.trunks[at], &self.trunks[at]))
    }

    /// By which of two ways a packet goes now: the backup only while the other one's trunk is down and its own is not.
    pub(super) fn way(&self, hop: Hop, backup: Option<Hop>) -> Hop {
        match backup {
            Some(other) if !self.is_up(hop.0) && self.is_up(other.0) => other,
            _ => hop,
        }
    }

    /// By which ways a packet of a flow goes to a member now (SPEC 6.6); None: there is no route.
    pub(super) fn ways(&self, member: &Member, flow: impl FnOnce() -> u64) -> Option<Ways> {
        let hop = member.hop?;
        if !member.spread.is_empty() {
            let flow = flow();
            let up = std::iter::once(&hop).chain(&member.spread).filter(|way| self.is_up(way.0));
            if let Some(&way) = up.max_by_key(|way| weight(flow, way.0)) {
                return Some(Ways::one(way));
            }
        }
        let first = self.way(hop, member.backup);
        Some(match member.backup {
            Some(other) if member.duplicate && first == hop && self.is_up(other.0) => {
                Ways { hops: [hop, other], count: 2 }
            }
            _ => Ways::one(first),
        })
    }

    /// Whether a packet for a member could leave now.
    pub(super) fn reaches(&self, member: &Member) -> bool {
        let Some(hop) = member.hop else { return false };
        self.is_open(self.way(hop, member.backup)) || member.spread.iter().any(|way| self.is_up(way.0))
    }

    /// Whether a packet could leave by a way.
    pub(super) fn is_open(&self, hop: Hop) -> bool {
        self.trunk(hop.0).is_some_and(|(trunk, _)| trunk.can_send())
    }

    /// Whether a trunk carries packets, as far as this node knows. A stream beside a dead udp path is no proof.
    fn is_up(&self, id: TrunkId) -> bool {
        self.trunk(id).is_some_and(|(trunk, state)| {
            let is_silent = trunk.carrier == Carrier::Udp && state.udp_down.load(Ordering::Relaxed);
            trunk.can_send() && !trunk.in_doubt && !is_silent
        })
    }

    /// A VLAN with its state.
    pub(super) fn vlan_at(&self, at: usize) -> (&Vlan, &LiveVlan) {
        (&self.tables.vlans[at], &self.vlans[at])
    }
}

/// The states by id; those of trunks and VLANs that leave the tables are forgotten.
pub(super) struct States {
    generation: u64,
    trunks: HashMap<TrunkId, Arc<TrunkState>>,
    vlans: HashMap<VlanId, Arc<VlanState>>,
    classes: HashMap<ClassId, Arc<ClassState>>,
    mac_age_s: u32,
    seed: u64,
}

impl States {
    pub(super) fn new(mac_age_s: u32, seed: u64) -> Self {
        Self { generation: 0, trunks: HashMap::new(), vlans: HashMap::new(), classes: HashMap::new(), mac_age_s, seed }
    }

    /// A VLAN's state.
    pub(super) fn vlan(&self, id: VlanId) -> Option<Arc<VlanState>> {
        self.vlans.get(&id).cloned()
    }

    /// The next generation.
    pub(super) fn make_live(&mut self, tables: Arc<Tables>) -> Live {
        self.generation += 1;
        let old_trunks = std::mem::take(&mut self.trunks);
        let old_vlans = std::mem::take(&mut self.vlans);
        let trunks = tables.trunks.iter().map(|trunk| {
            let state = old_trunks.get(&trunk.id).cloned().unwrap_or_default();
            self.trunks.insert(trunk.id, Arc::clone(&state));
            state
        });
        let trunks = trunks.collect();
        let vlans = tables.vlans.iter().map(|vlan| {
            let new = || Arc::new(VlanState::new(self.mac_age_s, self.seed));
            let state = old_vlans.get(&vlan.spec.id).cloned().unwrap_or_else(new);
            self.vlans.insert(vlan.spec.id, Arc::clone(&state));
            let members = state.retain(vlan.spec.members.iter().map(|m| m.id), |t| tables.trunk(t).is_some());
            LiveVlan { state, members }
        });
        let vlans = vlans.collect();
        let old_classes = std::mem::take(&mut self.classes);
        let classes = tables.classes.iter().map(|class| {
            let state = old_classes.get(&class.id).cloned().unwrap_or_default();
            self.classes.insert(class.id, Arc::clone(&state));
            state
        });
        let classes = classes.collect();
        Live { generation: self.generation, tables, trunks, vlans, classes }
    }
}
