//! What the control plane publishes: one immutable set of trunks, VLANs and labels, with the maps that make each look-up one step.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::sync::Arc;

use crate::class::{Class, RelayLimits};
use crate::error::{Error, Result};
use crate::frame::{Mac, is_group};
use crate::keys::{HopReceiveKey, HopSendKey, ReceiveKey, SendKey};
use crate::lookup::FastMap;
use crate::loops::ProbeKey;
use crate::packet::MAX_PACKET_BYTES;
use crate::storm::Limits;
use crate::udp::Address;
use crate::vlan_keys::VlanKeys;
use crate::{ClassId, LabelValue, MemberId, Nanos, PortId, Token, TrunkId, VlanId};

/// Keys that are tried when kids collide (PROTOCOL 1).
pub const MAX_CANDIDATES: usize = 4;
/// The smallest payload that a trunk or route may have (ours: room for a fragment of some use).
pub const MIN_PAYLOAD_BYTES: usize = 256;

/// Where a packet goes next: a trunk and the label that its far end gave us.
pub type Hop = (TrunkId, LabelValue);

/// Which carrier sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// UDP to `remote`.
    Udp,
    /// The stream that Python feeds.
    Stream,
    /// None yet.
    None,
}

impl Carrier {
    /// The name in snapshots.
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Stream => "stream",
            Self::None => "none",
        }
    }
}

/// One trunk session.
pub struct Trunk {
    /// Its id.
    pub id: TrunkId,
    /// Which carrier sends.
    pub carrier: Carrier,
    /// The validated address of the udp carrier.
    pub remote: Option<Address>,
    /// Key of the udp carrier.
    pub send_udp: Option<Arc<HopSendKey>>,
    /// Key of the stream carrier.
    pub send_stream: Option<Arc<HopSendKey>>,
    /// Keys of both carriers and all live epochs.
    pub receive: Vec<Arc<HopReceiveKey>>,
    /// The largest packet.
    pub max_payload: usize,
    /// Its udp path went and nothing was heard since: a backup goes before it.
    pub in_doubt: bool,
}

impl Trunk {
    /// Whether a packet could leave by it now.
    pub fn can_send(&self) -> bool {
        match self.carrier {
            Carrier::Udp => self.send_udp.is_some() && self.remote.is_some(),
            Carrier::Stream => self.send_stream.is_some(),
            Carrier::None => false,
        }
    }
}

/// Another member of a VLAN.
pub struct Member {
    /// Its id within the VLAN.
    pub id: MemberId,
    /// Its virtual MAC.
    pub mac: Mac,
    /// Its unicast token.
    pub token: Token,
    /// The way to it, if there is one.
    pub hop: Option<Hop>,
    /// Another way, for while that one is down.
    pub backup: Option<Hop>,
    /// Other ways of about the same length: flows are spread over `hop` and these.
    pub spread: Vec<Hop>,
    /// Each packet goes by `hop` and by `backup`.
    pub duplicate: bool,
    /// The largest packet of the route, and of the other ways.
    pub max_payload: usize,
    /// Our pair key to it.
    pub pair_send: Option<Arc<SendKey>>,
    /// Its pair keys to us.
    pub pair_receive: Vec<Arc<ReceiveKey>>,
    /// Its group keys.
    pub group_receive: Vec<Arc<ReceiveKey>>,
    /// Whether MACs behind it are allowed.
    pub bridge: bool,
}

/// How a VLAN's ports look for loops on the LAN that they are bridged to (SPEC 14.2).
#[derive(Clone)]
pub struct Probing {
    /// Under which probes are recognised, and one is sent under each.
    pub keys: Vec<Arc<ProbeKey>>,
    /// Who we are there.
    pub handle: [u8; 8],
    /// Of this opening of the ports.
    pub run: [u8; 8],
    /// How often a probe is sent; 0 = never, they are only heard.
    pub gap_ns: Nanos,
}

/// What passes a VLAN's ports.
#[derive(Clone)]
pub struct Passage {
    /// Whether frames pass at all: not while another member forwards for the same LAN.
    pub forwards: bool,
    /// How loops are looked for, at ports that are bridged.
    pub probing: Option<Probing>,
    /// Questions for addresses are answered here where the answer is known.
    pub answers: bool,
    /// Frames that bridges keep to themselves pass.
    pub bpdus: bool,
    /// Frames for all, per port and per member.
    pub limits: Limits,
}

impl Default for Passage {
    fn default() -> Self {
        Self { forwards: true, probing: None, answers: false, bpdus: false, limits: Limits::default() }
    }
}

/// Who listens to which groups, as far as frames of our own are concerned (SPEC 13).
#[derive(Default)]
pub struct Listening {
    /// They make a group's token from its MAC; None: no group has one.
    pub keys: Option<Arc<VlanKeys>>,
    /// The ways to the listeners of each token.
    pub groups: Vec<(Token, Vec<Hop>)>,
    /// The ways of all other groups: to members that want every group.
    pub rest: Vec<Hop>,
    /// Whether a router is behind our ports.
    pub has_router: bool,
}

/// For whom a group frame of our own is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Every member.
    All,
    /// The listeners of a group.
    Group(Token),
    /// Members that want every group.
    Rest,
}

/// What makes a VLAN.
pub struct VlanSpec {
    /// Its id.
    pub id: VlanId,
    /// Our virtual MAC.
    pub mac: Mac,
    /// Our unicast token.
    pub token: Token,
    /// The broadcast token.
    pub group_token: Token,
    /// Local ports.
    pub ports: Vec<PortId>,
    /// Whether MACs behind our ports are allowed.
    pub bridge: bool,
    /// What passes the ports.
    pub passage: Passage,
    /// Our group key.
    pub group_send: Option<Arc<SendKey>>,
    /// Every tree edge of the broadcast token.
    pub group_edges: Vec<Hop>,
    /// Where frames of groups go.
    pub listening: Listening,
    /// The other members.
    pub members: Vec<Arc<Member>>,
}

/// Kids, MACs and labels are chosen by others, who could make them collide: their maps have the standard hasher.
type Candidates = HashMap<[u8; 4], Vec<(usize, Arc<ReceiveKey>)>>;

/// One VLAN of this node, with its maps.
pub struct Vlan {
    /// What it was made of.
    pub spec: VlanSpec,
    /// Whether there may be MACs behind somebody: frames to unknown ones go to all.
    pub floods: bool,
    by_mac: HashMap<Mac, usize>,
    by_group: HashMap<Token, usize>,
    by_id: FastMap<MemberId, usize>,
    pair: Candidates,
    group: Candidates,
}

impl Vlan {
    /// Checks and indexes.
    pub fn new(spec: VlanSpec) -> Result<Self> {
        let members = || spec.members.iter().enumerate();
        unique("member id", spec.members.iter().map(|m| m.id))?;
        unique("member MAC", spec.members.iter().map(|m| m.mac))?;
        unique("port", spec.ports.iter().copied())?;
        unique("group", spec.listening.groups.iter().map(|(token, _)| token))?;
        if is_group(&spec.mac) || spec.members.iter().any(|m| is_group(&m.mac) || m.mac == spec.mac) {
            return Err(Error::argument("a virtual MAC is no group address, and each member has its own"));
        }
        if spec.group_send.as_ref().is_some_and(|key| key.signer().is_none()) {
            return Err(Error::argument("group_send must come from group_sender"));
        }
        for member in &spec.members {
            let pair_is_group = member.pair_receive.iter().any(|key| key.is_group())
                || member.pair_send.as_ref().is_some_and(|key| key.signer().is_some());
            if pair_is_group || member.group_receive.iter().any(|key| !key.is_group()) {
                return Err(Error::argument(format!("member {}: pair and group keys are mixed up", member.id)));
            }
        }
        let (mut pair, mut group) = (Candidates::default(), Candidates::default());
        for (at, member) in members() {
            for (map, keys) in [(&mut pair, &member.pair_receive), (&mut group, &member.group_receive)] {
                for key in keys {
                    let candidates = map.entry(key.kid()).or_default();
                    if candidates.len() < MAX_CANDIDATES {
                        candidates.push((at, Arc::clone(key)));
                    }
                }
            }
        }
        let by_mac = members().map(|(at, m)| (m.mac, at)).collect();
        let by_id = members().map(|(at, m)| (m.id, at)).collect();
        let by_group = spec.listening.groups.iter().enumerate().map(|(at, (token, _))| (*token, at)).collect();
        let floods = spec.bridge || spec.members.iter().any(|m| m.bridge);
        Ok(Self { spec, floods, by_mac, by_group, by_id, pair, group })
    }

    /// The member with this virtual MAC.
    pub fn member_by_mac(&self, mac: &Mac) -> Option<usize> {
        self.by_mac.get(mac).copied()
    }

    /// The member with this id.
    pub fn member_by_id(&self, id: MemberId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Where a group frame goes.
    pub fn hops(&self, way: Way) -> &[Hop] {
        let listening = &self.spec.listening;
        match way {
            Way::All => &self.spec.group_edges,
            Way::Group(token) => self.by_group.get(&token).map_or(&listening.rest, |&at| &listening.groups[at].1),
            Way::Rest => &listening.rest,
        }
    }

    /// The keys that a kid may name, with their members.
    pub fn candidates(&self, kid: [u8; 4], group: bool) -> &[(usize, Arc<ReceiveKey>)] {
        let map = if group { &self.group } else { &self.pair };
        map.get(&kid).map_or(&[], Vec::as_slice)
    }
}

/// What a label on packets from a trunk means.
pub struct Label {
    /// The trunk it is valid on.
    pub trunk: TrunkId,
    /// Its value.
    pub label: LabelValue,
    /// The token that its packets are sealed under.
    pub token: Token,
    /// Whether the token is a group's.
    pub group: bool,
    /// Deliver to this local VLAN.
    pub deliver: Option<VlanId>,
    /// Send on by each but the incoming trunk.
    pub out: Vec<Hop>,
    /// Another way, for while the one of a unicast label is down.
    pub backup: Option<Hop>,
    /// Under whose name what is sent on is carried, counted and limited.
    pub class: Option<ClassId>,
}

/// One immutable set. References to trunks or VLANs that are not in it are allowed: such packets are dropped and counted.
#[derive(Default)]
pub struct Tables {
    /// All trunks.
    pub trunks: Vec<Arc<Trunk>>,
    /// All VLANs.
    pub vlans: Vec<Arc<Vlan>>,
    trunk_by_id: FastMap<TrunkId, usize>,
    vlan_by_id: FastMap<VlanId, usize>,
    vlan_by_port: FastMap<PortId, usize>,
    by_index: FastMap<u32, (usize, Arc<HopReceiveKey>)>,
    by_label: HashMap<Hop, Arc<Label>>,
    /// Whose packets are carried.
    pub classes: Vec<Arc<Class>>,
    class_by_id: FastMap<ClassId, usize>,
    /// How many.
    pub limits: RelayLimits,
}

impl Tables {
    /// Checks and indexes.
    pub fn new(trunks: Vec<Arc<Trunk>>, vlans: Vec<Arc<Vlan>>, labels: Vec<Arc<Label>>) -> Result<Self> {
        unique("trunk id", trunks.iter().map(|t| t.id))?;
        unique("receive index", trunks.iter().flat_map(|t| t.receive.iter().map(|k| k.index())))?;
        unique("VLAN id", vlans.iter().map(|v| v.spec.id))?;
        unique("port", vlans.iter().flat_map(|v| v.spec.ports.iter().copied()))?;
        unique("label", labels.iter().map(|l| (l.trunk, l.label)))?;
        let trunk_by_id = trunks.iter().enumerate().map(|(at, t)| (t.id, at)).collect();
        let vlan_by_id = vlans.iter().enumerate().map(|(at, v)| (v.spec.id, at)).collect();
        let ports = |(at, v): (usize, &Arc<Vlan>)| v.spec.ports.iter().map(move |&p| (p, at)).collect::<Vec<_>>();
        let vlan_by_port = vlans.iter().enumerate().flat_map(ports).collect();
        let keys = |(at, t): (usize, &Arc<Trunk>)| {
            t.receive.iter().map(move |k| (k.index(), (at, Arc::clone(k)))).collect::<Vec<_>>()
        };
        let by_index = trunks.iter().enumerate().flat_map(keys).collect();
        let by_label = labels.into_iter().map(|l| ((l.trunk, l.label), l)).collect();
        Ok(Self { trunks, vlans, trunk_by_id, vlan_by_id, vlan_by_port, by_index, by_label, ..Self::default() })
    }

    /// The same with classes and limits of what is carried.
    pub fn carrying(self, classes: Vec<Arc<Class>>, limits: RelayLimits) -> Result<Self> {
        unique("class id", classes.iter().map(|c| c.id))?;
        let class_by_id = classes.iter().enumerate().map(|(at, c)| (c.id, at)).collect();
        Ok(Self { classes, class_by_id, limits, ..self })
    }

    /// The place of a class.
    pub fn class(&self, id: ClassId) -> Option<usize> {
        self.class_by_id.get(&id).copied()
    }

    /// A trunk's place.
    pub fn trunk(&self, id: TrunkId) -> Option<usize> {
        self.trunk_by_id.get(&id).copied()
    }

    /// A VLAN's place.
    pub fn vlan(&self, id: VlanId) -> Option<usize> {
        self.vlan_by_id.get(&id).copied()
    }

    /// The place of the VLAN that uses a port.
    pub fn vlan_of_port(&self, id: PortId) -> Option<usize> {
        self.vlan_by_port.get(&id).copied()
    }

    /// The trunk and key that an index names.
    pub fn receive_key(&self, index: u32) -> Option<&(usize, Arc<HopReceiveKey>)> {
        self.by_index.get(&index)
    }

    /// What a label on a trunk means.
    pub fn label(&self, hop: Hop) -> Option<&Arc<Label>> {
        self.by_label.get(&hop)
    }
}

/// A payload size within what a packet may have.
pub fn check_payload(bytes: usize) -> Result<usize> {
    if (MIN_PAYLOAD_BYTES..=MAX_PACKET_BYTES).contains(&bytes) {
        return Ok(bytes);
    }
    Err(Error::argument(format!("max_payload must be {MIN_PAYLOAD_BYTES} to {MAX_PACKET_BYTES} bytes, not {bytes}")))
}

fn unique<T: Hash + Eq + std::fmt::Debug>(what: &str, items: impl Iterator<Item = T>) -> Result<()> {
    let mut seen = HashSet::new();
    for item in items {
        if seen.contains(&item) {
            return Err(Error::argument(format!("{what} {item:?} is there twice")));
        }
        seen.insert(item);
    }
    Ok(())
}
