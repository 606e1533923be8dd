//! Multicast between whole engines: a group's frames go where listeners are, reports where routers are (SPEC 13).
#![allow(missing_docs)]

mod harness;

use std::sync::Arc;

use harness::*;
use peertap_dataplane::events::Event;
use peertap_dataplane::tables::{Carrier, Hop, Listening};
use peertap_dataplane::vlan_keys::KIND_GROUP;

const MAC: [u8; 6] = [1, 0, 0x5e, 1, 2, 3];

fn ipv4(dst: [u8; 6], src: [u8; 6], to: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = [&dst[..], &src, &[8, 0, 0x45, 0, 0, 28, 0, 0, 0x40, 0, 1, protocol, 0, 0, 10, 0, 0, 1]].concat();
    frame.extend_from_slice(&to);
    frame.extend_from_slice(payload);
    frame
}

fn stream(src: u8, to: [u8; 4]) -> Vec<u8> {
    ipv4([1, 0, 0x5e, to[1] & 0x7f, to[2], to[3]], mac(src), to, 17, &[7; 40])
}

fn report(src: u8) -> Vec<u8> {
    ipv4(MAC, mac(src), [239, 1, 2, 3], 2, &[0x16, 0, 0, 0, 239, 1, 2, 3])
}

fn query(src: u8) -> Vec<u8> {
    ipv4([1, 0, 0x5e, 0, 0, 1], mac(src), [224, 0, 0, 1], 2, &[0x11, 100, 0, 0, 0, 0, 0, 0])
}

/// Two nodes; A knows of listeners at B as is said, and B has a router or not.
fn two(groups: &[[u8; 6]], rest: Vec<Hop>, has_router: bool) -> Two {
    let mut two = Two::join(Carrier::Udp, false);
    let tokens = groups.iter().map(|group| (vlan_keys().token(KIND_GROUP, group), vec![(2, GROUP_LABEL)]));
    let listening = Listening { keys: Some(Arc::new(vlan_keys())), groups: tokens.collect(), rest, has_router: false };
    let (members, edges) = (vec![member(1, 2, 2, 1432)], vec![(2, GROUP_LABEL)]);
    let vlan = vlan_listening(1, signer(1), vec![two.port_a], false, members, edges, listening);
    let labels = vec![label(2, 1, true, &[]), group_label(2, true, &[])];
    let remote = two.b.engine.udp_port();
    two.a.apply(vec![trunk(1, 2, Carrier::Udp, Some(remote), 1432)], vec![vlan], labels);
    let listening = Listening { has_router, ..Listening::default() };
    let (members, edges) = (vec![member(2, 1, 1, 1432)], vec![(1, GROUP_LABEL)]);
    let vlan = vlan_listening(2, signer(2), vec![two.port_b], false, members, edges, listening);
    let labels = vec![label(1, 2, true, &[]), group_label(1, true, &[])];
    let remote = two.a.engine.udp_port();
    two.b.apply(vec![trunk(2, 1, Carrier::Udp, Some(remote), 1432)], vec![vlan], labels);
    two
}

#[test]
fn a_groups_frames_leave_where_somebody_listens_and_not_otherwise() {
    let two = two(&[MAC], vec![], false);
    let wanted = stream(1, [239, 1, 2, 3]);
    two.tap_a.send(&wanted);
    two.tap_b.expect(&wanted);
    two.tap_a.send(&stream(1, [239, 1, 2, 4]));
    two.a.wait_for(|a| a.drops("no_listener") == 1);
    let for_all = stream(1, [224, 0, 0, 251]);
    two.tap_a.send(&for_all);
    two.tap_b.expect(&for_all);
    assert_eq!(two.b.all_drops(), 0);
}

#[test]
fn a_member_that_wants_every_group_gets_those_that_nobody_named() {
    let two = two(&[], vec![(2, GROUP_LABEL)], false);
    for last in 0..20 {
        let wanted = stream(1, [239, 7, 7, last]);
        two.tap_a.send(&wanted);
        two.tap_b.expect(&wanted);
    }
}

#[test]
fn a_report_from_a_port_is_told_to_control_and_goes_no_further() {
    let mut two = two(&[MAC], vec![(2, GROUP_LABEL)], true);
    two.tap_a.send(&report(1));
    let told = two.a.wait(|event| matches!(event, Event::Multicast { .. }));
    assert_eq!(told, Event::Multicast { vlan: VLAN, member: None, frame: report(1) });
    two.tap_b.expect_nothing();
}

#[test]
fn a_query_reaches_other_members_their_control_and_their_ports() {
    let mut two = two(&[], vec![], false);
    two.tap_a.send(&query(1));
    two.tap_b.expect(&query(1));
    let told = two.b.wait(|event| matches!(event, Event::Multicast { .. }));
    assert_eq!(told, Event::Multicast { vlan: VLAN, member: Some(1), frame: query(1) });
    two.a.wait(|event| matches!(event, Event::Multicast { member: None, .. }));
}

#[test]
fn a_report_of_a_member_reaches_a_router_and_no_other_host() {
    for has_router in [true, false] {
        let two = two(&[], vec![(2, GROUP_LABEL)], has_router);
        two.a.engine.send_frame(VLAN, report(1)).unwrap();
        if has_router {
            two.tap_b.expect(&report(1));
        } else {
            two.b.wait_for(|b| b.drops("no_listener") == 1);
            two.tap_b.expect_nothing();
        }
    }
    let two = two(&[MAC], vec![], true);
    two.a.engine.send_frame(VLAN, report(1)).unwrap();
    assert_eq!(two.a.drops("no_listener"), 1, "no member wants every group");
}

#[test]
fn controls_own_queries_go_to_the_ports_alone() {
    let two = two(&[MAC], vec![(2, GROUP_LABEL)], true);
    two.a.engine.write_frame(VLAN, &query(9)).unwrap();
    two.tap_a.expect(&query(9));
    two.tap_b.expect_nothing();
    assert!(two.a.engine.write_frame(VLAN, &[0; 13]).is_err());
}

#[test]
fn a_host_that_floods_reports_is_told_of_at_a_bounded_rate() {
    let two = two(&[], vec![], false);
    for _ in 0..2000 {
        two.tap_a.send(&report(1));
    }
    two.a.wait_for(|a| a.engine.snapshot().ports[0].1.read == 2000);
    let told = two.a.engine.events().iter().filter(|event| matches!(event, Event::Multicast { .. })).count();
    assert!((128..=300).contains(&told), "{told}");
    assert_eq!(two.a.drops("multicast_limited") + two.a.drops("backlog_full") + told as u64, 2000);
}
