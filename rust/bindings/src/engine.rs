//! The engine. Every call that may wait or work releases the GIL.

use std::sync::Arc;

use peertap_dataplane::aead;
use peertap_dataplane::engine::{self, Snapshot};
use peertap_dataplane::events::Event;
use peertap_dataplane::flow::{flow_of_untrusted, weight};
use peertap_dataplane::loops::Probe;
use peertap_dataplane::offload::Allowed;
use peertap_dataplane::switch;
use peertap_dataplane::udp::Address;
use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyList};

use crate::arguments::{Int, PyAddress, bytes, to_python};
use crate::tables::{Tables, hop};

/// Whether this processor has instructions for AES-GCM.
#[pyfunction]
pub fn has_aes() -> bool {
    aead::has_aes()
}

/// The data plane: loops on threads of their own, none of which ever attaches to Python (SPEC 2, docs/architecture.md).
#[pyclass(frozen, module = "peertap._core")]
pub struct Engine(engine::Engine);

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, udp_port, mac_age_s = 300.0, without = Vec::new()))]
    fn new(py: Python<'_>, udp_port: Int<u16>, mac_age_s: f64, without: Vec<String>) -> PyResult<Self> {
        let allowed = Allowed::all_but(without.iter().map(String::as_str)).ok_or_else(|| {
            PyValueError::new_err(format!("without {without:?}: the offloads are {}", Allowed::NAMES.join(", ")))
        })?;
        py.detach(|| engine::Engine::start(udp_port.0, mac_age_s, allowed)).map(Self).map_err(to_python)
    }

    #[getter]
    fn udp_port(&self) -> u16 {
        self.0.udp_port()
    }

    #[getter]
    fn event_fd(&self) -> i32 {
        self.0.event_fd()
    }

    /// Takes a duplicate (F_DUPFD_CLOEXEC) of a TAP descriptor opened with IFF_NO_PI; with IFF_VNET_HDR it may offload.
    fn add_port(&self, fd: Int<i32>, name: String) -> PyResult<u32> {
        self.0.add_port(fd.0, name, None).map_err(to_python)
    }

    fn remove_port(&self, port: Int<u32>) -> PyResult<()> {
        self.0.remove_port(port.0).map_err(to_python)
    }

    /// Publishes; returns the generation. ("applied", generation) comes when every loop uses it.
    fn apply(&self, py: Python<'_>, tables: &Bound<'_, Tables>) -> PyResult<u64> {
        let tables = Arc::clone(&tables.get().0);
        py.detach(|| self.0.apply(tables)).map_err(to_python)
    }

    fn probe(&self, trunk: Int<u32>, address: PyAddress) -> PyResult<()> {
        let address = crate::arguments::address(&address)?;
        self.0.probe(trunk.0, address).map_err(to_python)
    }

    /// Sends an INTRO body (as from hello_seal) by each (trunk id, label).
    fn send_intro(&self, py: Python<'_>, hops: Vec<(Int<u32>, Int<u32>)>, nonce: &[u8], sealed: &[u8]) -> PyResult<()> {
        let (hops, nonce) = (hops.into_iter().map(hop).collect::<Vec<_>>(), bytes("nonce", nonce)?);
        py.detach(|| self.0.send_intro(&hops, nonce, sealed)).map_err(to_python)
    }

    /// A member control message under the pair key (SPEC 5.4).
    #[pyo3(signature = (vlan, member, message, by = None))]
    fn send_control(
        &self,
        py: Python<'_>,
        vlan: Int<u32>,
        member: Int<u32>,
        message: &[u8],
        by: Option<(Int<u32>, Int<u32>)>,
    ) -> PyResult<()> {
        let by = by.map(|(trunk, label)| (trunk.0, label.0));
        py.detach(|| self.0.send_control(vlan.0, member.0, message, by)).map_err(to_python)
    }

    /// A member control message for all under our group key (SPEC 5.4).
    fn send_group_control(&self, py: Python<'_>, vlan: Int<u32>, message: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.send_group_control(vlan.0, message)).map_err(to_python)
    }

    /// Says behind which member hosts are; None: behind none.
    fn place_macs(&self, vlan: Int<u32>, places: Vec<(PyHost, Option<Int<u32>>)>) -> PyResult<()> {
        let place = |(one, member): &(PyHost, Option<Int<u32>>)| Ok((host(one)?, member.map(|member| member.0)));
        let places = places.iter().map(place).collect::<PyResult<Vec<_>>>()?;
        self.0.place_macs(vlan.0, &places).map_err(to_python)
    }

    /// Hosts are not at our ports; refused: and may not be until they are forgotten.
    fn forget_local_macs(&self, vlan: Int<u32>, hosts: Vec<PyHost>, refused: bool) -> PyResult<()> {
        let hosts = hosts.iter().map(host).collect::<PyResult<Vec<_>>>()?;
        self.0.forget_local_macs(vlan.0, &hosts, refused).map_err(to_python)
    }

    /// A group frame of our own, to the members that want every group.
    fn send_frame(&self, py: Python<'_>, vlan: Int<u32>, frame: Vec<u8>) -> PyResult<()> {
        py.detach(|| self.0.send_frame(vlan.0, frame)).map_err(to_python)
    }

    /// A frame of our own, to the VLAN's ports.
    fn write_frame(&self, py: Python<'_>, vlan: Int<u32>, frame: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.write_frame(vlan.0, frame)).map_err(to_python)
    }

    /// The next batch for the trunk's stream carrier, or None; take until None. <= 64 KiB.
    fn stream_take<'py>(&self, py: Python<'py>, trunk: Int<u32>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let batch = py.detach(|| self.0.stream_take(trunk.0)).map_err(to_python)?;
        Ok(batch.map(|batch| PyBytes::new(py, &batch)))
    }

    fn stream_put(&self, py: Python<'_>, trunk: Int<u32>, batch: &[u8]) -> PyResult<()> {
        py.detach(|| self.0.stream_put(trunk.0, batch)).map_err(to_python)
    }

    fn events<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let events = PyList::empty(py);
        for event in self.0.events() {
            events.append(to_tuple(py, &event)?)?;
        }
        Ok(events)
    }

    fn snapshot<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let snapshot = py.detach(|| self.0.snapshot());
        to_dict(py, &snapshot)
    }

    fn traffic(&self) -> Vec<(u32, u32, u64, u64)> {
        self.0.traffic()
    }

    fn trace(&self, seconds: f64, mac: Option<&[u8]>) -> PyResult<()> {
        let mac = mac.map(|mac| bytes("mac", mac)).transpose()?;
        self.0.trace(seconds, mac).map_err(to_python)
    }

    fn stop(&self, py: Python<'_>) {
        py.detach(|| self.0.stop());
    }
}

/// A host as Python writes it: MAC and 802.1Q VLAN.
type PyHost = (Vec<u8>, Option<Int<u16>>);

fn host((mac, vid): &PyHost) -> PyResult<switch::Address> {
    Ok((bytes("mac", mac)?, vid.map(|vid| vid.0)))
}

fn to_tuple<'py>(py: Python<'py>, event: &Event) -> PyResult<Bound<'py, PyAny>> {
    let raw = |value: &[u8]| PyBytes::new(py, value);
    let pair = |address: &Address| (address.host(), address.port);
    let tuple = match event {
        Event::Applied(generation) => ("applied", generation).into_pyobject(py)?,
        Event::Intro { vlan, trunk, token, nonce, sealed } => {
            ("intro", vlan, trunk, raw(token), raw(nonce), raw(sealed)).into_pyobject(py)?
        }
        Event::UnknownKid { vlan, kid, trunk } => ("unknown_kid", vlan, raw(kid), trunk).into_pyobject(py)?,
        Event::Forged { vlan, kid, trunk } => ("forged", vlan, raw(kid), trunk).into_pyobject(py)?,
        Event::Spoofed { vlan, member, what } => ("spoofed", vlan, member, what).into_pyobject(py)?,
        Event::MacSeen { vlan, mac, vid } => ("mac_seen", vlan, raw(mac), vid).into_pyobject(py)?,
        Event::MacGone { vlan, mac, vid } => ("mac_gone", vlan, raw(mac), vid).into_pyobject(py)?,
        Event::Probed { vlan, probe, own } => {
            let Probe { forwards, handle, run, number } = probe;
            ("probed", vlan, raw(handle), raw(run), number, forwards, own).into_pyobject(py)?
        }
        Event::Storm { vlan, member, class } => ("storm", vlan, member, class).into_pyobject(py)?,
        Event::GroupControl { vlan, member, message } => {
            ("group_control", vlan, member, raw(message)).into_pyobject(py)?
        }
        Event::Control { vlan, member, message } => ("control", vlan, member, raw(message)).into_pyobject(py)?,
        Event::Multicast { vlan, member, frame } => ("multicast", vlan, *member, raw(frame)).into_pyobject(py)?,
        Event::Generation { vlan, kid } => ("generation", vlan, raw(kid)).into_pyobject(py)?,
        Event::Path { trunk, address, rtt_s } => ("path", trunk, pair(address), rtt_s).into_pyobject(py)?,
        Event::Source { trunk, address } => ("source", trunk, pair(address)).into_pyobject(py)?,
        Event::PathDown { trunk } => ("path_down", trunk).into_pyobject(py)?,
        Event::Offload { trunk, text } => ("offload", trunk, text).into_pyobject(py)?,
        Event::Stream { trunk } => ("stream", trunk).into_pyobject(py)?,
        Event::Trace { at_s, vlan, step, text } => ("trace", at_s, vlan, step, text).into_pyobject(py)?,
        Event::Panic(text) => ("panic", text).into_pyobject(py)?,
        Event::Resync => ("resync",).into_pyobject(py)?,
    };
    Ok(tuple.into_any())
}

fn to_dict<'py>(py: Python<'py>, snapshot: &Snapshot) -> PyResult<Bound<'py, PyDict>> {
    let raw = |value: &[u8]| PyBytes::new(py, value);
    let drops = PyDict::new(py);
    for (name, count) in &snapshot.drops {
        drops.set_item(name, count)?;
    }
    let trunks = PyDict::new(py);
    for (id, trunk) in &snapshot.trunks {
        let item = PyDict::new(py);
        item.set_item("carrier", trunk.carrier)?;
        item.set_item("udp_down", trunk.udp_down)?;
        item.set_item("sends", trunk.sends)?;
        item.set_item("rx_packets", trunk.rx_packets)?;
        item.set_item("rx_bytes", trunk.rx_bytes)?;
        item.set_item("tx_packets", trunk.tx_packets)?;
        item.set_item("tx_bytes", trunk.tx_bytes)?;
        item.set_item("heard_age_s", trunk.heard_age_s)?;
        item.set_item("rtt_s", trunk.rtt_s)?;
        item.set_item("loss", trunk.loss)?;
        trunks.set_item(id, item)?;
    }
    let vlans = PyDict::new(py);
    for (id, vlan) in &snapshot.vlans {
        let item = PyDict::new(py);
        item.set_item("rx_frames", vlan.rx_frames)?;
        item.set_item("rx_bytes", vlan.rx_bytes)?;
        item.set_item("tx_frames", vlan.tx_frames)?;
        item.set_item("tx_bytes", vlan.tx_bytes)?;
        let forged = PyDict::new(py);
        for (trunk, count) in &vlan.forged {
            forged.set_item(trunk, count)?;
        }
        item.set_item("forged", forged)?;
        let members = PyDict::new(py);
        for (id, rx_frames, tx_frames, spoofed, policed) in &vlan.members {
            let member = PyDict::new(py);
            member.set_item("rx_frames", rx_frames)?;
            member.set_item("tx_frames", tx_frames)?;
            member.set_item("spoofed", spoofed)?;
            member.set_item("policed", policed)?;
            members.set_item(id, member)?;
        }
        item.set_item("members", members)?;
        let macs = vlan.macs.iter().map(|((mac, vid), member)| (raw(mac), vid, member));
        item.set_item("macs", PyList::new(py, macs.collect::<Vec<_>>())?)?;
        let hosts = vlan.local_macs.iter().map(|((mac, vid), age_s)| (raw(mac), vid, f64::from(*age_s)));
        item.set_item("local_macs", PyList::new(py, hosts.collect::<Vec<_>>())?)?;
        item.set_item("policed", vlan.policed)?;
        item.set_item("answered", vlan.answered)?;
        vlans.set_item(id, item)?;
    }
    let ports = PyDict::new(py);
    for (id, port) in &snapshot.ports {
        let item = PyDict::new(py);
        item.set_item("name", &port.name)?;
        item.set_item("read", port.read)?;
        item.set_item("written", port.written)?;
        item.set_item("gone", port.gone)?;
        item.set_item("offloads", &port.offloads)?;
        ports.set_item(id, item)?;
    }
    let classes = PyDict::new(py);
    for (id, class) in &snapshot.classes {
        let item = PyDict::new(py);
        item.set_item("packets", class.packets)?;
        item.set_item("bytes", class.bytes)?;
        item.set_item("over_rate", class.over_rate)?;
        item.set_item("no_room", class.no_room)?;
        classes.set_item(id, item)?;
    }
    let udp = PyDict::new(py);
    udp.set_item("port", snapshot.udp.port)?;
    udp.set_item("receive_buffer_bytes", snapshot.udp.receive_buffer_bytes)?;
    udp.set_item("send_buffer_bytes", snapshot.udp.send_buffer_bytes)?;
    udp.set_item("offloads", &snapshot.udp.offloads)?;
    let whole = PyDict::new(py);
    whole.set_item("generation", snapshot.generation)?;
    whole.set_item("panic", snapshot.panic.as_deref())?;
    whole.set_item("drops", drops)?;
    whole.set_item("trunks", trunks)?;
    whole.set_item("vlans", vlans)?;
    whole.set_item("ports", ports)?;
    whole.set_item("classes", classes)?;
    whole.set_item("relay_waiting", snapshot.relay_waiting)?;
    whole.set_item("udp", udp)?;
    Ok(whole)
}

/// Of these trunks that which frames of the same flow take (SPEC 6.6); None: there are none.
#[pyfunction]
pub fn way_of_flow(frame: &[u8], trunks: Vec<Int<u32>>) -> Option<u32> {
    let flow = flow_of_untrusted(frame);
    trunks.iter().map(|trunk| trunk.0).max_by_key(|&trunk| weight(flow, trunk))
}
