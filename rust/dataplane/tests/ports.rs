//! Ports of bridging VLANs: hosts and where they are, loop probes, storm control, answers in others' place (SPEC 14).
#![allow(missing_docs)]

mod harness;

use std::sync::Arc;
use std::time::Duration;

use harness::*;
use peertap_dataplane::events::Event;
use peertap_dataplane::loops::{PROBE_BYTES, Probe};
use peertap_dataplane::storm::Limits;
use peertap_dataplane::tables::{Carrier, Passage, Probing};

const HOST: [u8; 6] = [6, 0, 0, 0, 0, 1];
const OTHER: [u8; 6] = [6, 0, 0, 0, 0, 2];
/// Longer than it takes to believe that a host came over.
const COMES_OVER: Duration = Duration::from_millis(400);

fn probing(handle: u8, gap_ms: u64) -> Passage {
    let keys = vec![Arc::new(vlan_keys().probe_key())];
    let probing = Probing { keys, handle: [handle; 8], run: [handle; 8], gap_ns: gap_ms * 1_000_000 };
    Passage { probing: Some(probing), ..Passage::default() }
}

fn shut(passage: Passage) -> Passage {
    Passage { forwards: false, ..passage }
}

fn parsed(frame: &[u8]) -> Probe {
    Probe::parse_untrusted(frame, &[vlan_keys().probe_key()]).expect("a probe")
}

#[test]
fn a_host_that_a_member_claims_while_it_is_here_is_not_believed() {
    let two = Two::join(Carrier::Udp, true);
    two.tap_b.send(&frame(GROUP, HOST, 60));
    two.tap_a.expect(&frame(GROUP, HOST, 60));
    two.tap_a.send(&frame(GROUP, HOST, 60)); // the same MAC speaks at A too
    two.b.wait_for(|b| b.drops("mac_elsewhere") == 1);
    // Forgotten by the control plane, which believes the move, it passes.
    two.b.engine.forget_local_macs(VLAN, &[(HOST, None)], false).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 62));
    two.tap_b.expect(&frame(GROUP, HOST, 62));
}

#[test]
fn a_frozen_host_is_neither_learned_nor_carried() {
    let mut two = Two::join(Carrier::Udp, true);
    two.a.engine.forget_local_macs(VLAN, &[(HOST, None)], true).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.a.wait_for(|a| a.drops("mac_frozen") == 1);
    two.tap_b.send(&frame(GROUP, HOST, 60)); // on a LAN that both bridge: it would go round
    two.a.wait_for(|a| a.drops("mac_elsewhere") == 1);
    two.b.engine.forget_local_macs(VLAN, &[(HOST, None)], false).unwrap();
    assert!(!two.a.engine.events().iter().any(|event| matches!(event, Event::MacSeen { .. })));
    two.a.engine.forget_local_macs(VLAN, &[(HOST, None)], false).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.tap_b.expect(&frame(GROUP, HOST, 60));
    two.a.wait(|event| matches!(event, Event::MacSeen { mac: HOST, .. }));
}

#[test]
fn a_host_placed_behind_nobody_is_looked_for_everywhere_again() {
    let two = Two::join(Carrier::Udp, true);
    two.a.engine.place_macs(VLAN, &[((OTHER, None), Some(2))]).unwrap();
    for (n, sealed_for_b) in [(1, 1), (2, 1)] {
        two.tap_a.send(&frame(OTHER, HOST, 60 + n));
        two.tap_b.expect(&frame(OTHER, HOST, 60 + n));
        assert_eq!(two.a.engine.snapshot().vlans[0].1.members[0].2, sealed_for_b);
        two.a.engine.place_macs(VLAN, &[((OTHER, None), None)]).unwrap();
    }
    two.a.engine.place_macs(77, &[((OTHER, None), Some(2))]).unwrap(); // a VLAN that is not here: nothing
}

#[test]
fn probes_go_out_in_time_and_another_members_is_told_and_goes_no_further() {
    let mut two = Two::bridged(probing(1, 20), Passage::default());
    let first = two.tap_a.receive_within(WAIT).unwrap();
    assert_eq!((parsed(&first).handle, parsed(&first).number, parsed(&first).forwards), ([1; 8], 1, true));
    let second = two.tap_a.receive_within(WAIT).unwrap();
    assert_eq!(parsed(&second).number, 2);
    let other = Probe { forwards: true, handle: [9; 8], run: [3; 8], number: 7 };
    two.tap_a.send(&other.emit(&vlan_keys().probe_key()));
    two.a.wait(|event| *event == Event::Probed { vlan: VLAN, probe: other, own: false });
    two.tap_b.expect_nothing();
    // B is no bridge that probes: to it, it is a frame as any other.
    two.tap_b.send(&other.emit(&vlan_keys().probe_key()));
    loop {
        let seen = parsed(&two.tap_a.receive_within(WAIT).unwrap());
        if seen.handle == [9; 8] {
            break;
        }
    }
}

#[test]
fn what_changes_is_probed_at_once_and_ones_own_probe_is_told_while_it_is_recent() {
    let mut two = Two::bridged(probing(1, 60_000), Passage::default());
    let first = two.tap_a.receive_within(WAIT).unwrap();
    two.pass_a(shut(probing(1, 60_000)));
    let second = two.tap_a.receive_within(WAIT).unwrap();
    assert_eq!((parsed(&second).number, parsed(&second).forwards), (2, false));
    two.tap_a.send(&first);
    two.a.wait(|event| matches!(event, Event::Probed { own: true, .. }));
    for _ in 0..2 {
        two.pass_a(probing(1, 60_000));
        two.tap_a.receive_within(WAIT).unwrap();
        two.pass_a(shut(probing(1, 60_000)));
        two.tap_a.receive_within(WAIT).unwrap();
    }
    two.tap_a.send(&first); // a recording by now
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.a.wait_for(|a| a.drops("port_blocked") == 1);
    assert!(!two.a.engine.events().iter().any(|event| matches!(event, Event::Probed { .. })));
}

#[test]
fn a_host_that_comes_over_from_a_member_and_a_rival_that_forwards_hasten_the_next_probe() {
    let two = Two::bridged(probing(1, 60_000), Passage::default());
    two.tap_a.receive_within(WAIT).unwrap();
    two.a.engine.place_macs(VLAN, &[((HOST, None), Some(2))]).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 60));
    assert_eq!(parsed(&two.tap_a.receive_within(WAIT).unwrap()).number, 2);
    let rival = |number| Probe { forwards: true, handle: [9; 8], run: [3; 8], number };
    two.tap_a.send(&rival(1).emit(&vlan_keys().probe_key()));
    assert_eq!(parsed(&two.tap_a.receive_within(WAIT).unwrap()).number, 3);
    let quiet = Probe { forwards: false, ..rival(2) };
    two.tap_a.send(&quiet.emit(&vlan_keys().probe_key()));
    two.tap_a.expect_nothing();
}

/// When a cable joined two LANs, a host's broadcast was carried back to it by the other LAN's member.
#[test]
fn a_host_that_comes_over_is_not_carried_while_another_member_may_forward_for_its_lan() {
    let mut two = Two::bridged(probing(1, 60_000), Passage::default());
    two.tap_a.receive_within(WAIT).unwrap();
    two.a.engine.place_macs(VLAN, &[((HOST, None), Some(2))]).unwrap();
    let rival =
        |number, forwards| Probe { forwards, handle: [9; 8], run: [3; 8], number }.emit(&vlan_keys().probe_key());
    for number in 1..=2 {
        two.tap_a.send(&frame(GROUP, HOST, 60));
        two.tap_a.receive_within(WAIT).unwrap(); // our probe, which it answers
        two.tap_a.send(&rival(number, true));
        std::thread::sleep(COMES_OVER);
        two.tap_a.receive_within(WAIT).unwrap(); // ours again: both forward
    }
    two.tap_b.send(&frame(GROUP, HOST, 60)); // what B carried of it goes back to no LAN that A is on
    two.a.wait_for(|a| a.drops("mac_elsewhere") == 1);
    two.b.engine.forget_local_macs(VLAN, &[(HOST, None)], false).unwrap();
    two.tap_a.send(&rival(3, false));
    two.tap_b.expect_nothing();
    assert_eq!(two.a.drops("mac_moving"), 2);
    assert!(!two.a.engine.events().iter().any(|event| matches!(event, Event::MacSeen { .. })));
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.a.wait(|event| matches!(event, Event::MacSeen { mac: HOST, .. }));
    two.tap_a.send(&frame(GROUP, HOST, 61));
    two.tap_b.expect(&frame(GROUP, HOST, 61));
    assert_eq!(two.a.drops("mac_moving"), 3);
}

#[test]
fn a_host_comes_over_by_one_frame_and_by_none_to_a_port_that_is_blocked_meanwhile() {
    let mut two = Two::bridged(probing(1, 60_000), Passage::default());
    two.a.engine.place_macs(VLAN, &[((HOST, None), Some(2)), ((OTHER, None), Some(2))]).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.a.wait(|event| matches!(event, Event::MacSeen { mac: HOST, .. }));
    two.tap_a.send(&frame(GROUP, OTHER, 60));
    two.a.wait_for(|a| a.drops("mac_moving") == 2);
    two.pass_a(shut(probing(1, 60_000)));
    std::thread::sleep(COMES_OVER);
    assert!(!two.a.engine.events().iter().any(|event| matches!(event, Event::MacSeen { .. })));
    assert_eq!(two.a.engine.snapshot().vlans[0].1.local_macs, []);
}

/// Who replayed one old probe on a LAN kept every host from coming over to it.
#[test]
fn a_recorded_probe_keeps_no_host_from_coming_over() {
    let mut two = Two::bridged(probing(1, 60_000), Passage::default());
    let rival = |number| Probe { forwards: true, handle: [9; 8], run: [3; 8], number }.emit(&vlan_keys().probe_key());
    two.tap_a.send(&rival(7));
    two.a.wait(|event| matches!(event, Event::Probed { .. }));
    two.a.engine.place_macs(VLAN, &[((HOST, None), Some(2))]).unwrap();
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.a.wait_for(|a| a.drops("mac_moving") == 1);
    for number in [7, 6, 1] {
        two.tap_a.send(&rival(number));
    }
    two.a.wait(|event| matches!(event, Event::MacSeen { mac: HOST, .. }));
}

#[test]
fn a_blocked_port_passes_nothing_either_way_and_forgets_its_hosts() {
    let mut two = Two::bridged(Passage::default(), Passage::default());
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.tap_b.expect(&frame(GROUP, HOST, 60));
    two.pass_a(shut(Passage::default()));
    assert_eq!(two.a.engine.snapshot().vlans[0].1.local_macs, []);
    for (dst, src) in [(GROUP, HOST), (mac(2), mac(1)), (mac(2), HOST)] {
        two.tap_a.send(&frame(dst, src, 60));
        two.tap_b.expect_nothing();
    }
    for dst in [GROUP, HOST, mac(1)] {
        two.tap_b.send(&frame(dst, OTHER, 60));
        two.tap_a.expect_nothing();
    }
    assert_eq!(two.a.drops("port_blocked"), 6);
    two.pass_a(Passage::default());
    two.pass_b(Passage::default()); // the harness's keys begin anew: at both ends
    two.tap_a.send(&frame(GROUP, HOST, 60));
    two.tap_b.expect(&frame(GROUP, HOST, 60));
}

#[test]
fn forged_probes_are_ordinary_frames_and_a_flood_of_them_is_not_checked() {
    let two = Two::bridged(probing(1, 60_000), Passage::default());
    two.tap_a.receive_within(WAIT).unwrap();
    let mut forged = Probe { forwards: true, handle: [0; 8], run: [0; 8], number: 1 }.emit(&vlan_keys().probe_key());
    forged[PROBE_BYTES - 1] ^= 1;
    two.tap_a.send(&forged);
    two.tap_b.expect(&forged);
    for _ in 0..500 {
        two.tap_a.send(&forged);
    }
    two.a.wait_for(|a| a.drops("probe_excess") >= 300);
}

#[test]
fn what_bridges_keep_to_themselves_passes_where_both_ends_say_so() {
    let stp = frame([0x01, 0x80, 0xc2, 0, 0, 0], HOST, 60);
    let open = Passage { bpdus: true, ..Passage::default() };
    let mut two = Two::bridged(Passage::default(), Passage::default());
    two.tap_a.send(&stp);
    two.a.wait_for(|a| a.drops("bpdu") == 1);
    two.pass_a(open.clone());
    two.tap_a.send(&stp);
    two.b.wait_for(|b| b.drops("bpdu") == 1);
    two.pass_b(open);
    two.tap_a.send(&stp);
    two.tap_b.expect(&stp);
}

#[test]
fn a_storm_is_policed_at_the_port_that_it_comes_in_and_unicast_passes_beside_it() {
    let mut two = Two::bridged(Passage { limits: Limits([50, 0, 20]), ..Passage::default() }, Passage::default());
    for (dst, reason, allowed) in [(GROUP, "storm_broadcast", 50), (OTHER, "storm_unknown", 20)] {
        for n in 0..400 {
            two.tap_a.send(&frame(dst, HOST, 60 + n % 2));
        }
        two.a.wait_for(|a| a.drops(reason) > 400 - allowed - 100);
        assert!(two.a.drops(reason) <= 400 - allowed);
        let mut came = 0;
        while two.tap_b.receive_within(SILENCE).is_some() {
            came += 1;
        }
        assert_eq!(came + two.a.drops(reason), 400);
        two.tap_a.send(&frame(mac(2), HOST, 99));
        two.tap_b.expect(&frame(mac(2), HOST, 99));
    }
    two.a.wait(|event| *event == Event::Storm { vlan: VLAN, member: None, class: "broadcast" });
    assert!(two.a.engine.snapshot().vlans[0].1.policed > 500);
}

#[test]
fn a_member_that_floods_is_policed_at_each_receiver_and_named() {
    let (free, strict) = (Limits([0; 3]), Limits([50, 50, 50]));
    let with = |limits| Passage { limits, ..Passage::default() };
    let mut two = Two::bridged(with(free), with(strict));
    for n in 0..400 {
        two.tap_a.send(&frame(GROUP, mac(1), 60 + n % 2));
        std::thread::sleep(Duration::from_micros(50));
    }
    two.b.wait_for(|b| b.drops("storm_broadcast") > 200);
    two.b.wait(|event| *event == Event::Storm { vlan: VLAN, member: Some(1), class: "broadcast" });
    let (id, _, _, _, policed) = two.b.engine.snapshot().vlans[0].1.members[0];
    assert!(id == 1 && policed > 200);
    two.tap_a.send(&frame(mac(2), mac(1), 99));
    while two.tap_b.receive_within(WAIT).unwrap().len() != 99 {}
}

#[test]
fn a_question_for_an_address_is_answered_here_once_its_owner_was_heard() {
    let arp = |operation: u8, src: [u8; 6], from: u8, to: u8| {
        let body = [0, 1, 8, 0, 6, 4, 0, operation];
        let ip = |last| [10, 0, 0, last];
        [&GROUP[..], &src, &[8, 6], &body, &src, &ip(from), &[0; 6], &ip(to)].concat()
    };
    let answering = Passage { answers: true, ..Passage::default() };
    let two = Two::bridged(answering, Passage::default());
    let question = arp(1, HOST, 1, 2);
    two.tap_a.send(&question);
    two.tap_b.expect(&question);
    two.tap_b.send(&arp(2, OTHER, 2, 1));
    two.tap_a.expect(&arp(2, OTHER, 2, 1));
    two.tap_a.send(&question);
    two.tap_b.expect(&question); // OTHER is nowhere yet
    two.a.engine.place_macs(VLAN, &[((OTHER, None), Some(2))]).unwrap();
    two.tap_a.send(&question);
    let answer = two.tap_a.receive_within(WAIT).unwrap();
    assert_eq!((&answer[..12], &answer[22..32]), (&[HOST, OTHER].concat()[..], &[6, 0, 0, 0, 0, 2, 10, 0, 0, 2][..]));
    two.tap_b.expect_nothing();
    assert_eq!(two.a.engine.snapshot().vlans[0].1.answered, 1);
}

#[test]
fn member_control_for_all_is_of_a_few_kinds_and_told_apart_from_that_for_one() {
    let mut two = Two::join(Carrier::Udp, false);
    two.a.engine.send_group_control(VLAN, &[16, 1, 2]).unwrap();
    two.b.wait(|event| *event == Event::GroupControl { vlan: VLAN, member: 1, message: vec![16, 1, 2] });
    two.a.engine.send_control(VLAN, 2, &[16, 3], None).unwrap();
    two.b.wait(|event| *event == Event::Control { vlan: VLAN, member: 1, message: vec![16, 3] });
    for kind in [0, 1, 3, 7, 15, 18, 255] {
        two.a.engine.send_group_control(VLAN, &[kind, 1]).unwrap();
    }
    two.b.wait_for(|b| b.drops("malformed") == 7);
    assert!(!two.b.engine.events().iter().any(|event| matches!(event, Event::GroupControl { .. })));
    assert!(two.a.engine.send_group_control(VLAN, &[16; 1007]).is_err());
    two.a.engine.send_group_control(VLAN, &[16; 1006]).unwrap();
    two.b.wait(|event| matches!(event, Event::GroupControl { message, .. } if message.len() == 1006));
}
