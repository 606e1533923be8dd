//! Whole engines joined by the loopback: what one port sends the other receives, and nothing else does.
#![allow(missing_docs)]

mod harness;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use harness::*;
use peertap_dataplane::events::Event;
use peertap_dataplane::seal::CONTENT_AT;
use peertap_dataplane::tables::Carrier;

#[test]
fn pair_frames_pass_both_ways_byte_for_byte() {
    let two = Two::join(Carrier::Udp, false);
    for length in [14, 60, 1300, 1382] {
        let (to_b, to_a) = (frame(mac(2), mac(1), length), frame(mac(1), mac(2), length));
        two.tap_a.send(&to_b);
        two.tap_b.expect(&to_b);
        two.tap_b.send(&to_a);
        two.tap_a.expect(&to_a);
    }
    let snapshot = two.b.engine.snapshot();
    assert_eq!((snapshot.vlans[0].1.rx_frames, snapshot.vlans[0].1.tx_frames), (4, 4));
    assert_eq!(snapshot.vlans[0].1.members, [(1, 4, 4, 0, 0)]);
    assert_eq!(two.a.all_drops() + two.b.all_drops(), 0);
}

#[test]
fn tagged_and_priority_tagged_frames_pass_unchanged() {
    let two = Two::join(Carrier::Udp, false);
    for tag in [[0x81, 0x00, 0xe0, 0x00], [0x81, 0x00, 0x00, 0x07]] {
        let mut tagged = frame(mac(2), mac(1), 60);
        tagged.splice(12..12, tag);
        two.tap_a.send(&tagged);
        two.tap_b.expect(&tagged);
    }
}

#[test]
fn signed_group_frames_pass() {
    let two = Two::join(Carrier::Udp, false);
    for length in [14, 1006, 1007, 1300] {
        let group = frame(GROUP, mac(1), length);
        two.tap_a.send(&group);
        two.tap_b.expect(&group);
    }
    two.tap_a.expect_nothing();
}

#[test]
fn a_frame_of_9000_bytes_passes_in_fragments() {
    let two = Two::join(Carrier::Udp, false);
    for dst in [mac(2), GROUP] {
        let jumbo = frame(dst, mac(1), 9000);
        two.tap_a.send(&jumbo);
        two.tap_b.expect(&jumbo);
    }
    two.a.wait_for(|a| a.engine.snapshot().trunks[0].1.tx_packets == 7 + 10);
    two.tap_a.send(&frame(GROUP, mac(1), 65_000)); // 66 fragments
    two.a.wait_for(|a| a.drops("too_large") == 1);
}

#[test]
fn a_foreign_source_mac_leaves_neither_a_host_port_nor_a_trunk() {
    let mut two = Two::join(Carrier::Udp, false);
    two.tap_a.send(&frame(mac(2), mac(9), 60));
    two.tap_a.send(&[0; 13]);
    two.tap_a.send(&frame(mac(9), mac(1), 60));
    two.a.wait_for(|a| (a.drops("foreign_mac"), a.drops("runt"), a.drops("unknown_mac")) == (1, 1, 1));
    // A member whose node does not check: B does.
    let remote = two.b.engine.udp_port();
    two.apply_a(Carrier::Udp, remote, true);
    two.tap_a.send(&frame(mac(2), mac(9), 60));
    two.b.wait_for(|b| b.drops("spoofed_mac") == 1);
    two.tap_b.expect_nothing();
}

#[test]
fn a_host_is_told_once_reached_where_it_is_placed_and_looked_for_everywhere_before() {
    let mut two = Two::join(Carrier::Udp, true);
    let (far_a, far_b) = ([6, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 2]);
    let flooded = frame(far_b, far_a, 60);
    two.tap_a.send(&flooded);
    two.tap_b.expect(&flooded);
    two.a.wait(|event| *event == Event::MacSeen { vlan: VLAN, mac: far_a, vid: None });
    two.tap_a.send(&flooded);
    two.tap_b.expect(&flooded);
    assert!(!two.a.engine.events().iter().any(|event| matches!(event, Event::MacSeen { .. })));
    two.b.engine.place_macs(VLAN, &[((far_a, None), Some(1))]).unwrap();
    assert_eq!(two.b.engine.snapshot().vlans[0].1.macs, [((far_a, None), 1)]);
    let answer = frame(far_a, far_b, 60);
    two.tap_b.send(&answer);
    two.tap_a.expect(&answer);
    let members = two.b.engine.snapshot().vlans[0].1.members.clone();
    assert_eq!(members, [(1, 2, 1, 0, 0)], "the answer went as a pair frame");
    // A member's virtual MAC is never believed elsewhere.
    two.tap_a.send(&frame(far_b, mac(2), 60));
    two.a.wait_for(|a| a.drops("foreign_mac") == 1);
    // Known behind the same port: not for the overlay.
    two.tap_a.send(&frame(far_a, far_a, 60));
    two.a.wait_for(|a| a.drops("same_port") == 1);
}

#[test]
fn several_local_ports_are_switched_and_nothing_is_reflected() {
    let mut node = Node::new();
    let ((p1, t1), (p2, t2)) = (node.port(), node.port());
    node.apply(vec![], vec![vlan(1, vec![p1, p2], true, vec![], vec![])], vec![]);
    let (x, y) = ([6, 0, 0, 0, 0, 1], [6, 0, 0, 0, 0, 2]);
    let first = frame(GROUP, x, 60);
    t1.send(&first);
    t2.expect(&first);
    let second = frame(x, y, 60);
    t2.send(&second);
    t1.expect(&second);
    t1.expect_nothing();
    t2.expect_nothing();
}

#[test]
fn a_relay_without_the_vlans_keys_forwards_pair_and_group_frames() {
    let (mut a, mut relay, mut c) = (Node::new(), Node::new(), Node::new());
    let ((port_a, tap_a), (port_c, tap_c)) = (a.port(), c.port());
    let ports = [a.engine.udp_port(), relay.engine.udp_port(), c.engine.udp_port()];
    let end =
        |me: u8, other: u8, port| vlan(me, vec![port], false, vec![member(me, other, 2, 1432)], vec![(2, GROUP_LABEL)]);
    let labels = |me| vec![label(2, me, true, &[]), group_label(2, true, &[])];
    a.apply(vec![trunk(1, 2, Carrier::Udp, Some(ports[1]), 1432)], vec![end(1, 3, port_a)], labels(1));
    c.apply(vec![trunk(3, 2, Carrier::Udp, Some(ports[1]), 1432)], vec![end(3, 1, port_c)], labels(3));
    let trunks = vec![trunk(2, 1, Carrier::Udp, Some(ports[0]), 1432), trunk(2, 3, Carrier::Udp, Some(ports[2]), 1432)];
    let relay_labels = vec![
        label(1, 3, false, &[3]),
        label(3, 1, false, &[1]),
        group_label(1, false, &[1, 3]),
        group_label(3, false, &[1, 3]),
    ];
    relay.apply(trunks, vec![], relay_labels);
    for (dst, length) in [(mac(3), 60), (mac(3), 9000), (GROUP, 60), (GROUP, 9000)] {
        let sent = frame(dst, mac(1), length);
        tap_a.send(&sent);
        tap_c.expect(&sent);
    }
    let back = frame(mac(1), mac(3), 100);
    tap_c.send(&back);
    tap_a.expect(&back);
    tap_a.expect_nothing();
    assert_eq!(relay.all_drops(), 0);
}

#[test]
fn frames_wait_for_a_key_and_packets_for_an_introduction() {
    let mut two = Two::new();
    let (a, b) = (two.a.engine.udp_port(), two.b.engine.udp_port());
    // A knows no member key yet; B knows none of A's keys.
    let mut bare = member(1, 2, 2, 1432);
    std::sync::Arc::get_mut(&mut bare).unwrap().pair_send = None;
    two.a.apply(
        vec![trunk(1, 2, Carrier::Udp, Some(b), 1432)],
        vec![vlan(1, vec![two.port_a], false, vec![bare], vec![])],
        vec![],
    );
    two.b.apply(
        vec![trunk(2, 1, Carrier::Udp, Some(a), 1432)],
        vec![vlan(2, vec![two.port_b], false, vec![], vec![])],
        vec![label(1, 2, true, &[]), group_label(1, true, &[])],
    );
    let (pair, group) = (frame(mac(2), mac(1), 60), frame(GROUP, mac(1), 60));
    two.tap_a.send(&pair);
    std::thread::sleep(Duration::from_millis(20));
    two.apply_a(Carrier::Udp, b, false);
    let kid = pair_send(1, 2).kid();
    two.b.wait(|e| *e == Event::UnknownKid { vlan: VLAN, kid, trunk: 1 });
    two.apply_b(Carrier::Udp, a, false);
    two.tap_b.expect(&pair);
    two.tap_a.send(&group);
    two.tap_b.expect(&group);
    // Without an introduction in time it is dropped.
    two.b.apply(
        vec![trunk(2, 1, Carrier::Udp, Some(a), 1432)],
        vec![vlan(2, vec![two.port_b], false, vec![], vec![])],
        vec![label(1, 2, true, &[]), group_label(1, true, &[])],
    );
    for _ in 0..40 {
        two.tap_a.send(&pair);
    }
    two.b.wait_for(|b| (b.drops("unknown_kid"), b.drops("hold_expired")) == (8, 32));
}

#[test]
fn a_packet_that_waits_for_a_key_is_dropped_when_its_label_goes() {
    let mut two = Two::join(Carrier::Udp, false);
    let a = two.a.engine.udp_port();
    let trunk = || vec![trunk(2, 1, Carrier::Udp, Some(a), 1432)];
    let stranger = vlan(2, vec![two.port_b], false, vec![], vec![]);
    two.b.apply(trunk(), vec![stranger], vec![label(1, 2, true, &[])]);
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    two.b.wait(|e| matches!(e, Event::UnknownKid { .. }));
    let friend = vlan(2, vec![two.port_b], false, vec![member(2, 1, 1, 1432)], vec![]);
    two.b.apply(trunk(), vec![friend], vec![]);
    assert_eq!(two.b.drops("unknown_label"), 1);
    two.tap_b.expect_nothing();
}

#[test]
fn a_host_whose_port_is_gone_may_speak_from_behind_a_member() {
    let mut two = Two::join(Carrier::Udp, true);
    let moved = [6, 0, 0, 0, 0, 1];
    two.tap_b.send(&frame(GROUP, moved, 60));
    two.tap_a.expect(&frame(GROUP, moved, 60));
    let (port, tap) = two.b.port();
    (two.port_b, two.tap_b) = (port, tap);
    two.apply_b(Carrier::Udp, two.a.engine.udp_port(), true);
    two.tap_a.send(&frame(GROUP, moved, 61));
    two.tap_b.expect(&frame(GROUP, moved, 61));
}

/// A's packets go to this socket, which hands on to B what the test wants.
struct Wire(UdpSocket, u16);

impl Wire {
    fn between(two: &mut Two) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let port = socket.local_addr().unwrap().port();
        let b = two.b.engine.udp_port();
        // No stream to fall back to: nobody answers A's probes here.
        let mut trunk = trunk(1, 2, Carrier::Udp, Some(port), 1432);
        std::sync::Arc::get_mut(&mut trunk).unwrap().send_stream = None;
        let vlan = vlan(1, vec![two.port_a], false, vec![member(1, 2, 2, 1432)], vec![(2, GROUP_LABEL)]);
        two.a.apply(vec![trunk], vec![vlan], vec![]);
        two.apply_b(Carrier::Udp, port, false);
        Self(socket, b)
    }

    /// The next frame packet; probes are not answered here.
    fn capture(&self) -> Vec<u8> {
        let mut buffer = [0; 2000];
        loop {
            let n = self.0.recv(&mut buffer).unwrap();
            if buffer[4] == 0 {
                return buffer[..n].to_vec();
            }
        }
    }

    fn send(&self, packet: &[u8]) {
        self.0.send_to(packet, ("127.0.0.1", self.1)).unwrap();
    }
}

#[test]
fn a_burst_of_group_frames_shares_signatures_and_arrives_in_order() {
    let mut two = Two::new();
    let wire = Wire::between(&mut two);
    let frames: Vec<_> = (0..100).map(|n| frame(GROUP, mac(1), 60 + n)).collect();
    frames.iter().for_each(|sent| two.tap_a.send(sent));
    let packets: Vec<_> = frames.iter().map(|_| wire.capture()).collect();
    let signed_alone = |(packet, sent): (&Vec<u8>, &Vec<u8>)| packet.len() == CONTENT_AT + sent.len() + 82;
    let alone = packets.iter().zip(&frames).filter(|&pair| signed_alone(pair)).count();
    assert!(alone < 10, "{alone} of 100 frames have a signature of their own");
    packets.iter().for_each(|packet| wire.send(packet));
    frames.iter().for_each(|sent| two.tap_b.expect(sent));
}

#[test]
fn replayed_flipped_and_truncated_packets_deliver_nothing() {
    let mut two = Two::new();
    let wire = Wire::between(&mut two);
    for dst in [mac(2), GROUP] {
        let sent = frame(dst, mac(1), 60);
        two.tap_a.send(&sent);
        let packet = wire.capture();
        for at in 0..packet.len() {
            let mut flipped = packet.clone();
            flipped[at] ^= 0x40;
            // A flip of the body passes the hop and burns its counter; so the header stays wrong here.
            if at >= 62 {
                flipped[40] ^= 1;
            }
            wire.send(&flipped);
            if at < 100 {
                wire.send(&packet[..at]);
            }
        }
        two.tap_b.expect_nothing();
        wire.send(&packet);
        two.tap_b.expect(&sent);
        wire.send(&packet);
        two.tap_b.expect_nothing();
    }
    assert_eq!(two.b.drops("hop_replay"), 2);
    // A flipped body fails at the inner tag.
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    let mut packet = wire.capture();
    *packet.last_mut().unwrap() ^= 1;
    wire.send(&packet);
    two.b.wait_for(|b| b.drops("inner_auth") == 1);
    two.tap_b.expect_nothing();
}

#[test]
fn a_forged_group_frame_is_dropped_and_moves_no_window() {
    let mut two = Two::join(Carrier::Udp, false);
    let remote = two.b.engine.udp_port();
    // "A" is now another member who knows A's group key (every member does), but not A's signer.
    let forger =
        vlan_signed_by(1, signer(3), vec![two.port_a], false, vec![member(1, 2, 2, 1432)], vec![(2, GROUP_LABEL)]);
    let honest = vlan(1, vec![two.port_a], false, vec![member(1, 2, 2, 1432)], vec![(2, GROUP_LABEL)]);
    let trunk = trunk(1, 2, Carrier::Udp, Some(remote), 1432);
    two.a.apply(vec![trunk.clone()], vec![forger], vec![]);
    for _ in 0..5 {
        two.tap_a.send(&frame(GROUP, mac(1), 60)); // counters 0 to 4
    }
    two.b.wait_for(|b| b.drops("forged") == 5);
    let kid = group_send(1, signer(1)).kid();
    two.b.wait(|e| *e == Event::Forged { vlan: VLAN, kid, trunk: 1 });
    assert_eq!(two.b.engine.snapshot().vlans[0].1.forged, [(1, 5)]);
    two.tap_b.expect_nothing();
    // The victim's own frames under the same counters still arrive.
    two.a.apply(vec![trunk], vec![honest], vec![]);
    for length in 60..65 {
        let genuine = frame(GROUP, mac(1), length);
        two.tap_a.send(&genuine);
        two.tap_b.expect(&genuine);
    }
}

/// Moves batches between two stream carriers until nothing is left.
fn pump(two: &Two) -> usize {
    let mut moved = 0;
    while let Some(batch) = two.a.engine.stream_take(2).unwrap() {
        two.b.engine.stream_put(1, &batch).unwrap();
        moved += 1;
    }
    while let Some(batch) = two.b.engine.stream_take(1).unwrap() {
        two.a.engine.stream_put(2, &batch).unwrap();
        moved += 1;
    }
    moved
}

#[test]
fn the_stream_carrier_carries_the_same_packets() {
    let mut two = Two::join(Carrier::Stream, false);
    for (dst, length) in [(mac(2), 60), (GROUP, 60), (mac(2), 9000)] {
        let sent = frame(dst, mac(1), length);
        two.tap_a.send(&sent);
        two.a.wait(|e| *e == Event::Stream { trunk: 2 });
        // The event may come before the last fragment.
        let until = Instant::now() + WAIT;
        let got = loop {
            pump(&two);
            if let Some(got) = two.tap_b.receive_within(Duration::from_millis(5)) {
                break got;
            }
            assert!(Instant::now() < until);
        };
        assert_eq!(got, sent);
    }
    // The same packets under another trunk's name, or what is no batch.
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    two.a.wait(|e| *e == Event::Stream { trunk: 2 });
    let batch = two.a.engine.stream_take(2).unwrap().unwrap();
    two.b.engine.stream_put(7, &batch).unwrap();
    two.b.engine.stream_put(1, &batch[..batch.len() - 1]).unwrap();
    two.b.wait_for(|b| (b.drops("wrong_carrier"), b.drops("stream_malformed")) == (1, 1));
    two.tap_b.expect_nothing();
}

#[test]
fn introductions_and_control_messages_become_events() {
    let mut two = Two::join(Carrier::Udp, false);
    let keys = vlan_keys();
    let sealed = keys.hello_seal(&[5; 16], 3, &group_token(), &[0, 0, 1, 2, 3]);
    let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];
    two.a.engine.send_intro(&[(2, GROUP_LABEL)], nonce, &sealed).unwrap();
    let event = two.b.wait(|e| matches!(e, Event::Intro { .. }));
    assert_eq!(event, Event::Intro { vlan: VLAN, trunk: 1, token: group_token(), nonce, sealed });
    for length in [0, 5, 5000] {
        let message = vec![9; length];
        two.a.engine.send_control(VLAN, 2, &message, None).unwrap();
        two.b.wait(|e| *e == Event::Control { vlan: VLAN, member: 1, message: message.clone() });
    }
    two.tap_b.expect_nothing();
}

#[test]
fn a_probe_of_a_live_path_becomes_a_path_event() {
    let mut two = Two::join(Carrier::Udp, false);
    let address = peertap_dataplane::udp::Address::parse("127.0.0.1", two.b.engine.udp_port()).unwrap();
    two.a.engine.probe(2, address).unwrap();
    let event = two.a.wait(|e| matches!(e, Event::Path { .. }));
    let Event::Path { trunk: 2, address: got, rtt_s } = event else { panic!("{event:?}") };
    assert!(got == address && rtt_s < 1.0);
    let trunk = two.a.engine.snapshot().trunks[0].1.clone();
    assert!(trunk.rtt_s.is_some() && trunk.loss == 0.0 && trunk.heard_age_s.is_some());
}

#[test]
fn packets_from_another_address_are_told_but_change_nothing() {
    let mut two = Two::join(Carrier::Udp, false);
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    two.apply_b(Carrier::Udp, other.local_addr().unwrap().port(), false);
    let sent = frame(mac(2), mac(1), 60);
    for _ in 0..5 {
        two.tap_a.send(&sent);
        two.tap_b.expect(&sent);
    }
    let port = two.a.engine.udp_port();
    two.b.wait(|e| matches!(e, Event::Source { trunk: 1, address } if address.port == port));
    assert!(!two.b.engine.events().iter().any(|e| matches!(e, Event::Source { .. })));
}

#[test]
fn a_silent_udp_carrier_is_noticed_and_frames_take_the_stream() {
    let mut two = Two::join(Carrier::Udp, false);
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    two.apply_a(Carrier::Udp, nobody.local_addr().unwrap().port(), false);
    let begun = Instant::now();
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    two.a.wait(|e| *e == Event::PathDown { trunk: 2 });
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(500) && took < Duration::from_millis(900), "{took:?}");
    let sent = frame(mac(2), mac(1), 61);
    two.tap_a.send(&sent);
    two.a.wait(|e| *e == Event::Stream { trunk: 2 });
    pump(&two);
    two.tap_b.expect(&sent);
    assert!(two.a.engine.snapshot().trunks[0].1.udp_down);
    // Heard by udp again: frames go by udp again.
    let b = two.b.engine.udp_port();
    two.apply_b(Carrier::Udp, two.a.engine.udp_port(), false);
    two.tap_b.send(&frame(mac(1), mac(2), 62));
    two.tap_a.expect(&frame(mac(1), mac(2), 62));
    assert!(!two.a.engine.snapshot().trunks[0].1.udp_down);
    two.apply_a(Carrier::Udp, b, false);
}

#[test]
fn a_generation_step_is_told_once_and_an_exhausted_key_refuses() {
    let mut two = Two::join(Carrier::Udp, false);
    let b = two.b.engine.udp_port();
    let member = member(1, 2, 2, 1432);
    let key = member.pair_send.clone().unwrap();
    let vlan = vlan(1, vec![two.port_a], false, vec![member], vec![]);
    two.a.apply(vec![trunk(1, 2, Carrier::Udp, Some(b), 1432)], vec![vlan], vec![]);
    key.skip_to(1 << 30);
    let sent = frame(mac(2), mac(1), 60);
    two.tap_a.send(&sent);
    two.tap_a.send(&sent);
    two.a.wait(|e| *e == Event::Generation { vlan: VLAN, kid: key.kid() });
    key.skip_to(1 << 32);
    two.tap_a.send(&sent);
    two.a.wait_for(|a| a.drops("key_exhausted") >= 1);
    assert!(!two.a.engine.events().iter().any(|e| matches!(e, Event::Generation { .. })));
}

#[test]
fn removed_members_and_ports_are_out_once_applied() {
    let mut two = Two::join(Carrier::Udp, false);
    let a = two.a.engine.udp_port();
    two.b.apply(vec![trunk(2, 1, Carrier::Udp, Some(a), 1432)], vec![], vec![label(1, 2, true, &[])]);
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    two.b.wait_for(|b| b.drops("unknown_vlan") == 1);
    two.tap_b.expect_nothing();
    two.a.engine.remove_port(two.port_a).unwrap();
    assert!(two.a.engine.remove_port(two.port_a).is_err());
    assert!(two.a.engine.snapshot().ports.is_empty());
}

#[test]
fn a_port_whose_other_end_closes_is_given_up() {
    let node = Node::new();
    let (port, tap) = node.port();
    drop(tap);
    node.wait_for(|n| n.drops("port_gone") == 1);
    assert!(node.engine.snapshot().ports.iter().any(|(id, p)| *id == port && p.gone));
}

#[test]
fn a_trace_tells_the_steps_of_a_frame() {
    let mut two = Two::join(Carrier::Udp, false);
    two.a.engine.trace(10.0, Some(mac(2))).unwrap();
    two.b.engine.trace(10.0, None).unwrap();
    two.tap_a.send(&frame(GROUP, mac(1), 60)); // not followed at A
    two.tap_a.send(&frame(mac(2), mac(1), 60));
    for _ in 0..2 {
        two.tap_b.receive_within(WAIT).unwrap(); // in either order: group frames are verified beside the loop
    }
    two.b.wait(|e| matches!(e, Event::Trace { step: "open", .. }));
    two.b.wait(|e| matches!(e, Event::Trace { step: "port write", .. }));
    two.a.wait(|e| matches!(e, Event::Trace { step: "send", .. }));
    let before = two.a.events.iter().filter_map(|e| if let Event::Trace { step, .. } = e { Some(*step) } else { None });
    assert_eq!(before.collect::<Vec<_>>(), ["port read", "switch", "seal"]);
}

#[test]
fn a_panic_stops_forwarding_and_is_told() {
    let mut two = Two::join(Carrier::Udp, false);
    two.a.engine.panic_for_test();
    two.a.wait(|e| matches!(e, Event::Panic(text) if text.contains("wanted")));
    assert!(two.a.engine.snapshot().panic.is_some());
    assert!(two.a.engine.trace(1.0, None).is_err());
    two.tap_b.send(&frame(mac(1), mac(2), 60));
    two.tap_a.expect_nothing();
}

#[test]
fn stop_is_quick_and_may_be_called_twice() {
    let two = Two::join(Carrier::Udp, false);
    let begun = Instant::now();
    two.a.engine.stop();
    two.a.engine.stop();
    assert!(begun.elapsed() < Duration::from_secs(1));
    assert!(two.a.engine.add_port(0, "x".into(), None).is_err());
}
