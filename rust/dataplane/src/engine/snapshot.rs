//! All counters and states at one moment.

use std::sync::atomic::{AtomicU64, Ordering};

use super::lock;
use super::shared::Shared;
use crate::switch::Address;
use crate::{ClassId, MemberId, PortId, TrunkId, VlanId, sys};

/// One trunk.
#[derive(Debug, Clone)]
pub struct TrunkSnapshot {
    /// "udp", "stream" or "none".
    pub carrier: &'static str,
    /// The udp carrier is silent.
    pub udp_down: bool,
    /// How datagrams go: "trains", "even trains" or "single".
    pub sends: &'static str,
    /// Authentic packets received.
    pub rx_packets: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Seconds since the last authentic packet.
    pub heard_age_s: Option<f64>,
    /// Smoothed round trip of probes.
    pub rtt_s: Option<f64>,
    /// Share of the last probes without answer.
    pub loss: f64,
}

/// One VLAN.
#[derive(Debug, Clone)]
pub struct VlanSnapshot {
    /// Frames delivered to local ports.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames sealed.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Forged group frames per trunk.
    pub forged: Vec<(TrunkId, u64)>,
    /// Per member: frames delivered from it, sealed for it, those in which it said that it is another one, and those
    /// for all that were too many.
    pub members: Vec<(MemberId, u64, u64, u64, u64)>,
    /// Hosts behind members.
    pub macs: Vec<(Address, MemberId)>,
    /// Hosts at our ports, with seconds since they were seen.
    pub local_macs: Vec<(Address, u32)>,
    /// Frames for all that were too many at our ports.
    pub policed: u64,
    /// Questions for addresses that were answered here.
    pub answered: u64,
}

/// One port.
#[derive(Debug, Clone)]
pub struct PortSnapshot {
    /// Its name.
    pub name: String,
    /// Frames read.
    pub read: u64,
    /// Frames written.
    pub written: u64,
    /// Its descriptor broke.
    pub gone: bool,
    /// Of "checksum", "tso" and "uso" those in use.
    pub offloads: Vec<&'static str>,
}

/// What was carried of one class.
#[derive(Debug, Clone)]
pub struct ClassSnapshot {
    /// Packets sent on.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets beyond a rate.
    pub over_rate: u64,
    /// Packets for which there was no room.
    pub no_room: u64,
}

/// The UDP socket.
#[derive(Debug, Clone)]
pub struct UdpSnapshot {
    /// Bound port.
    pub port: u16,
    /// What the system granted.
    pub receive_buffer_bytes: u32,
    /// What the system granted.
    pub send_buffer_bytes: u32,
    /// Of "gso", "gro" and "mmsg" those in use.
    pub offloads: Vec<&'static str>,
}

/// Everything.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Of the tables that every loop uses, as `Event::Applied` tells it.
    pub generation: u64,
    /// Why forwarding stopped, if it did.
    pub panic: Option<String>,
    /// Every reason with its count.
    pub drops: Vec<(&'static str, u64)>,
    /// By id.
    pub trunks: Vec<(TrunkId, TrunkSnapshot)>,
    /// By id.
    pub vlans: Vec<(VlanId, VlanSnapshot)>,
    /// By id.
    pub ports: Vec<(PortId, PortSnapshot)>,
    /// By id.
    pub classes: Vec<(ClassId, ClassSnapshot)>,
    /// Bytes that wait to be carried.
    pub relay_waiting: u64,
    /// The socket.
    pub udp: UdpSnapshot,
}

pub(super) fn take(shared: &Shared) -> Snapshot {
    let live = shared.live.load_full();
    let now = sys::now();
    let now_s = (now / 1_000_000_000) as u32;
    let socket = &shared.udp.0;
    let gso = socket.gso && shared.allowed.gso;
    let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let trunks = live.tables.trunks.iter().zip(&live.trunks).map(|(trunk, state)| {
        let (rtt_s, loss) = state.path();
        let heard_at = get(&state.heard_at);
        let snapshot = TrunkSnapshot {
            carrier: trunk.carrier.name(),
            udp_down: state.udp_down.load(Ordering::Relaxed),
            sends: if gso { state.udp_path.name() } else { "single" },
            rx_packets: get(&state.rx_packets),
            rx_bytes: get(&state.rx_bytes),
            tx_packets: get(&state.tx_packets),
            tx_bytes: get(&state.tx_bytes),
            heard_age_s: (heard_at != 0).then(|| now.saturating_sub(heard_at) as f64 / 1e9),
            rtt_s,
            loss,
        };
        (trunk.id, snapshot)
    });
    let vlans = live.tables.vlans.iter().zip(&live.vlans).map(|(vlan, live)| {
        let state = &live.state;
        let members = state.members();
        let snapshot = VlanSnapshot {
            rx_frames: get(&state.rx_frames),
            rx_bytes: get(&state.rx_bytes),
            tx_frames: get(&state.tx_frames),
            tx_bytes: get(&state.tx_bytes),
            forged: state.forged().into_iter().collect(),
            members: members
                .iter()
                .map(|(id, m)| (*id, get(&m.rx_frames), get(&m.tx_frames), get(&m.spoofed), get(&m.policed)))
                .collect(),
            macs: state.remote_macs.entries(now_s).into_iter().map(|(address, id, _)| (address, id)).collect(),
            local_macs: state.local_macs.entries(now_s).into_iter().map(|(address, _, age)| (address, age)).collect(),
            policed: get(&state.policed),
            answered: get(&state.answered),
        };
        (vlan.spec.id, snapshot)
    });
    let ports = shared.ports.load_full();
    let ports = ports.values().map(|port| {
        let (read, written, gone) = (get(&port.read), get(&port.written), port.is_gone());
        (port.id, PortSnapshot { name: port.name.clone(), read, written, gone, offloads: port.offloads() })
    });
    let classes = live.tables.classes.iter().zip(&live.classes).map(|(class, state)| {
        let (packets, bytes) = (get(&state.packets), get(&state.bytes));
        let (over_rate, no_room) = (get(&state.over_rate), get(&state.no_room));
        (class.id, ClassSnapshot { packets, bytes, over_rate, no_room })
    });
    let offloads = [(gso, "gso"), (socket.gro, "gro"), (shared.allowed.mmsg, "mmsg")];
    Snapshot {
        generation: shared.applied(),
        panic: lock(&shared.panic).clone(),
        drops: shared.drops.all(),
        trunks: trunks.collect(),
        vlans: vlans.collect(),
        ports: ports.collect(),
        classes: classes.collect(),
        relay_waiting: get(&shared.relay_waiting),
        udp: UdpSnapshot {
            port: socket.port,
            receive_buffer_bytes: socket.receive_buffer_bytes,
            send_buffer_bytes: socket.send_buffer_bytes,
            offloads: offloads.into_iter().filter_map(|(on, name)| on.then_some(name)).collect(),
        },
    }
}
