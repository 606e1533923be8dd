//! A small world for engine tests: nodes on the loopback with socket pairs for ports, and the keys that join them.
#![allow(dead_code)] // each test binary uses its part
#![allow(missing_docs)]

pub mod cable;

use std::io::ErrorKind;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use peertap_dataplane::aead::Aead;
use peertap_dataplane::engine::Engine;
use peertap_dataplane::events::Event;
use peertap_dataplane::kdf::Secret;
use peertap_dataplane::keys::{FrameSigner, HopReceiveKey, HopSendKey, ReceiveKey, SendKey};
use peertap_dataplane::offload::Allowed;
use peertap_dataplane::port::Capabilities;
use peertap_dataplane::sys::udp::set_option;
use peertap_dataplane::tables::{Carrier, Hop, Label, Listening, Member, Passage, Tables, Trunk, Vlan, VlanSpec};
use peertap_dataplane::udp::Address;
use peertap_dataplane::vlan_keys::{PairSecret, StaticSecret, VlanKeys};

pub const VLAN: u32 = 1;
pub const GROUP: [u8; 6] = [0xff; 6];
pub const WAIT: Duration = Duration::from_secs(5);
/// Long enough for a frame that would come, short enough for a test.
pub const SILENCE: Duration = Duration::from_millis(150);

pub fn mac(node: u8) -> [u8; 6] {
    [2, 0, 0, 0, 0, node]
}

pub fn vlan_keys() -> VlanKeys {
    StaticSecret::new(Secret::new([7; 32])).unwrap().keys([8; 16]).unwrap()
}

pub fn token(node: u8) -> [u8; 16] {
    vlan_keys().token(1, &mac(node))
}

pub fn group_token() -> [u8; 16] {
    vlan_keys().token(2, &GROUP)
}

pub fn signer(node: u8) -> Arc<FrameSigner> {
    Arc::new(FrameSigner::from_seed(&[node; 32]).unwrap())
}

pub fn group_send(node: u8, signer: Arc<FrameSigner>) -> Arc<SendKey> {
    Arc::new(vlan_keys().group_sender(&[node], &[node; 16], 0, Aead::Aes256Gcm, signer).unwrap())
}

pub fn group_receive(node: u8) -> Arc<ReceiveKey> {
    let public = signer(node).public();
    Arc::new(vlan_keys().group_receiver(&[node], &[node; 16], 0, Aead::Aes256Gcm, &public, 0).unwrap())
}

fn pair(from: u8, to: u8) -> PairSecret {
    PairSecret::new(Secret::new([1; 32]), &[from, to], [2; 48], Aead::Aes256Gcm).unwrap()
}

pub fn pair_send(from: u8, to: u8) -> Arc<SendKey> {
    Arc::new(vlan_keys().pair_sender(&pair(from, to)).unwrap().0)
}

pub fn pair_receive(from: u8, to: u8) -> Arc<ReceiveKey> {
    Arc::new(vlan_keys().pair_receiver(&pair(from, to)).unwrap().0)
}

/// The index of the hop key from one node to another; streams have their own.
pub fn index(from: u8, to: u8, stream: bool) -> u32 {
    u32::from(from) << 16 | u32::from(to) << 8 | u32::from(stream)
}

pub fn hop_secret(from: u8, to: u8, stream: bool) -> [u8; 32] {
    [from ^ to.rotate_left(4) ^ u8::from(stream) << 7; 32]
}

pub fn hop_send(from: u8, to: u8, stream: bool) -> Arc<HopSendKey> {
    Arc::new(HopSendKey::new(index(from, to, stream), &hop_secret(from, to, stream), Aead::Aes256Gcm))
}

pub fn hop_receive(from: u8, to: u8, stream: bool) -> Arc<HopReceiveKey> {
    Arc::new(HopReceiveKey::new(index(from, to, stream), &hop_secret(from, to, stream), Aead::Aes256Gcm))
}

/// The trunk from `me` to `to`; its id is the other node's number.
pub fn trunk(me: u8, to: u8, carrier: Carrier, remote: Option<u16>, max_payload: usize) -> Arc<Trunk> {
    Arc::new(Trunk {
        id: u32::from(to),
        carrier,
        remote: remote.map(|port| Address::parse("127.0.0.1", port).unwrap()),
        send_udp: Some(hop_send(me, to, false)),
        send_stream: Some(hop_send(me, to, true)),
        receive: vec![hop_receive(to, me, false), hop_receive(to, me, true)],
        max_payload,
        in_doubt: false,
    })
}

/// Labels are the destination's number, 99 for the group: the same on every trunk.
pub const GROUP_LABEL: u32 = 99;

pub fn label(trunk: u8, to: u8, deliver: bool, out: &[u8]) -> Arc<Label> {
    let label = u32::from(to);
    Arc::new(Label {
        trunk: u32::from(trunk),
        label,
        token: token(to),
        group: false,
        deliver: deliver.then_some(VLAN),
        out: out.iter().map(|&t| (u32::from(t), label)).collect(),
        backup: None,
        class: None,
    })
}

pub fn group_label(trunk: u8, deliver: bool, out: &[u8]) -> Arc<Label> {
    Arc::new(Label {
        trunk: u32::from(trunk),
        label: GROUP_LABEL,
        token: group_token(),
        group: true,
        deliver: deliver.then_some(VLAN),
        out: out.iter().map(|&t| (u32::from(t), GROUP_LABEL)).collect(),
        backup: None,
        class: None,
    })
}

pub fn member(me: u8, other: u8, via: u8, max_payload: usize) -> Arc<Member> {
    Arc::new(Member {
        id: u32::from(other),
        mac: mac(other),
        token: token(other),
        hop: Some((u32::from(via), u32::from(other))),
        backup: None,
        spread: vec![],
        duplicate: false,
        max_payload,
        pair_send: Some(pair_send(me, other)),
        pair_receive: vec![pair_receive(other, me)],
        group_receive: vec![group_receive(other)],
        bridge: false,
    })
}

/// The same member, with leave to have other MACs behind it.
pub fn bridging(member: &Arc<Member>) -> Arc<Member> {
    Arc::new(Member {
        pair_send: member.pair_send.clone(),
        pair_receive: member.pair_receive.clone(),
        group_receive: member.group_receive.clone(),
        bridge: true,
        spread: member.spread.clone(),
        ..**member
    })
}

pub fn vlan(me: u8, ports: Vec<u32>, bridge: bool, members: Vec<Arc<Member>>, edges: Vec<Hop>) -> Arc<Vlan> {
    vlan_with(me, signer(me), ports, bridge, members, edges, Passage::default())
}

pub fn vlan_signed_by(
    me: u8,
    signer: Arc<FrameSigner>,
    ports: Vec<u32>,
    bridge: bool,
    members: Vec<Arc<Member>>,
    group_edges: Vec<Hop>,
) -> Arc<Vlan> {
    vlan_with(me, signer, ports, bridge, members, group_edges, Passage::default())
}

pub fn vlan_with(
    me: u8,
    signer: Arc<FrameSigner>,
    ports: Vec<u32>,
    bridge: bool,
    members: Vec<Arc<Member>>,
    group_edges: Vec<Hop>,
    passage: Passage,
) -> Arc<Vlan> {
    vlan_made(me, signer, ports, bridge, members, group_edges, (passage, Listening::default()))
}

pub fn vlan_listening(
    me: u8,
    signer: Arc<FrameSigner>,
    ports: Vec<u32>,
    bridge: bool,
    members: Vec<Arc<Member>>,
    group_edges: Vec<Hop>,
    listening: Listening,
) -> Arc<Vlan> {
    vlan_made(me, signer, ports, bridge, members, group_edges, (Passage::default(), listening))
}

fn vlan_made(
    me: u8,
    signer: Arc<FrameSigner>,
    ports: Vec<u32>,
    bridge: bool,
    members: Vec<Arc<Member>>,
    group_edges: Vec<Hop>,
    (passage, listening): (Passage, Listening),
) -> Arc<Vlan> {
    let spec = VlanSpec {
        id: VLAN,
        mac: mac(me),
        token: token(me),
        group_token: group_token(),
        ports,
        bridge,
        passage,
        group_send: Some(group_send(me, signer)),
        group_edges,
        listening,
        members: if bridge { members.iter().map(bridging).collect() } else { members },
    };
    Arc::new(Vlan::new(spec).unwrap())
}

/// The local end of a port.
pub struct Tap(UnixDatagram);

impl Tap {
    pub fn send(&self, frame: &[u8]) {
        self.0.send(frame).unwrap();
    }

    pub fn receive_within(&self, wait: Duration) -> Option<Vec<u8>> {
        self.0.set_read_timeout(Some(wait)).unwrap();
        let mut buffer = vec![0; 70_000];
        match self.0.recv(&mut buffer) {
            Ok(n) => {
                buffer.truncate(n);
                Some(buffer)
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => None,
            Err(error) => panic!("{error}"),
        }
    }

    #[track_caller]
    pub fn expect(&self, frame: &[u8]) {
        let got = self.receive_within(WAIT).expect("a frame in time");
        assert_eq!(got, frame);
    }

    #[track_caller]
    pub fn expect_nothing(&self) {
        assert_eq!(self.receive_within(SILENCE), None);
    }
}

/// Bytes that wait for a reader who is late: twice as many are counted, 2,304 a frame of 1,000.
const WAITING_BYTES: i32 = 208 << 10;

#[allow(unsafe_code)]
pub fn seqpacket_pair() -> (OwnedFd, Tap) {
    let mut fds = [0; 2];
    // SAFETY: the array has room for the two descriptors, which are ours alone.
    let (a, b) = unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1]))
    };
    set_option(&a, libc::SOL_SOCKET, libc::SO_SNDBUF, WAITING_BYTES).unwrap();
    (a, Tap(UnixDatagram::from(b)))
}

pub struct Node {
    pub engine: Engine,
    pub events: Vec<Event>,
}

impl Node {
    pub fn new() -> Self {
        Self::with(Allowed::default())
    }

    pub fn with(allowed: Allowed) -> Self {
        // One loop and two take turns: both must do the same.
        static NODES: AtomicUsize = AtomicUsize::new(0);
        let loops = 1 + NODES.fetch_add(1, Ordering::Relaxed) % 2;
        Self { engine: Engine::start_loops(0, 300.0, allowed, loops).unwrap(), events: Vec::new() }
    }

    pub fn port(&self) -> (u32, Tap) {
        self.port_with(None)
    }

    pub fn port_with(&self, can: Option<Capabilities>) -> (u32, Tap) {
        let (ours, tap) = seqpacket_pair();
        (self.engine.add_port(ours.as_raw_fd(), "test".into(), can).unwrap(), tap)
    }

    /// Publishes and waits until both loops use it.
    pub fn apply(&mut self, trunks: Vec<Arc<Trunk>>, vlans: Vec<Arc<Vlan>>, labels: Vec<Arc<Label>>) {
        let generation = self.engine.apply(Arc::new(Tables::new(trunks, vlans, labels).unwrap())).unwrap();
        self.wait(|event| matches!(event, Event::Applied(g) if *g >= generation));
    }

    /// The first event that fits, in time. Others stay in `events`.
    #[track_caller]
    pub fn wait(&mut self, fits: impl Fn(&Event) -> bool) -> Event {
        let until = Instant::now() + WAIT;
        loop {
            self.events.extend(self.engine.events());
            if let Some(at) = self.events.iter().position(&fits) {
                return self.events.remove(at);
            }
            assert!(Instant::now() < until, "no such event in time; there were {:?}", self.events);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn drops(&self, name: &str) -> u64 {
        self.engine.snapshot().drops.iter().find(|(n, _)| *n == name).unwrap().1
    }

    pub fn all_drops(&self) -> u64 {
        self.engine.snapshot().drops.iter().map(|(_, n)| n).sum()
    }

    #[track_caller]
    pub fn wait_for(&self, what: impl Fn(&Node) -> bool) {
        let until = Instant::now() + WAIT;
        while !what(self) {
            assert!(Instant::now() < until, "not in time: {:?}", self.engine.snapshot());
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

pub fn frame(dst: [u8; 6], src: [u8; 6], length: usize) -> Vec<u8> {
    let mut bytes = [&dst[..], &src, &[0x88, 0xb5]].concat();
    bytes.extend((bytes.len()..length).map(|n| n as u8));
    bytes
}

/// Two nodes, 1 and 2, joined by one trunk.
pub struct Two {
    pub a: Node,
    pub b: Node,
    pub tap_a: Tap,
    pub tap_b: Tap,
    pub port_a: u32,
    pub port_b: u32,
}

impl Two {
    pub fn new() -> Self {
        let (a, b) = (Node::new(), Node::new());
        let ((port_a, tap_a), (port_b, tap_b)) = (a.port(), b.port());
        Self { a, b, tap_a, tap_b, port_a, port_b }
    }

    /// Applies the usual tables; `None` ports mean the other node's own.
    pub fn join(carrier: Carrier, bridge: bool) -> Self {
        let mut two = Self::new();
        let (a, b) = (two.a.engine.udp_port(), two.b.engine.udp_port());
        two.apply_a(carrier, b, bridge);
        two.apply_b(carrier, a, bridge);
        two
    }

    /// Bridging VLANs at both ends; what passes their ports.
    pub fn bridged(passage_a: Passage, passage_b: Passage) -> Self {
        let mut two = Self::new();
        two.pass_a(passage_a);
        two.pass_b(passage_b);
        two
    }

    pub fn pass_a(&mut self, passage: Passage) {
        let remote = Some(self.b.engine.udp_port());
        let vlan = vlan_with(
            1,
            signer(1),
            vec![self.port_a],
            true,
            vec![member(1, 2, 2, 1432)],
            vec![(2, GROUP_LABEL)],
            passage,
        );
        let labels = vec![label(2, 1, true, &[]), group_label(2, true, &[])];
        self.a.apply(vec![trunk(1, 2, Carrier::Udp, remote, 1432)], vec![vlan], labels);
    }

    pub fn pass_b(&mut self, passage: Passage) {
        let remote = Some(self.a.engine.udp_port());
        let vlan = vlan_with(
            2,
            signer(2),
            vec![self.port_b],
            true,
            vec![member(2, 1, 1, 1432)],
            vec![(1, GROUP_LABEL)],
            passage,
        );
        let labels = vec![label(1, 2, true, &[]), group_label(1, true, &[])];
        self.b.apply(vec![trunk(2, 1, Carrier::Udp, remote, 1432)], vec![vlan], labels);
    }

    pub fn apply_a(&mut self, carrier: Carrier, remote: u16, bridge: bool) {
        let vlan = vlan(1, vec![self.port_a], bridge, vec![member(1, 2, 2, 1432)], vec![(2, GROUP_LABEL)]);
        let labels = vec![label(2, 1, true, &[]), group_label(2, true, &[])];
        self.a.apply(vec![trunk(1, 2, carrier, Some(remote), 1432)], vec![vlan], labels);
    }

    pub fn apply_b(&mut self, carrier: Carrier, remote: u16, bridge: bool) {
        let vlan = vlan(2, vec![self.port_b], bridge, vec![member(2, 1, 1, 1432)], vec![(1, GROUP_LABEL)]);
        let labels = vec![label(1, 2, true, &[]), group_label(1, true, &[])];
        self.b.apply(vec![trunk(2, 1, carrier, Some(remote), 1432)], vec![vlan], labels);
    }
}
