//! What lives longer than one set of tables: counters, learned addresses, queues and health of trunks and VLANs.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::class::Bucket;
use crate::liveness::Traffic;
use crate::neighbours::Neighbours;
use crate::storm::Buckets;
use crate::stream::OutboundQueue;
use crate::switch::{LOCAL_SLOTS, MacTable, REMOTE_SLOTS};
use crate::udp_path::UdpPath;
use crate::{MemberId, Nanos, TrunkId};

/// Weight of a new sample in the smoothed RTT (RFC 6298: 1/8).
const RTT_WEIGHT: f64 = 0.125;
/// Probes over which loss is counted (ours: two minutes of keepalives).
const LOSS_WINDOW: u32 = 32;

/// One trunk.
#[derive(Default)]
pub struct TrunkState {
    /// Authentic packets received.
    pub rx_packets: AtomicU64,
    /// Their bytes.
    pub rx_bytes: AtomicU64,
    /// Packets sent.
    pub tx_packets: AtomicU64,
    /// Their bytes.
    pub tx_bytes: AtomicU64,
    /// Last authentic packet by any carrier; 0 = never.
    pub heard_at: AtomicU64,
    /// Last authentic packet by udp; 0 = never.
    pub heard_udp_at: AtomicU64,
    /// First packet sent by udp since then; 0 = none.
    pub unanswered_since: AtomicU64,
    /// Last packet sent by udp; 0 = never.
    pub sent_udp_at: AtomicU64,
    /// The udp carrier is silent: frames take the stream.
    pub udp_down: AtomicBool,
    /// Packets that wait for the stream carrier.
    pub stream: OutboundQueue,
    /// What the system lets us send at once by udp.
    pub udp_path: UdpPath,
    /// What may come by it to be carried; the inbound loop's.
    pub carried: Bucket,
    path: Mutex<Path>,
}

#[derive(Default)]
struct Path {
    smoothed_s: Option<f64>,
    answered: u32, // one bit per probe, the newest lowest
    probes: u32,
}

impl TrunkState {
    /// What liveness looks at.
    pub fn traffic(&self) -> Traffic {
        Traffic {
            heard_at: self.heard_udp_at.load(Ordering::Relaxed),
            unanswered_since: self.unanswered_since.load(Ordering::SeqCst),
        }
    }

    /// Authentic packets came.
    pub fn heard(&self, now: Nanos, packets: usize, bytes: usize, by_udp: bool) {
        self.rx_packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.rx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.heard_at.store(now, Ordering::Relaxed);
        if by_udp {
            self.heard_udp_at.store(now, Ordering::Relaxed);
            self.unanswered_since.store(0, Ordering::Relaxed);
            self.udp_down.store(false, Ordering::Relaxed);
        }
    }

    /// Packets went out.
    pub fn sent(&self, packets: usize, bytes: usize) {
        self.tx_packets.fetch_add(packets as u64, Ordering::Relaxed);
        self.tx_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// A frame went out by udp; true when it is the first unanswered one.
    pub fn sent_udp(&self, now: Nanos) -> bool {
        self.sent_udp_at.store(now, Ordering::Relaxed);
        self.unanswered_since.load(Ordering::Relaxed) == 0
            && self.unanswered_since.compare_exchange(0, now, Ordering::SeqCst, Ordering::Relaxed).is_ok()
    }

    /// A probe was answered after so long, or never.
    pub fn probe_ended(&self, rtt_s: Option<f64>) {
        let mut path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        path.answered = path.answered << 1 | u32::from(rtt_s.is_some());
        path.probes = (path.probes + 1).min(LOSS_WINDOW);
        if let Some(rtt_s) = rtt_s {
            let old = path.smoothed_s.unwrap_or(rtt_s);
            path.smoothed_s = Some(old + RTT_WEIGHT * (rtt_s - old));
        }
    }

    /// Smoothed RTT, and the share of the last probes without answer.
    pub fn path(&self) -> (Option<f64>, f64) {
        let path = self.path.lock().unwrap_or_else(PoisonError::into_inner);
        let answered = path.answered & (u64::from(u32::MAX) >> (LOSS_WINDOW - path.probes)) as u32;
        let lost = path.probes - answered.count_ones();
        (path.smoothed_s, if path.probes == 0 { 0.0 } else { f64::from(lost) / f64::from(path.probes) })
    }
}

/// Frames exchanged with one member.
#[derive(Default)]
pub struct MemberCounters {
    /// Frames delivered from it.
    pub rx_frames: AtomicU64,
    /// Unicast frames sealed for it.
    pub tx_frames: AtomicU64,
    /// Frames in which it said that it is another one.
    pub spoofed: AtomicU64,
    /// Frames for all that were too many.
    pub policed: AtomicU64,
    /// How many it may send.
    pub buckets: Buckets,
    /// Second in which a frame of it came last, of the engine's clock.
    pub heard_at_s: AtomicU32,
    /// `tx_frames` and `rx_frames` when control last asked.
    asked: [AtomicU64; 2],
}

impl MemberCounters {
    /// Frames sealed for it, and delivered from it, since this was last asked.
    pub fn since_asked(&self) -> (u64, u64) {
        let since = |counter: &AtomicU64, asked: &AtomicU64| {
            let count = counter.load(Ordering::Relaxed);
            count - asked.swap(count, Ordering::Relaxed).min(count)
        };
        (since(&self.tx_frames, &self.asked[0]), since(&self.rx_frames, &self.asked[1]))
    }
}

/// One VLAN.
pub struct VlanState {
    /// Frames delivered to local ports.
    pub rx_frames: AtomicU64,
    /// Their bytes.
    pub rx_bytes: AtomicU64,
    /// Frames sealed.
    pub tx_frames: AtomicU64,
    /// Their bytes.
    pub tx_bytes: AtomicU64,
    /// Frames for all that were too many at our ports.
    pub policed: AtomicU64,
    /// Questions for addresses that were answered here.
    pub answered: AtomicU64,
    /// Addresses behind local ports, as the outbound loop sees them.
    pub local_macs: MacTable,
    /// Addresses behind members, as the control plane places them.
    pub remote_macs: MacTable,
    /// Who has which IP address.
    pub neighbours: Neighbours,
    forged: Mutex<HashMap<TrunkId, u64>>,
    members: Mutex<HashMap<MemberId, Arc<MemberCounters>>>,
}

impl VlanState {
    /// Nothing counted, nothing learned.
    pub fn new(mac_age_s: u32, seed: u64) -> Self {
        let (rx_frames, rx_bytes, tx_frames, tx_bytes) = Default::default();
        let local_macs = MacTable::new(LOCAL_SLOTS, mac_age_s, seed);
        let remote_macs = MacTable::new(REMOTE_SLOTS, u32::MAX, seed); // until the control plane says otherwise
        let (policed, answered, neighbours, forged, members) = Default::default();
        Self {
            rx_frames,
            rx_bytes,
            tx_frames,
            tx_bytes,
            policed,
            answered,
            local_macs,
            remote_macs,
            neighbours,
            forged,
            members,
        }
    }

    /// A forged frame came by this trunk. The map is as large as the trunks that lead to this VLAN.
    pub fn count_forged(&self, trunk: TrunkId) {
        *lock(&self.forged).entry(trunk).or_default() += 1;
    }

    /// Forged frames per trunk.
    pub fn forged(&self) -> HashMap<TrunkId, u64> {
        lock(&self.forged).clone()
    }

    /// The counters of the members in the tables; those of others are forgotten, like forged counts of gone trunks.
    pub fn retain(
        &self,
        members: impl Iterator<Item = MemberId>,
        is_trunk: impl Fn(TrunkId) -> bool,
    ) -> Vec<Arc<MemberCounters>> {
        lock(&self.forged).retain(|&trunk, _| is_trunk(trunk));
        let mut known = lock(&self.members);
        let mut kept = HashMap::new();
        let counters = members
            .map(|id| Arc::clone(kept.entry(id).or_insert_with(|| known.remove(&id).unwrap_or_default())))
            .collect();
        *known = kept;
        counters
    }

    /// The counters of every member.
    pub fn members(&self) -> Vec<(MemberId, Arc<MemberCounters>)> {
        lock(&self.members).iter().map(|(id, counters)| (*id, Arc::clone(counters))).collect()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loss_is_the_share_of_unanswered_probes() {
        let trunk = TrunkState::default();
        assert_eq!(trunk.path(), (None, 0.0));
        trunk.probe_ended(Some(0.1));
        trunk.probe_ended(None);
        assert_eq!(trunk.path(), (Some(0.1), 0.5));
        for _ in 0..40 {
            trunk.probe_ended(Some(0.1));
        }
        assert_eq!(trunk.path().1, 0.0);
    }
}
