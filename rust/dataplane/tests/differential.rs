//! The offloading path against the plain one: the same traffic, and the other end sees the same frames.
#![allow(missing_docs)]

mod harness;
mod reference;

use std::collections::HashMap;

use harness::*;
use peertap_dataplane::events::Event;
use peertap_dataplane::offload::Allowed;
use peertap_dataplane::offload::coalesce::Merges;
use peertap_dataplane::port::Capabilities;
use peertap_dataplane::tables::Carrier;
use reference::{ACK, CWR, FIN, PSH, Random, Shape, VIRTIO, View, canonical, expand, split, word};

const OFFLOADS: Capabilities = Capabilities { virtio: true, partial: true, merges: Merges { tcp: true, udp: true } };
/// Frames on their way at a time: fewer bytes than a socket's buffer.
const WINDOW: usize = 40;
const PLAIN: Option<Capabilities> = None;
/// The largest frame that goes in one packet of 1432 bytes (SPEC 2.3).
const FRAME_LIMIT: usize = 1432 - 64;

/// One thing that A's system sends.
struct Item {
    /// By a device with offloads: with virtio header, perhaps partial, perhaps a super-frame.
    offloaded: Vec<u8>,
    /// By one without.
    plain: Vec<Vec<u8>>,
}

impl Item {
    fn whole(frame: Vec<u8>) -> Self {
        Self { offloaded: [&[0; VIRTIO][..], &frame].concat(), plain: vec![frame] }
    }

    fn of(shape: &Shape, payload: &[u8], size: usize) -> Self {
        let offloaded = shape.build_virtio(payload, size);
        let plain = if size == 0 { vec![shape.build(payload)] } else { split(&offloaded[VIRTIO..], size) };
        Self { offloaded, plain }
    }
}

/// What a host sends to its neighbour and to all: streams, datagrams, and the small things between.
struct Host {
    random: Random,
    flows: Vec<Shape>,
    dst: [u8; 6],
}

impl Host {
    fn new(seed: u64, dst: [u8; 6]) -> Self {
        let flow = |n: usize| Shape {
            dst,
            src: mac(1),
            v6: n % 2 == 1,
            tcp: n & 2 == 0,
            from: 2000 + n as u16,
            tags: [vec![], vec![[0x81, 0, 0x60, 7]], vec![[0x88, 0xa8, 0, 3], [0x81, 0, 0, 7]]][n / 4].clone(),
            tcp_options: vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2],
            ..Shape::default()
        };
        Self { random: Random(seed), flows: (0..12).map(flow).collect(), dst }
    }

    fn items(&mut self, count: usize) -> Vec<Item> {
        (0..count).map(|_| self.item()).collect()
    }

    fn item(&mut self) -> Item {
        let random = &mut self.random;
        let n = random.below(12);
        let mut shape = self.flows[n].clone();
        match random.below(12) {
            0..5 => {
                let size = [536, 1200, 1240, 64][random.below(4)];
                let length = size * (1 + random.below(10)) + 1 + random.below(size);
                shape.flags |= [0, PSH, PSH | FIN, CWR][random.below(4)];
                self.sent(n, &shape, length, length.div_ceil(size));
                let payload = self.random.bytes(length);
                Item::of(&shape, &payload, size)
            }
            5..8 => {
                // Single frames; those without payload are pure ACKs.
                let length = [0, 1, 30, 536, 1200][random.below(5)];
                self.sent(n, &shape, length, 1);
                let payload = self.random.bytes(length);
                if self.random.one_in(2) { Item::of(&shape, &payload, 0) } else { Item::whole(shape.build(&payload)) }
            }
            8 => {
                // To all: DHCP, mDNS and the like, some of it a super-frame.
                let dst = if shape.v6 { [0x33, 0x33, 0, 0, 0, 1] } else { GROUP };
                let shape = Shape { dst, tcp: false, tags: vec![], ..shape };
                let payload = random.bytes(300);
                self.sent(n, &shape, 0, [1, 3][n % 2]);
                Item::of(&shape, &payload, [0, 100][n % 2])
            }
            9 => {
                let arp = [&[0, 1, 8, 0, 6, 4, 0, 1][..], &random.bytes(20), &[0; 18]].concat();
                let dst = if random.one_in(2) { GROUP } else { self.dst };
                Item::whole([&dst[..], &mac(1), &[8, 6], &arp].concat())
            }
            10 => {
                // Neighbour discovery, ICMP, a fragment: over IP, but neither TCP nor UDP to us.
                let mut frame = Shape { tcp: false, ..shape }.build(&random.bytes(40));
                let view = View::of(&frame).unwrap();
                frame[view.l3 + if view.v6 { 6 } else { 9 }] = if view.v6 { 58 } else { 1 };
                Item::whole(frame)
            }
            _ => {
                let length = [0, 1, 46, 500, 3000][random.below(5)];
                let mut frame = [&self.dst[..], &mac(1)].concat();
                frame.extend([[0x08, 0x00], [0x86, 0xdd], [0x81, 0x00], [0x88, 0xb5]][random.below(4)]);
                frame.extend(random.bytes(length));
                Item::whole(frame)
            }
        }
    }

    fn sent(&mut self, n: usize, shape: &Shape, bytes: usize, frames: usize) {
        let flow = &mut self.flows[n];
        flow.sequence = shape.sequence.wrapping_add(bytes as u32);
        flow.id = shape.id.wrapping_add(frames as u16);
    }
}

/// A, perhaps a relay, and B.
struct World {
    a: Node,
    relay: Option<Node>,
    b: Node,
    tap_a: Tap,
    tap_b: Tap,
    offloads_a: bool,
    offloads_b: bool,
}

impl World {
    fn new(allowed: Allowed, can_a: Option<Capabilities>, can_b: Option<Capabilities>, relayed: bool) -> Self {
        let (mut a, mut b) = (Node::with(allowed), Node::with(allowed));
        let mut relay = relayed.then(|| Node::with(allowed));
        let ((port_a, tap_a), (port_b, tap_b)) = (a.port_with(can_a), b.port_with(can_b));
        let (at_a, at_b) = (a.engine.udp_port(), b.engine.udp_port());
        let at_relay = relay.as_ref().map(|relay| relay.engine.udp_port());
        for (node, me, other, port, remote) in [(&mut a, 1, 3, port_a, at_b), (&mut b, 3, 1, port_b, at_a)] {
            let via = if relayed { 2 } else { other };
            let trunks = vec![trunk(me, via, Carrier::Udp, Some(at_relay.unwrap_or(remote)), 1432)];
            let edges = vec![(u32::from(via), GROUP_LABEL)];
            let vlan = vlan(me, vec![port], false, vec![bridging(&member(me, other, via, 1432))], edges);
            node.apply(trunks, vec![vlan], vec![label(via, me, true, &[]), group_label(via, true, &[])]);
        }
        if let Some(relay) = &mut relay {
            let ends = [(1, at_a), (3, at_b)];
            let trunks = ends.map(|(to, port)| trunk(2, to, Carrier::Udp, Some(port), 1432)).to_vec();
            let group = [1, 3].map(|from| group_label(from, false, &[1, 3]));
            let labels = [vec![label(1, 3, false, &[3]), label(3, 1, false, &[1])], group.to_vec()].concat();
            relay.apply(trunks, vec![], labels);
        }
        Self { a, relay, b, tap_a, tap_b, offloads_a: can_a.is_some(), offloads_b: can_b.is_some() }
    }

    /// Sends the items from A and collects what is written to B's port.
    fn writes(&self, items: &[Item]) -> Vec<Vec<u8>> {
        let mut writes = Vec::new();
        let mut rest = items;
        while !rest.is_empty() {
            // As much at a time as a socket pair holds.
            let (mut count, mut waiting) = (0, 0);
            for item in rest {
                if waiting + item.plain.len() > WINDOW {
                    break;
                }
                (count, waiting) = (count + 1, waiting + item.plain.len());
                if self.offloads_a {
                    self.tap_a.send(&item.offloaded);
                } else {
                    item.plain.iter().for_each(|frame| self.tap_a.send(frame));
                }
            }
            rest = &rest[count..];
            while waiting > 0 {
                let Some(write) = self.tap_b.receive_within(WAIT) else { return writes };
                waiting = waiting.saturating_sub(self.frames(&write).len());
                writes.push(write);
            }
        }
        writes
    }

    /// The frames of a write: super-frames are cut as a kernel would.
    fn frames(&self, write: &[u8]) -> Vec<Vec<u8>> {
        if self.offloads_b { expand(write) } else { vec![write.to_vec()] }
    }

    fn drops(&self) -> Vec<(&'static str, u64)> {
        let nodes = [Some(&self.a), self.relay.as_ref(), Some(&self.b)];
        let all = nodes.into_iter().flatten().flat_map(|node| node.engine.snapshot().drops.clone());
        all.filter(|(_, n)| *n > 0).collect()
    }

    /// What B gets is what a world without offloads would give, flow by flow.
    #[track_caller]
    fn check(&self, items: &[Item]) {
        let want = items.iter().flat_map(|item| item.plain.iter().cloned());
        let got: Vec<_> = self.writes(items).iter().flat_map(|write| self.frames(write)).collect();
        assert_eq!(got.len(), want.clone().count(), "drops: {:?}", self.drops());
        assert_same(got.into_iter(), want);
        assert_eq!(self.drops(), []);
    }
}

#[track_caller]
fn assert_same(got: impl Iterator<Item = Vec<u8>>, want: impl Iterator<Item = Vec<u8>>) {
    let (mut got, mut want) = (by_flow(got), by_flow(want));
    // The order of frames to all has a test of its own.
    for flows in [&mut got, &mut want] {
        flows.iter_mut().filter(|(flow, _)| flow[0] & 1 != 0).for_each(|(_, frames)| frames.sort());
    }
    for (flow, wants) in &want {
        let got = got.get(flow).expect("a flow");
        assert_eq!(got.len(), wants.len());
        for (n, (got, want)) in got.iter().zip(wants).enumerate() {
            let differ: Vec<_> = (0..got.len().min(want.len())).filter(|&at| got[at] != want[at]).take(8).collect();
            let at = wants.iter().position(|want| got == want);
            assert!(
                got == want,
                "frame {n} is frame {at:?} of {flow:02x?}: {} and {} bytes, at {differ:?}",
                got.len(),
                want.len()
            );
        }
    }
    assert_eq!(got.len(), want.len());
}

/// Frames to all are checked beside the loop and may come later than others, so they are flows of their own.
fn by_flow(frames: impl Iterator<Item = Vec<u8>>) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: HashMap<_, Vec<_>> = HashMap::new();
    for frame in frames {
        let flow = View::of(&frame).map(|view| view.flow(&frame)).unwrap_or_default();
        flows.entry([&frame[..1], &flow].concat()).or_default().push(canonical(&frame));
    }
    flows
}

/// All switches on, each one off, all off.
fn switches() -> Vec<(Vec<&'static str>, Allowed)> {
    let each = Allowed::NAMES.map(|name| vec![name]).to_vec();
    let sets = [vec![vec![]], each, vec![Allowed::NAMES.to_vec()]].concat();
    sets.into_iter().map(|off| (off.clone(), Allowed::all_but(off).unwrap())).collect()
}

fn worlds() -> [(Option<Capabilities>, Option<Capabilities>); 4] {
    [(PLAIN, PLAIN), (Some(OFFLOADS), PLAIN), (PLAIN, Some(OFFLOADS)), (Some(OFFLOADS), Some(OFFLOADS))]
}

#[test]
fn b_sees_the_same_frames_with_and_without_offloads_whatever_is_switched_off() {
    for (off, allowed) in switches() {
        for (can_a, can_b) in worlds() {
            println!("off: {off:?}, A offloads: {}, B offloads: {}", can_a.is_some(), can_b.is_some());
            let world = World::new(allowed, can_a, can_b, false);
            let mut host = Host::new(0x5eed + off.len() as u64, mac(3));
            for _ in 0..5 {
                world.check(&host.items(60));
            }
        }
    }
}

#[test]
fn b_sees_the_same_frames_behind_a_relay() {
    for (off, allowed) in switches() {
        for (can_a, can_b) in worlds() {
            println!("off: {off:?}, A offloads: {}, B offloads: {}", can_a.is_some(), can_b.is_some());
            let world = World::new(allowed, can_a, can_b, true);
            let mut host = Host::new(77, mac(3));
            for _ in 0..3 {
                world.check(&host.items(60));
            }
        }
    }
}

#[test]
fn a_port_that_takes_less_gets_less() {
    for partial in [false, true] {
        for (tcp, udp) in [(false, false), (partial, false), (false, partial)] {
            let can = Capabilities { virtio: true, partial, merges: Merges { tcp, udp } };
            let world = World::new(Allowed::default(), Some(OFFLOADS), Some(can), false);
            let items = Host::new(5, mac(3)).items(100);
            for write in world.writes(&items) {
                assert!(partial || write[0] == 0, "a partial checksum");
                assert!(match write[1] {
                    0 => true,
                    5 => udp,
                    _ => tcp,
                });
            }
            world.check(&items);
        }
    }
}

#[test]
fn a_steady_stream_reaches_b_as_super_frames() {
    let world = World::new(Allowed::default(), Some(OFFLOADS), Some(OFFLOADS), false);
    for (tcp, v6) in [(true, false), (true, true), (false, false), (false, true)] {
        let shape = Shape { dst: mac(3), src: mac(1), tcp, v6, ..Shape::default() };
        let item = Item::of(&shape, &Random(9).bytes(46_000), 1200);
        world.tap_a.send(&item.offloaded);
        let (mut writes, mut got) = (0, Vec::new());
        while got.len() < item.plain.len() {
            got.extend(expand(&world.tap_b.receive_within(WAIT).unwrap()));
            writes += 1;
        }
        assert_eq!(got, item.plain);
        assert!(writes <= 8, "{writes} writes for 39 frames");
    }
}

#[test]
fn segments_too_large_for_the_path_are_cut_again_for_tcp_and_go_in_fragments_for_udp() {
    for (can_b, v6) in [(PLAIN, false), (Some(OFFLOADS), true)] {
        let world = World::new(Allowed::default(), Some(OFFLOADS), can_b, false);
        let shape = Shape { dst: mac(3), src: mac(1), v6, ..Shape::default() };
        let payload = Random(3).bytes(20_000);
        let item = Item::of(&shape, &payload, 1448);
        world.tap_a.send(&item.offloaded);
        let (mut stream, mut sequence) = (Vec::<u8>::new(), shape.sequence);
        while stream.len() < payload.len() {
            let write = world.tap_b.receive_within(WAIT).expect("a frame in time");
            for frame in if can_b.is_some() { expand(&write) } else { vec![write] } {
                let view = View::of(&frame).unwrap();
                assert!(view.is_right(&frame) && frame.len() <= FRAME_LIMIT);
                assert_eq!(reference::long(&frame, view.l4 + 4), sequence);
                assert_eq!(frame[view.l4 + 13] & (ACK | PSH | FIN), ACK);
                stream.extend(&frame[view.payload..]);
                sequence = sequence.wrapping_add((frame.len() - view.payload) as u32);
            }
        }
        assert!(stream == payload);
        let datagrams = Shape { tcp: false, ..shape };
        world.check(&[Item::of(&datagrams, &payload, 1448), Item::of(&datagrams, &payload[..5000], 0)]);
    }
}

#[test]
fn runts_and_virtio_headers_that_lie_are_dropped_and_what_follows_passes() {
    let world = World::new(Allowed::default(), Some(OFFLOADS), Some(OFFLOADS), false);
    let mut host = Host::new(11, mac(3));
    let mut random = Random(0xbad);
    for round in 0..200 {
        for item in host.items(5) {
            let mut bytes = item.offloaded;
            match random.below(4) {
                0 => bytes.truncate(random.below(40).max(1)),
                1 => (0..3).for_each(|_| bytes[random.below(VIRTIO)] = random.next() as u8),
                2 => bytes[..VIRTIO].copy_from_slice(&random.bytes(VIRTIO)),
                _ => (0..4).for_each(|_| {
                    let at = VIRTIO + 12 + random.below(bytes.len() - VIRTIO - 12);
                    bytes[at] = random.next() as u8;
                }),
            }
            world.tap_a.send(&bytes);
        }
        let marker = frame(mac(3), mac(1), 100 + round);
        world.tap_a.send(&[&[0; VIRTIO][..], &marker].concat());
        loop {
            let write = world.tap_b.receive_within(WAIT).expect("the marker in time");
            if write[VIRTIO..] == marker {
                break;
            }
            if write[1] != 0 {
                expand(&write);
            }
        }
    }
    assert!(world.a.drops("bad_offload") > 0 && world.a.drops("runt") > 0);
    assert!(world.a.engine.snapshot().panic.is_none() && world.b.engine.snapshot().panic.is_none());
}

#[test]
fn frames_to_all_keep_their_order() {
    let world = World::new(Allowed::default(), PLAIN, PLAIN, false);
    for round in 0..500 {
        let sent: Vec<_> = (0..40).map(|n| frame([3, 0, 0, 0, 0, 1], mac(1), 60 + n)).collect();
        sent.iter().for_each(|frame| world.tap_a.send(frame));
        let got: Vec<_> =
            sent.iter().map(|_| world.tap_b.receive_within(WAIT).expect("a frame in time").len()).collect();
        assert_eq!(got, (60..100).collect::<Vec<_>>(), "round {round}");
    }
}

#[test]
fn a_trace_of_one_address_tells_of_partial_frames_too() {
    let mut world = World::new(Allowed::default(), Some(OFFLOADS), Some(OFFLOADS), false);
    world.b.engine.trace(10.0, Some(mac(1))).unwrap();
    let shape = Shape { dst: mac(3), src: mac(1), ..Shape::default() };
    world.check(&[Item::of(&shape, &[5; 100], 0)]);
    world.b.wait(|e| matches!(e, Event::Trace { step: "port write", .. }));
    let opened = world.b.events.iter().any(|e| matches!(e, Event::Trace { step: "open", .. }));
    assert!(opened, "{:?}", world.b.events);
}

/// One node with three ports of one VLAN: frames go from the first to the others.
fn switch() -> (Node, [Tap; 3]) {
    let mut node = Node::new();
    let ports = [node.port_with(Some(OFFLOADS)), node.port_with(Some(OFFLOADS)), node.port()];
    let ids = ports.iter().map(|(id, _)| *id).collect();
    node.apply(vec![], vec![vlan(9, ids, true, vec![], vec![])], vec![]);
    (node, ports.map(|(_, tap)| tap))
}

#[test]
fn local_ports_see_the_same_frames_whatever_they_take() {
    let (_node, [from, offloading, plain]) = switch();
    for item in Host::new(21, mac(3)).items(200) {
        from.send(&item.offloaded);
        let write = offloading.receive_within(WAIT).expect("a frame in time");
        assert_same(expand(&write).into_iter(), item.plain.clone().into_iter());
        let got = item.plain.iter().map(|_| plain.receive_within(WAIT).expect("a frame in time"));
        assert_same(got, item.plain.clone().into_iter());
    }
    offloading.expect_nothing();
    plain.expect_nothing();
}

#[test]
fn a_single_datagram_between_local_ports_leaves_complete() {
    let (_node, [from, offloading, _plain]) = switch();
    for v6 in [false, true] {
        let shape = Shape { dst: GROUP, src: mac(1), tcp: false, v6, from: 67, to: 68, ..Shape::default() };
        let item = Item::of(&shape, &[5; 300], 0);
        from.send(&item.offloaded);
        let write = offloading.receive_within(WAIT).expect("a frame in time");
        assert_eq!(write[..VIRTIO], [0; VIRTIO], "DHCP clients on raw sockets drop partial checksums (DATAPATH)");
        assert_ne!(word(&write[VIRTIO..], shape.checksum_at()), 0);
        assert_eq!(write[VIRTIO..], item.plain[0]);
    }
}
