//! Several ways to a member: flows are spread over them, or each packet goes by two; one that falls silent costs its own flows a moment.
//!
//! ```text
//!          2          each of 1, 2, 3, 4 is an engine; 1 knows both ways to 4
//!     1 ──<|>── 4
//!          3
//! ```
#![allow(missing_docs)]

mod harness;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::cable::Cable;
use harness::*;
use peertap_dataplane::tables::{Carrier, Member};

const FLOWS: u16 = 64;
/// 250 ms of silence and three probes, 100 ms apart (SPEC 7), and a loaded machine.
const TAKEN_WITHIN: Duration = Duration::from_millis(1500);

struct Square {
    nodes: Vec<Node>,
    taps: Vec<Tap>,
    cable: Cable,
}

impl Square {
    /// Node 1 spreads flows over both ways to 4, or sends each packet by both. The cable is that between 1 and 2.
    fn new(spread: bool, duplicate: bool) -> Self {
        let mut nodes: Vec<_> = (0..4).map(|_| Node::new()).collect();
        let ports: Vec<_> = nodes.iter().map(|node| node.engine.udp_port()).collect();
        let cable = Cable::between(ports[0], ports[1]);
        let link = |me: u8, to: u8| {
            let on_cable = (me, to) == (1, 2) || (me, to) == (2, 1);
            let port = if on_cable { cable.port } else { ports[usize::from(to) - 1] };
            trunk(me, to, Carrier::Udp, Some(port), 1432)
        };
        let mut taps = Vec::new();
        for (me, other) in [(1, 4), (4, 1)] {
            let (port, tap) = nodes[usize::from(me) - 1].port();
            taps.push(tap);
            let plain = member(me, other, 2, 1432);
            let member = Arc::new(Member {
                backup: Some((3, u32::from(other))),
                spread: if spread { vec![(3, u32::from(other))] } else { vec![] },
                duplicate,
                pair_send: plain.pair_send.clone(),
                pair_receive: plain.pair_receive.clone(),
                group_receive: plain.group_receive.clone(),
                ..*plain
            });
            let labels = vec![label(2, me, true, &[]), label(3, me, true, &[])];
            let vlans = vec![vlan(me, vec![port], false, vec![member], vec![])];
            nodes[usize::from(me) - 1].apply(vec![link(me, 2), link(me, 3)], vlans, labels);
        }
        for relay in [2, 3] {
            let labels = vec![label(1, 4, false, &[4]), label(4, 1, false, &[1])];
            nodes[usize::from(relay) - 1].apply(vec![link(relay, 1), link(relay, 4)], vec![], labels);
        }
        Self { nodes, taps, cable }
    }

    /// What relay 2 and relay 3 got of node 1, probes included.
    fn relayed(&self) -> [u64; 2] {
        [1, 2].map(|node| {
            let snapshot = self.nodes[node].engine.snapshot();
            snapshot.trunks.iter().find(|(id, _)| *id == 1).map_or(0, |(_, counters)| counters.rx_packets)
        })
    }

    /// By which relay a frame of this flow goes.
    fn relay_of(&self, flow: u16) -> u8 {
        let (before, sent) = (self.relayed(), udp_frame(flow));
        for _ in 0..8 {
            self.taps[0].send(&sent);
            self.taps[1].expect(&sent);
        }
        let after = self.relayed();
        let went = [after[0] - before[0] >= 8, after[1] - before[1] >= 8];
        assert!(went[0] != went[1], "flow {flow}: {before:?} {after:?}");
        if went[0] { 2 } else { 3 }
    }
}

/// From 1 to 4; the flow is in the source port.
fn udp_frame(flow: u16) -> Vec<u8> {
    let mut frame = frame(mac(4), mac(1), 100);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14..34].copy_from_slice(&[0x45, 0, 0, 86, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 4]);
    frame[34..38].copy_from_slice(&[(flow >> 8) as u8, flow as u8, 0, 53]);
    frame
}

#[test]
fn flows_take_both_ways_and_each_of_them_always_the_same() {
    let square = Square::new(true, false);
    let first: Vec<_> = (0..FLOWS).map(|flow| square.relay_of(flow)).collect();
    let by_two = first.iter().filter(|&&relay| relay == 2).count();
    assert!((FLOWS as usize / 4..=3 * FLOWS as usize / 4).contains(&by_two), "{first:?}");
    assert_eq!((0..FLOWS).map(|flow| square.relay_of(flow)).collect::<Vec<_>>(), first);
}

#[test]
fn when_a_way_falls_silent_its_flows_take_the_other_one_and_those_of_the_other_one_stay() {
    let square = Square::new(true, false);
    let first: Vec<_> = (0..FLOWS).map(|flow| (flow, square.relay_of(flow))).collect();
    square.cable.cut();
    let (_, moved): (Vec<_>, Vec<_>) = first.into_iter().partition(|(_, relay)| *relay == 3);
    let began = Instant::now();
    for (flow, _) in moved {
        while square.taps[1].receive_within(Duration::from_millis(10)).is_none() {
            assert!(began.elapsed() < TAKEN_WITHIN, "flow {flow} stays lost");
            square.taps[0].send(&udp_frame(flow));
        }
    }
}

#[test]
fn with_duplication_each_packet_goes_by_both_ways_and_is_delivered_once() {
    let square = Square::new(false, true);
    let before = square.relayed();
    for flow in 0..FLOWS {
        square.taps[0].send(&udp_frame(flow));
        square.taps[1].expect(&udp_frame(flow));
    }
    square.taps[1].expect_nothing();
    let after = square.relayed();
    assert!((0..2).all(|relay| after[relay] - before[relay] >= u64::from(FLOWS)), "{before:?} {after:?}");
    assert_eq!(square.nodes[3].drops("inner_replay"), u64::from(FLOWS));
}

#[test]
fn with_duplication_a_way_that_falls_silent_costs_no_frame() {
    let square = Square::new(false, true);
    square.cable.cut();
    let mut got = HashSet::new();
    for flow in 0..200 {
        square.taps[0].send(&udp_frame(flow));
        got.extend(square.taps[1].receive_within(Duration::from_secs(1)));
        std::thread::sleep(Duration::from_millis(5)); // past the moment at which the silence is noticed
    }
    assert_eq!(got.len(), 200);
}

#[test]
fn a_control_message_goes_by_the_way_that_is_given() {
    let square = Square::new(false, false);
    for (relay, at) in [(2, 0), (3, 1)] {
        let before = square.relayed();
        square.nodes[0].engine.send_control(VLAN, 4, &[32, 1, 2, 3, 4, 5, 6, 7, 8], Some((relay, 4))).unwrap();
        let began = Instant::now();
        while square.relayed()[at] == before[at] {
            assert!(began.elapsed() < WAIT, "nothing came by {relay}");
        }
    }
}

#[test]
fn members_that_frames_were_sent_to_are_told_once() {
    let square = Square::new(false, false);
    assert_eq!(square.nodes[0].engine.traffic(), []);
    for _ in 0..3 {
        square.taps[0].send(&udp_frame(1));
        square.taps[1].expect(&udp_frame(1));
    }
    assert_eq!(square.nodes[0].engine.traffic(), [(VLAN, 4, 3, 0)]);
    assert_eq!(square.nodes[0].engine.traffic(), []);
    assert_eq!(square.nodes[3].engine.traffic(), []); // it sent nothing
}
