//! The engine: an outbound and an inbound half, a verify thread, and what the control plane may ask of them.
//!
//! ```text
//!     ports ──> outbound ──> backlog ──> switch ──> segment, seal, hop seal ──> UDP trains, or the trunk's stream queue
//!     ports <── inbound <── coalesce <── switch <── open <── hop open <── UDP trains, stream ring
//!                  │ └─> forward: hop seal in place ──> UDP trains, or the trunk's stream queue
//!                  └──> verify thread ──> back to the inbound half      (group frames)
//! ```
//!
//! A loop runs one half or both. It drains without blocking, within budgets per descriptor, then flushes, then waits.

mod backlog;
mod deliver;
mod inbound;
mod live;
mod looping;
mod outbound;
mod overlay;
mod probes;
mod run;
mod send;
mod share;
mod shared;
mod snapshot;

use std::os::fd::{AsRawFd, RawFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::drops::DropReason;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::frame::{HEADER_BYTES, Mac};
use crate::offload::segment::Plan;
use crate::offload::{Allowed, Virtio};
use crate::packet::{FLAG_INTRO, HOP_LIMIT, HopFields, INNER_TAG_AT, MAX_PACKET_BYTES, MIN_INTRO_BYTES};
use crate::port::{Capabilities, Port};
use crate::stream::Lane;
use crate::switch::Address as Host;
use crate::sys::Epoll;
use crate::tables::{Hop, Tables, Way};
use crate::udp::Address;
use crate::{MemberId, Nanos, PortId, TrunkId, VlanId, sys, verify};

use inbound::Inbound;
use live::States;
use outbound::Outbound;
use overlay::{GROUP_CONTENT_BYTES, Groups, Overlay};
use send::{Outgoing, Turn};
use shared::Shared;
pub use snapshot::{ClassSnapshot, PortSnapshot, Snapshot, TrunkSnapshot, UdpSnapshot, VlanSnapshot};

/// Reads per descriptor and turn (DATAPATH), so that none starves another.
const READS_PER_TURN: usize = 32;
/// A buffer for one frame or super-frame: 64 KiB and an Ethernet header with two tags.
const FRAME_BYTES: usize = 65_536 + 24;
/// Room for the packets of one flush: a super-frame in segments of 64 bytes would need five of them.
const OUTGOING_BYTES: usize = 256 << 10;
/// Probes that Python may have asked for and the loop has not sent yet (ours).
const MAX_PROBES_ASKED: usize = 256;
/// From so many cores on each half has a thread of its own (ours).
const CORES_FOR_TWO_LOOPS: usize = 4;
/// Members of which `traffic` tells at once (SPEC 6.7: so many are probed).
const MAX_TRAFFIC: usize = 64;
/// The largest control message (SPEC 2.3).
const MAX_CONTROL_BYTES: usize = 65_535;
/// Room for a control message's packets; what does not fit at once leaves earlier.
const CONTROL_OUTGOING_BYTES: usize = 80 << 10;

/// The data plane. Its threads end with it.
pub struct Engine {
    shared: Arc<Shared>,
    states: Mutex<States>,
    next_port: AtomicU32,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// How many loops suit this machine (docs/decisions/0015): two threads wake each other for every acknowledgement, which
/// only pays where there are cores to spare.
fn usual_loops() -> usize {
    if thread::available_parallelism().map_or(1, usize::from) < CORES_FOR_TWO_LOOPS { 1 } else { 2 }
}

impl Engine {
    /// Opens the UDP socket and starts the threads. Hosts at ports are forgotten after `mac_age_s` seconds.
    pub fn start(udp_port: u16, mac_age_s: f64, allowed: Allowed) -> Result<Self> {
        Self::start_loops(udp_port, mac_age_s, allowed, usual_loops())
    }

    /// The same with one loop or two.
    pub fn start_loops(udp_port: u16, mac_age_s: f64, allowed: Allowed, loops: usize) -> Result<Self> {
        if !(1.0..=1e6).contains(&mac_age_s) {
            return Err(Error::argument(format!("mac_age_s must be 1 to 1,000,000 seconds, not {mac_age_s}")));
        }
        let shared = Arc::new(Shared::open(udp_port, allowed)?);
        let states = Mutex::new(States::new(mac_age_s as u32, u64::from_ne_bytes(sys::random()?)));
        let (verifier, jobs) = verify::Verifier::new();
        let epoll = Arc::new(Epoll::new()?);
        let second = (loops == 2).then(Epoll::new).transpose()?.map(Arc::new);
        let outbound = Outbound::new(Arc::clone(&shared), Arc::clone(&epoll))?;
        let inbound = Inbound::new(Arc::clone(&shared), second.as_ref().unwrap_or(&epoll), verifier)?;
        let engine = Self { shared, states, next_port: AtomicU32::new(1), threads: Mutex::default() };
        if let Some(second) = second {
            engine.spawn_loop("peertap-out", epoll, Some(outbound), None)?;
            engine.spawn_loop("peertap-in", second, None, Some(inbound))?;
        } else {
            engine.spawn_loop("peertap-loop", epoll, Some(outbound), Some(inbound))?;
        }
        let shared = Arc::clone(&engine.shared);
        engine.spawn("peertap-verify", move || verify::run(&jobs, &shared.verdicts, &shared.wake_in, &shared.stop))?;
        Ok(engine)
    }

    /// The bound UDP port.
    pub fn udp_port(&self) -> u16 {
        self.shared.udp.0.port
    }

    /// Readable while events wait.
    pub fn event_fd(&self) -> RawFd {
        self.shared.events.ready().fd().as_raw_fd()
    }

    /// Takes a duplicate of a descriptor that carries one Ethernet frame per read and write. A TAP is asked what it can do; of
    /// another descriptor it is `declared`.
    pub fn add_port(&self, fd: RawFd, name: String, declared: Option<Capabilities>) -> Result<PortId> {
        self.running()?;
        let id = self.next_port.fetch_add(1, Ordering::Relaxed);
        let port = Arc::new(Port::open(id, name, fd, &self.shared.allowed, declared)?);
        self.shared.ports.rcu(|ports| {
            let mut ports = (**ports).clone();
            ports.insert(id, Arc::clone(&port));
            ports
        });
        self.shared.wake();
        Ok(id)
    }

    /// Gives a port up; its descriptor closes when both loops have noticed.
    pub fn remove_port(&self, id: PortId) -> Result<()> {
        self.running()?;
        let Some(port) = self.shared.ports.load().get(&id).cloned() else {
            return Err(Error::argument(format!("there is no port {id}")));
        };
        port.set_gone();
        self.shared.ports.rcu(|ports| {
            let mut ports = (**ports).clone();
            ports.remove(&id);
            ports
        });
        self.shared.wake();
        Ok(())
    }

    /// Publishes tables and returns their generation; `Event::Applied` comes when both loops use them.
    pub fn apply(&self, tables: Arc<Tables>) -> Result<u64> {
        self.running()?;
        let mut states = lock(&self.states);
        let live = states.make_live(tables);
        let generation = live.generation;
        self.shared.live.store(Arc::new(live));
        self.shared.wake();
        Ok(generation)
    }

    /// Sends a probe to an address, under the trunk's udp key.
    pub fn probe(&self, trunk: TrunkId, address: Address) -> Result<()> {
        self.running()?;
        let mut asked = lock(&self.shared.probes_asked);
        if asked.len() < MAX_PROBES_ASKED {
            asked.push_back((trunk, address));
        }
        drop(asked);
        self.shared.wake_in.signal();
        Ok(())
    }

    /// Sends an INTRO body, as `hello_seal` makes it, by each hop.
    pub fn send_intro(&self, hops: &[Hop], nonce: [u8; 12], sealed: &[u8]) -> Result<()> {
        self.running()?;
        if !(MIN_INTRO_BYTES - INNER_TAG_AT..=MAX_PACKET_BYTES - INNER_TAG_AT).contains(&sealed.len()) {
            return Err(Error::argument(format!("an INTRO body can't have {} bytes", sealed.len())));
        }
        let live = self.shared.live.load_full();
        let turn = Turn { shared: &self.shared, live: &live, now: sys::now() };
        let bytes = INNER_TAG_AT + sealed.len();
        let mut out = Outgoing::new(bytes);
        out.slot(turn, bytes)[INNER_TAG_AT..].copy_from_slice(sealed);
        for &(trunk, label) in hops {
            let fields = HopFields { label, hop_limit: HOP_LIMIT, flags: FLAG_INTRO, nonce };
            self.shared.count(out.push(turn, trunk, bytes, &fields, Lane::Control, false));
        }
        out.keep(bytes);
        out.flush(turn);
        Ok(())
    }

    /// Sends a control message under the member's pair key, by the way that is given or as a frame would go.
    pub fn send_control(&self, vlan: VlanId, member: MemberId, message: &[u8], by: Option<Hop>) -> Result<()> {
        self.running()?;
        if message.len() > MAX_CONTROL_BYTES {
            return Err(Error::argument(format!("a control message has at most {MAX_CONTROL_BYTES} bytes")));
        }
        let live = self.shared.live.load_full();
        let turn = Turn { shared: &self.shared, live: &live, now: sys::now() };
        let mut out = Outgoing::new(CONTROL_OUTGOING_BYTES);
        self.shared.count(Overlay { turn, out: &mut out }.send_control(vlan, member, message, by));
        out.flush(turn);
        Ok(())
    }

    /// Sends a control message under our group key (SPEC 5.4).
    pub fn send_group_control(&self, vlan: VlanId, message: &[u8]) -> Result<()> {
        self.running()?;
        if message.len() > GROUP_CONTENT_BYTES {
            return Err(Error::argument(format!("a control message for all has at most {GROUP_CONTENT_BYTES} bytes")));
        }
        let live = self.shared.live.load_full();
        let turn = Turn { shared: &self.shared, live: &live, now: sys::now() };
        let mut out = Outgoing::new(CONTROL_OUTGOING_BYTES);
        self.shared.count(Overlay { turn, out: &mut out }.send_group_control(vlan, message));
        out.flush(turn);
        Ok(())
    }

    /// Sends a group frame of our own to the members that want every group; with none of them it is dropped and counted.
    pub fn send_frame(&self, vlan: VlanId, mut frame: Vec<u8>) -> Result<()> {
        self.running()?;
        check_frame(&frame)?;
        let live = self.shared.live.load_full();
        let turn = Turn { shared: &self.shared, live: &live, now: sys::now() };
        let Some(at) = live.tables.vlan(vlan) else {
            self.shared.drops.count(DropReason::NoVlan);
            return Ok(());
        };
        if live.tables.vlans[at].hops(Way::Rest).is_empty() {
            self.shared.drops.count(DropReason::NoListener);
            return Ok(());
        }
        let (mut out, mut groups) = (Outgoing::new(CONTROL_OUTGOING_BYTES), Groups::default());
        let mut overlay = Overlay { turn, out: &mut out };
        self.shared.count(overlay.send_group(at, &mut frame, Plan::Whole, Way::Rest, &mut groups));
        overlay.sign(&mut groups);
        out.flush(turn);
        Ok(())
    }

    /// Says which member hosts are behind; None: nobody. Of a VLAN that is not here nothing is kept.
    pub fn place_macs(&self, vlan: VlanId, places: &[(Host, Option<MemberId>)]) -> Result<()> {
        self.running()?;
        let Some(state) = lock(&self.states).vlan(vlan) else { return Ok(()) };
        for ((mac, vid), member) in places {
            match member {
                Some(member) => {
                    state.remote_macs.place(mac, *vid, *member, now_s());
                }
                None => state.remote_macs.forget(mac, *vid),
            }
        }
        Ok(())
    }

    /// Hosts are not at our ports: a port may learn them anew, or, with `refused`, may not until they are forgotten.
    pub fn forget_local_macs(&self, vlan: VlanId, hosts: &[Host], refused: bool) -> Result<()> {
        self.running()?;
        let Some(state) = lock(&self.states).vlan(vlan) else { return Ok(()) };
        for (mac, vid) in hosts {
            match refused {
                true => state.local_macs.refuse(mac, *vid, now_s()),
                false => state.local_macs.forget(mac, *vid),
            }
        }
        Ok(())
    }

    /// Writes a frame of our own to a VLAN's ports.
    pub fn write_frame(&self, vlan: VlanId, frame: &[u8]) -> Result<()> {
        self.running()?;
        check_frame(frame)?;
        let (live, ports) = (self.shared.live.load_full(), self.shared.ports.load_full());
        let Some(at) = live.tables.vlan(vlan) else {
            self.shared.drops.count(DropReason::NoVlan);
            return Ok(());
        };
        for id in &live.tables.vlans[at].spec.ports {
            let port = ports.get(id).ok_or(DropReason::PortGone);
            self.shared.count(port.and_then(|port| port.write_offloaded(&mut frame.to_vec(), &Virtio::default())));
        }
        Ok(())
    }

    /// The next batch for a trunk's stream; None when nothing waits. Take until None.
    pub fn stream_take(&self, trunk: TrunkId) -> Result<Option<Vec<u8>>> {
        self.running()?;
        let live = self.shared.live.load();
        Ok(live.tables.trunk(trunk).and_then(|at| live.trunks[at].stream.take()))
    }

    /// Gives a batch from a trunk's stream to the inbound loop.
    pub fn stream_put(&self, trunk: TrunkId, batch: &[u8]) -> Result<()> {
        self.running()?;
        self.shared.count(self.shared.stream_in.put_untrusted(trunk, batch));
        self.shared.wake_in.signal();
        Ok(())
    }

    /// What happened since the last call. Works after `stop` too.
    pub fn events(&self) -> Vec<Event> {
        self.shared.events.take()
    }

    /// All counters and states. Works after `stop` too.
    pub fn snapshot(&self) -> Snapshot {
        snapshot::take(&self.shared)
    }

    /// The members that frames were sent to since the last call, at most `MAX_TRAFFIC` with the most: frames sent, and
    /// delivered from each meanwhile.
    pub fn traffic(&self) -> Vec<(VlanId, MemberId, u64, u64)> {
        let live = self.shared.live.load();
        let mut found = Vec::new();
        for (vlan, state) in live.tables.vlans.iter().zip(&live.vlans) {
            for (member, counters) in vlan.spec.members.iter().zip(&state.members) {
                let (sent, heard) = counters.since_asked();
                if sent > 0 {
                    found.push((vlan.spec.id, member.id, sent, heard));
                }
            }
        }
        found.sort_by_key(|&(_, _, sent, _)| std::cmp::Reverse(sent));
        found.truncate(MAX_TRAFFIC);
        found
    }

    /// Follows frames from or to a MAC, or all, for some seconds by trace events.
    pub fn trace(&self, seconds: f64, mac: Option<Mac>) -> Result<()> {
        self.running()?;
        if !(0.0..=86_400.0).contains(&seconds) {
            return Err(Error::argument(format!("seconds must be 0 to 86,400, not {seconds}")));
        }
        self.shared.trace.start((seconds * 1e9) as Nanos, mac);
        Ok(())
    }

    /// Ends the threads; a second call does nothing.
    pub fn stop(&self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.shared.wake();
        for thread in std::mem::take(&mut *lock(&self.threads)) {
            let _ = thread.join(); // a panic was reported as an event
        }
    }

    /// Makes a loop panic, so that a test sees what follows.
    #[doc(hidden)]
    pub fn panic_for_test(&self) {
        self.shared.panic_wanted.store(true, Ordering::SeqCst);
        self.shared.wake();
    }

    fn running(&self) -> Result<()> {
        if self.shared.stop.load(Ordering::Relaxed) { Err(Error::Stopped) } else { Ok(()) }
    }

    fn spawn_loop(
        &self,
        name: &str,
        epoll: Arc<Epoll>,
        outbound: Option<Outbound>,
        inbound: Option<Inbound>,
    ) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.spawn(name, move || run::run(&shared, &epoll, outbound, inbound))
    }

    /// Starts a thread that no signal reaches; its panic stops forwarding and becomes an event.
    fn spawn(&self, name: &str, body: impl FnOnce() + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let old = sys::block_signals(); // inherited by the thread from its first instruction
        let spawned = thread::Builder::new().name(name.into()).spawn(move || {
            if let Err(panic) = catch_unwind(AssertUnwindSafe(body)) {
                shared.fail(&panic);
            }
        });
        sys::restore_signals(&old);
        lock(&self.threads).push(spawned?);
        Ok(())
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A frame that control made.
fn check_frame(frame: &[u8]) -> Result<()> {
    if (HEADER_BYTES..=MAX_CONTROL_BYTES).contains(&frame.len()) {
        return Ok(());
    }
    Err(Error::argument(format!("a frame has {HEADER_BYTES} to {MAX_CONTROL_BYTES} bytes, not {}", frame.len())))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn now_s() -> u32 {
    (sys::now() / 1_000_000_000) as u32
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// For traces: which key sealed under which counter.
fn name_of(nonce: &[u8; 12]) -> String {
    let counter = u64::from_be_bytes(std::array::from_fn(|i| nonce[4 + i]));
    format!("kid={} ctr={counter}", hex(&nonce[..4]))
}
