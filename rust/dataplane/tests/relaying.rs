//! A relay with rates: what it counts, what it drops, and that what waits goes on in turn.
#![allow(missing_docs)]

mod harness;

use std::sync::Arc;
use std::time::{Duration, Instant};

use harness::*;
use peertap_dataplane::class::{Class, RelayLimits};
use peertap_dataplane::tables::{Carrier, Label, Tables, Trunk};

const CLASS: u32 = 7;

struct Line {
    relay: Node,
    ends: [Node; 2],
    taps: [Tap; 2],
    trunks: Vec<Arc<Trunk>>,
}

/// 1 ── 2 ── 3, where 2 is a member of nothing.
fn line(limits: RelayLimits, limited: bool) -> Line {
    let (mut a, relay, mut c) = (Node::new(), Node::new(), Node::new());
    let ((port_a, tap_a), (port_c, tap_c)) = (a.port(), c.port());
    let ports = [a.engine.udp_port(), relay.engine.udp_port(), c.engine.udp_port()];
    let end =
        |me: u8, other: u8, port| vlan(me, vec![port], false, vec![member(me, other, 2, 1432)], vec![(2, GROUP_LABEL)]);
    let labels = |me| vec![label(2, me, true, &[]), group_label(2, true, &[])];
    a.apply(vec![trunk(1, 2, Carrier::Udp, Some(ports[1]), 1432)], vec![end(1, 3, port_a)], labels(1));
    c.apply(vec![trunk(3, 2, Carrier::Udp, Some(ports[1]), 1432)], vec![end(3, 1, port_c)], labels(3));
    let trunks = vec![trunk(2, 1, Carrier::Udp, Some(ports[0]), 1432), trunk(2, 3, Carrier::Udp, Some(ports[2]), 1432)];
    let mut line = Line { relay, ends: [a, c], taps: [tap_a, tap_c], trunks };
    line.apply(limits, limited, true);
    line
}

impl Line {
    fn apply(&mut self, limits: RelayLimits, limited: bool, with_labels: bool) {
        let carried = |label: Arc<Label>| {
            let Label { trunk, label, token, group, deliver, ref out, .. } = *label;
            Arc::new(Label { trunk, label, token, group, deliver, out: out.clone(), backup: None, class: Some(CLASS) })
        };
        let labels = if with_labels { vec![label(1, 3, false, &[3]), label(3, 1, false, &[1])] } else { vec![] };
        let tables = Tables::new(self.trunks.clone(), vec![], labels.into_iter().map(carried).collect()).unwrap();
        let classes = vec![Arc::new(Class { id: CLASS, limited })];
        let tables = tables.carrying(classes, limits).unwrap();
        let generation = self.relay.engine.apply(Arc::new(tables)).unwrap();
        self.relay.wait(|event| matches!(event, peertap_dataplane::events::Event::Applied(g) if *g >= generation));
    }

    /// So many frames of 1,000 bytes at once; how many arrive.
    fn burst(&self, frames: usize) -> usize {
        for _ in 0..frames {
            self.taps[0].send(&frame(mac(3), mac(1), 1000));
        }
        std::iter::from_fn(|| self.taps[1].receive_within(Duration::from_millis(400))).count()
    }

    fn counts(&self) -> (u64, u64, u64, u64) {
        let snapshot = self.relay.engine.snapshot();
        let class = &snapshot.classes[0].1;
        (class.packets, class.bytes, class.over_rate, class.no_room)
    }
}

#[test]
fn a_relay_counts_what_it_carries_and_counts_on_under_other_tables() {
    let mut line = line(RelayLimits::default(), true);
    assert_eq!(line.burst(20), 20);
    line.apply(RelayLimits::default(), true, true);
    assert_eq!(line.burst(20), 20);
    assert_eq!(line.counts(), (40, 40 * 1064, 0, 0));
    assert_eq!(line.relay.all_drops(), 0);
}

#[test]
fn what_is_beyond_a_rate_is_dropped_and_counted() {
    for (limits, reason) in [
        (RelayLimits { per_class: 1000, ..RelayLimits::default() }, "relay_vlan_rate"),
        (RelayLimits { per_trunk: 1000, ..RelayLimits::default() }, "relay_trunk_rate"),
    ] {
        let line = line(limits, true);
        let arrived = line.burst(100);
        assert!((60..=62).contains(&arrived), "a bucket of 64 KiB, and no more: {arrived}");
        assert_eq!(line.relay.drops(reason), 100 - arrived as u64);
        assert_eq!(line.counts().2, 100 - arrived as u64);
    }
}

#[test]
fn a_vlan_of_the_relays_own_has_no_rate() {
    let limits = RelayLimits { all: 1000, per_trunk: 1000, per_class: 1000 };
    assert_eq!(line(limits, false).burst(100), 100);
}

#[test]
fn what_waits_goes_on_in_order_as_fast_as_the_rate_allows() {
    let line = line(RelayLimits { all: 400_000, ..RelayLimits::default() }, true);
    let began = Instant::now();
    for number in 0..110u8 {
        let mut sent = frame(mac(3), mac(1), 1000);
        sent[14] = number;
        line.taps[0].send(&sent);
    }
    let got: Vec<u8> =
        std::iter::from_fn(|| line.taps[1].receive_within(Duration::from_millis(400))).map(|one| one[14]).collect();
    let took = began.elapsed() - Duration::from_millis(400);
    assert_eq!(got, (0..110).collect::<Vec<_>>());
    // 64 KiB go at once, 51 KiB after them at 400 kB/s.
    assert!(took > Duration::from_millis(100), "{took:?}");
    assert_eq!(line.relay.engine.snapshot().relay_waiting, 0);
    assert_eq!(line.counts(), (110, 110 * 1064, 0, 0));
}

#[test]
fn what_waits_is_bounded_and_the_rest_counted() {
    let line = line(RelayLimits { all: 50_000, ..RelayLimits::default() }, true);
    for _ in 0..300 {
        line.taps[0].send(&frame(mac(3), mac(1), 1000));
    }
    line.relay.wait_for(|relay| relay.drops("relay_full") > 0);
    let snapshot = line.relay.engine.snapshot();
    assert!(snapshot.relay_waiting <= 64 << 10, "{}", snapshot.relay_waiting);
    line.relay.wait_for(|_| line.counts().3 == line.relay.drops("relay_full"));
}

#[test]
fn what_waits_under_a_label_that_is_taken_away_does_not_go() {
    let mut line = line(RelayLimits { all: 20_000, ..RelayLimits::default() }, true);
    for _ in 0..100 {
        line.taps[0].send(&frame(mac(3), mac(1), 1000));
    }
    line.relay.wait_for(|relay| relay.engine.snapshot().relay_waiting > 0);
    while line.taps[1].receive_within(Duration::from_millis(1)).is_some() {}
    line.apply(RelayLimits::default(), true, false);
    line.relay.wait_for(|relay| relay.engine.snapshot().relay_waiting == 0);
    assert!(line.relay.drops("unknown_label") > 0);
    assert!(std::iter::from_fn(|| line.taps[1].receive_within(SILENCE)).count() <= 2, "what left before the tables");
    assert!(line.ends.iter().all(|end| end.drops("hop_auth") == 0));
}
