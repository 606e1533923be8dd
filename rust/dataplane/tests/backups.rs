//! Two ways to a member: when the cable of the one in use is cut, frames take the other one, and no control plane is asked.
//!
//! ```text
//!          2          each of 1, 2, 3, 4 is an engine; nobody calls `apply` after the beginning
//!     1 ──<|>── 4     the cable to be cut is 1─2, or 2─4
//!          3
//! ```
#![allow(missing_docs)]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::cable::Cable;
use harness::*;
use peertap_dataplane::tables::{Carrier, Label, Member};

/// 250 ms of silence and three probes, 100 ms apart (SPEC 7), and a loaded machine.
const TAKEN_WITHIN: Duration = Duration::from_millis(900);
/// A path that is down is asked each 4 s (SPEC 7).
const BACK_WITHIN: Duration = Duration::from_secs(6);

struct Square {
    nodes: Vec<Node>,
    taps: Vec<Tap>,
    cable: Cable,
}

fn with_backup(member: &Arc<Member>, backup: Option<(u32, u32)>) -> Arc<Member> {
    Arc::new(Member {
        backup,
        pair_send: member.pair_send.clone(),
        pair_receive: member.pair_receive.clone(),
        group_receive: member.group_receive.clone(),
        spread: member.spread.clone(),
        ..**member
    })
}

fn label_with_backup(label: &Arc<Label>, backup: Option<(u32, u32)>) -> Arc<Label> {
    Arc::new(Label { backup, out: label.out.clone(), ..**label })
}

impl Square {
    /// The cable between two nodes is one that can be cut.
    fn new(cut: (u8, u8), has_backups: bool) -> Self {
        let mut nodes: Vec<_> = (0..4).map(|_| Node::new()).collect();
        let ports: Vec<_> = nodes.iter().map(|node| node.engine.udp_port()).collect();
        let cable = Cable::between(ports[usize::from(cut.0) - 1], ports[usize::from(cut.1) - 1]);
        let link = |me: u8, to: u8| {
            let on_cable = cut == (me, to) || cut == (to, me);
            let port = if on_cable { cable.port } else { ports[usize::from(to) - 1] };
            trunk(me, to, Carrier::Udp, Some(port), 1432)
        };
        let backup = |via: u32, to: u32| has_backups.then_some((via, to));
        let mut taps = Vec::new();
        for (me, other) in [(1, 4), (4, 1)] {
            let (port, tap) = nodes[usize::from(me) - 1].port();
            taps.push(tap);
            let member = with_backup(&member(me, other, 2, 1432), backup(3, u32::from(other)));
            let labels = vec![label(2, me, true, &[]), label(3, me, true, &[])];
            let vlans = vec![vlan(me, vec![port], false, vec![member], vec![])];
            nodes[usize::from(me) - 1].apply(vec![link(me, 2), link(me, 3)], vlans, labels);
        }
        let near = [label(1, 4, false, &[4]), label(4, 1, false, &[1])];
        let two = vec![label_with_backup(&near[0], backup(3, 4)), label_with_backup(&near[1], backup(3, 1))];
        nodes[1].apply(vec![link(2, 1), link(2, 3), link(2, 4)], vec![], two);
        let three = [&near[..], &[label(2, 4, false, &[4]), label(2, 1, false, &[1])]].concat();
        nodes[2].apply(vec![link(3, 1), link(3, 2), link(3, 4)], vec![], three);
        Self { nodes, taps, cable }
    }

    /// Sends a frame each 10 ms until one arrives; how long that took.
    fn until_one_arrives(&self, limit: Duration) -> Option<Duration> {
        let began = Instant::now();
        while began.elapsed() < limit {
            self.taps[0].send(&frame(mac(4), mac(1), 200));
            if self.taps[1].receive_within(Duration::from_millis(10)).is_some() {
                return Some(began.elapsed());
            }
        }
        None
    }

    fn forwarded_by(&self, node: u8) -> u64 {
        let snapshot = self.nodes[usize::from(node) - 1].engine.snapshot();
        snapshot.trunks.iter().map(|(_, counters)| counters.rx_packets).sum()
    }
}

#[test]
fn a_member_whose_trunk_falls_silent_takes_the_backup_and_goes_back_when_it_is_heard_again() {
    let square = Square::new((1, 2), true);
    assert!(square.until_one_arrives(WAIT).unwrap() < Duration::from_millis(200));
    let before = square.forwarded_by(3);
    square.cable.cut();
    let taken = square.until_one_arrives(WAIT).expect("frames go by the backup");
    assert!(taken > Duration::from_millis(300) && taken < TAKEN_WITHIN, "{taken:?}");
    assert!(square.forwarded_by(3) > before);
    square.cable.mend();
    let began = Instant::now();
    loop {
        let before = square.forwarded_by(2);
        square.until_one_arrives(WAIT).expect("frames go one way or the other");
        if square.forwarded_by(2) > before + 1 {
            break;
        }
        assert!(began.elapsed() < BACK_WITHIN, "frames stay on the backup");
    }
}

#[test]
fn a_relay_whose_next_trunk_falls_silent_takes_the_backup() {
    let square = Square::new((2, 4), true);
    assert!(square.until_one_arrives(WAIT).unwrap() < Duration::from_millis(200));
    square.cable.cut();
    let taken = square.until_one_arrives(WAIT).expect("frames go by the relay's backup");
    assert!(taken > Duration::from_millis(300) && taken < TAKEN_WITHIN, "{taken:?}");
}

#[test]
fn without_a_backup_a_silent_trunk_stays_silent() {
    let square = Square::new((1, 2), false);
    assert!(square.until_one_arrives(WAIT).is_some());
    square.cable.cut();
    assert_eq!(square.until_one_arrives(2 * TAKEN_WITHIN), None);
}

#[test]
fn a_trunk_in_doubt_gives_way_to_a_backup_and_carries_frames_where_there_is_none() {
    for has_backup in [true, false] {
        let mut nodes = [Node::new(), Node::new(), Node::new()];
        let ports: Vec<_> = nodes.iter().map(|node| node.engine.udp_port()).collect();
        let ((port, tap), taps) = (nodes[0].port(), [nodes[1].port(), nodes[2].port()]);
        let doubtful = Arc::new(peertap_dataplane::tables::Trunk {
            in_doubt: true,
            send_udp: Some(hop_send(1, 2, false)),
            send_stream: Some(hop_send(1, 2, true)),
            receive: vec![hop_receive(2, 1, false), hop_receive(2, 1, true)],
            ..*trunk(1, 2, Carrier::Udp, Some(ports[1]), 1432)
        });
        let far = with_backup(&member(1, 4, 2, 1432), has_backup.then_some((3, 4)));
        let vlans = vec![vlan(1, vec![port], false, vec![far], vec![])];
        nodes[0].apply(vec![doubtful, trunk(1, 3, Carrier::Udp, Some(ports[2]), 1432)], vlans, vec![]);
        for (node, me) in [(1, 2), (2, 3)] {
            let (port, _) = &taps[node - 1];
            let vlans = vec![vlan(4, vec![*port], false, vec![member(4, 1, 1, 1432)], vec![])];
            let trunks = vec![trunk(me, 1, Carrier::Udp, Some(ports[0]), 1432)];
            nodes[node].apply(trunks, vlans, vec![label(1, 4, true, &[])]);
        }
        let sent = frame(mac(4), mac(1), 100);
        tap.send(&sent);
        taps[usize::from(has_backup)].1.expect(&sent);
        taps[usize::from(!has_backup)].1.expect_nothing();
    }
}
