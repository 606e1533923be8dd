//! The parts of the tables that Python publishes.

use std::sync::Arc;

use peertap_dataplane::class;
use peertap_dataplane::storm::Limits;
use peertap_dataplane::tables::{self, Carrier, Hop, Listening, VlanSpec, check_payload};
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;

use crate::arguments::{Int, PyAddress, address, bytes, to_python};
use crate::keys::{HopReceiveKey, HopSendKey, ReceiveKey, SendKey, VlanKeys};

type PyHop = (Int<u32>, Int<u32>);

pub fn hop((trunk, label): PyHop) -> Hop {
    (trunk.0, label.0)
}

/// One trunk session as the data plane sees it. `id` is never used again in a process.
#[pyclass(frozen, module = "peertap._core")]
pub struct Trunk(Arc<tables::Trunk>);

#[pymethods]
impl Trunk {
    #[new]
    #[pyo3(signature = (id, *, carrier, remote, send_udp, send_stream, receive, max_payload, in_doubt = false))]
    #[allow(clippy::too_many_arguments)] // as in the contract
    fn new(
        id: Int<u32>,
        carrier: &str,
        remote: Option<PyAddress>,
        send_udp: Option<&Bound<'_, HopSendKey>>,
        send_stream: Option<&Bound<'_, HopSendKey>>,
        receive: Vec<Py<HopReceiveKey>>,
        max_payload: Int<usize>,
        in_doubt: bool,
    ) -> PyResult<Self> {
        let carrier = match carrier {
            "udp" => Carrier::Udp,
            "stream" => Carrier::Stream,
            "none" => Carrier::None,
            other => return Err(PyValueError::new_err(format!("carrier {other:?} is not udp, stream or none"))),
        };
        Ok(Self(Arc::new(tables::Trunk {
            id: id.0,
            carrier,
            remote: remote.as_ref().map(address).transpose()?,
            send_udp: send_udp.map(|key| Arc::clone(&key.get().0)),
            send_stream: send_stream.map(|key| Arc::clone(&key.get().0)),
            receive: receive.iter().map(|key| Arc::clone(&key.get().0)).collect(),
            max_payload: check_payload(max_payload.0).map_err(to_python)?,
            in_doubt,
        })))
    }
}

/// Another member of a VLAN. `hop` is (trunk id, label) of its unicast token, None while there is no route; `backup` another one,
/// for while that trunk is down. spread: other ways over which flows are spread; duplicate: each packet goes by hop and backup.
#[pyclass(frozen, module = "peertap._core")]
pub struct Member(Arc<tables::Member>);

#[pymethods]
impl Member {
    #[new]
    #[pyo3(signature = (
        id, *, mac, token, hop, max_payload, pair_send, pair_receive, group_receive, bridge = false, backup = None,
        spread = vec![], duplicate = false
    ))]
    #[allow(clippy::too_many_arguments)] // as in the contract
    fn new(
        id: Int<u32>,
        mac: &[u8],
        token: &[u8],
        hop: Option<PyHop>,
        max_payload: Int<usize>,
        pair_send: Option<&Bound<'_, SendKey>>,
        pair_receive: Vec<Py<ReceiveKey>>,
        group_receive: Vec<Py<ReceiveKey>>,
        bridge: bool,
        backup: Option<PyHop>,
        spread: Vec<PyHop>,
        duplicate: bool,
    ) -> PyResult<Self> {
        let keys = |keys: &[Py<ReceiveKey>]| keys.iter().map(|key| Arc::clone(&key.get().0)).collect();
        Ok(Self(Arc::new(tables::Member {
            id: id.0,
            mac: bytes("mac", mac)?,
            token: bytes("token", token)?,
            hop: hop.map(self::hop),
            backup: backup.map(self::hop),
            spread: spread.into_iter().map(self::hop).collect(),
            duplicate,
            max_payload: check_payload(max_payload.0).map_err(to_python)?,
            pair_send: pair_send.map(|key| Arc::clone(&key.get().0)),
            pair_receive: keys(&pair_receive),
            group_receive: keys(&group_receive),
            bridge,
        })))
    }
}

/// What passes a VLAN's ports. probing: VLANs' keys, handle, run, and seconds between probes (0: they are only heard).
/// limits: broadcasts, multicasts and unknown unicasts a second per port and member, 0 = no limit.
#[pyclass(frozen, module = "peertap._core")]
pub struct Passage(tables::Passage);

type PyProbing = (Vec<Py<VlanKeys>>, Vec<u8>, Vec<u8>, f64);

#[pymethods]
impl Passage {
    #[new]
    #[pyo3(signature = (*, forwards, probing, answers, bpdus, limits))]
    fn new(
        forwards: bool,
        probing: Option<PyProbing>,
        answers: bool,
        bpdus: bool,
        limits: [Int<u32>; 3],
    ) -> PyResult<Self> {
        let probing = probing.map(|(keys, handle, run, gap_s)| {
            if !(0.0..=60.0).contains(&gap_s) {
                return Err(PyValueError::new_err("probes are sent every 0 to 60 seconds"));
            }
            Ok(tables::Probing {
                keys: keys.iter().map(|keys| Arc::new(keys.get().0.probe_key())).collect(),
                handle: bytes("handle", &handle)?,
                run: bytes("run", &run)?,
                gap_ns: (gap_s * 1e9) as u64,
            })
        });
        let limits = Limits(limits.map(|limit| limit.0));
        Ok(Self(tables::Passage { forwards, probing: probing.transpose()?, answers, bpdus, limits }))
    }
}

/// One VLAN of this node. ports: ids from Engine.add_port. group_edges: (trunk id, label) of every tree edge of the broadcast token. groups, rest: those for the listeners of a group's token, and of all other groups; group_keys make the tokens.
#[pyclass(frozen, module = "peertap._core")]
pub struct Vlan(Arc<tables::Vlan>);

#[pymethods]
impl Vlan {
    #[new]
    #[pyo3(signature = (id, *, keys, mac, token, group_token, ports, bridge, group_send, group_edges, members, passage = None, group_keys = None, groups = Vec::new(), rest = Vec::new(), has_router = false))]
    #[allow(clippy::too_many_arguments)] // as in the contract
    fn new(
        id: Int<u32>,
        keys: &VlanKeys,
        mac: &[u8],
        token: &[u8],
        group_token: &[u8],
        ports: Vec<Int<u32>>,
        bridge: bool,
        group_send: Option<&Bound<'_, SendKey>>,
        group_edges: Vec<PyHop>,
        members: Vec<Py<Member>>,
        passage: Option<&Bound<'_, Passage>>,
        group_keys: Option<&VlanKeys>,
        groups: Vec<(Vec<u8>, Vec<PyHop>)>,
        rest: Vec<PyHop>,
        has_router: bool,
    ) -> PyResult<Self> {
        if group_send.is_some_and(|key| key.get().0.names().vlan_id != keys.0.names().vlan_id) {
            return Err(PyValueError::new_err("group_send is of another VLAN"));
        }
        let hops = |hops: Vec<PyHop>| hops.into_iter().map(hop).collect::<Vec<_>>();
        let groups = groups.into_iter().map(|(token, ways)| Ok((bytes("token", &token)?, hops(ways))));
        let listening = Listening {
            keys: group_keys.map(|keys| Arc::clone(&keys.0)),
            groups: groups.collect::<PyResult<_>>()?,
            rest: hops(rest),
            has_router,
        };
        let spec = VlanSpec {
            id: id.0,
            mac: bytes("mac", mac)?,
            token: bytes("token", token)?,
            group_token: bytes("group_token", group_token)?,
            ports: ports.iter().map(|id| id.0).collect(),
            bridge,
            passage: passage.map(|passage| passage.get().0.clone()).unwrap_or_default(),
            group_send: group_send.map(|key| Arc::clone(&key.get().0)),
            group_edges: hops(group_edges),
            listening,
            members: members.iter().map(|member| Arc::clone(&member.get().0)).collect(),
        };
        Ok(Self(Arc::new(tables::Vlan::new(spec).map_err(to_python)?)))
    }
}

/// What a label on packets from a trunk means: deliver to that local VLAN, and/or send on by every (trunk, label) of `out` but the incoming trunk.
#[pyclass(frozen, module = "peertap._core")]
pub struct Label(Arc<tables::Label>);

#[pymethods]
impl Label {
    #[new]
    #[pyo3(signature = (trunk, label, *, token, group, deliver, out, backup = None, carried = None))]
    #[allow(clippy::too_many_arguments)] // as in the contract
    fn new(
        trunk: Int<u32>,
        label: Int<u32>,
        token: &[u8],
        group: bool,
        deliver: Option<Int<u32>>,
        out: Vec<PyHop>,
        backup: Option<PyHop>,
        carried: Option<Int<u32>>,
    ) -> PyResult<Self> {
        if backup.is_some() && (group || out.is_empty()) {
            return Err(PyValueError::new_err("a backup is for a unicast label with a way out"));
        }
        if !group && out.len() + usize::from(deliver.is_some()) > 1 {
            return Err(PyValueError::new_err("a unicast label delivers or has one way out"));
        }
        Ok(Self(Arc::new(tables::Label {
            trunk: trunk.0,
            label: label.0,
            token: bytes("token", token)?,
            group,
            deliver: deliver.map(|id| id.0),
            out: out.into_iter().map(hop).collect(),
            backup: backup.map(hop),
            class: carried.map(|id| id.0),
        })))
    }
}

/// A VTag under which packets are carried. limited: the limits of Tables are for it.
#[pyclass(frozen, module = "peertap._core")]
pub struct Class(Arc<class::Class>);

#[pymethods]
impl Class {
    #[new]
    #[pyo3(signature = (id, *, limited))]
    fn new(id: Int<u32>, limited: bool) -> Self {
        Self(Arc::new(class::Class { id: id.0, limited }))
    }
}

/// One immutable set, for Engine.apply.
#[pyclass(frozen, module = "peertap._core")]
pub struct Tables(pub Arc<tables::Tables>);

#[pymethods]
impl Tables {
    #[new]
    #[pyo3(signature = (*, trunks, vlans, labels, classes = vec![], limits = (Int(0), Int(0), Int(0))))]
    fn new(
        trunks: Vec<Py<Trunk>>,
        vlans: Vec<Py<Vlan>>,
        labels: Vec<Py<Label>>,
        classes: Vec<Py<Class>>,
        limits: (Int<u64>, Int<u64>, Int<u64>),
    ) -> PyResult<Self> {
        let trunks = trunks.iter().map(|trunk| Arc::clone(&trunk.get().0)).collect();
        let vlans = vlans.iter().map(|vlan| Arc::clone(&vlan.get().0)).collect();
        let labels = labels.iter().map(|label| Arc::clone(&label.get().0)).collect();
        let classes = classes.iter().map(|class| Arc::clone(&class.get().0)).collect();
        let limits = class::RelayLimits { all: limits.0.0, per_trunk: limits.1.0, per_class: limits.2.0 };
        let tables = tables::Tables::new(trunks, vlans, labels).map_err(to_python)?;
        let tables = tables.carrying(classes, limits).map_err(to_python)?;
        Ok(Self(Arc::new(tables)))
    }
}
