//! What a group frame is to a member that prunes: whose it is, and what hosts and routers say about groups (SPEC 13).
//!
//! Only as much is read as decides where a frame goes; control reads the message itself.

use std::collections::HashMap;

use crate::bucket::Bucket;
use crate::claims::icmpv6;
use crate::frame::{HEADER_BYTES, Mac};
use crate::{Nanos, VlanId};

const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const VLAN_TAG: u16 = 0x8100;
const TAG_BYTES: usize = 4;
const IGMP: u8 = 2;
const PIM: u8 = 103;
const PIM_HELLO: u8 = 0; // RFC 7761, 4.9: the low half of the first byte

/// Messages of one VLAN that control is told at once, and a second after that (ours: a host with 64 groups and IGMPv2 says
/// as many at once; a hostile one costs control a hundredth of its time). Long ones count for more.
const MESSAGES_AT_ONCE: u64 = 128;
const MESSAGES_A_SECOND: u64 = 64;
/// So many bytes count for one message more.
const BYTES_A_MESSAGE: usize = 256;
const BURST_NS: Nanos = MESSAGES_AT_ONCE * 1_000_000_000 / MESSAGES_A_SECOND;
/// The longest message that control is told (ours: a report with a thousand groups).
pub const MAX_MESSAGE_BYTES: usize = 9216;

/// What a frame to a group address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// For every member: broadcast, 224.0.0.0/24, ff02::/16, what is not IP, and what is tagged.
    All,
    /// For those who listen to its group.
    Group,
    /// For every member, and control hears it: a query, or a router's hello.
    Router,
    /// A host says which groups it listens to: for control and for members with a router (RFC 4541, 2.1.1).
    Report,
}

/// What a frame is whose destination is a group address.
pub fn classify_untrusted(frame: &[u8]) -> Kind {
    kind_of(frame).unwrap_or(Kind::All)
}

/// None where it is not whole IP, or not for the address that its MAC says.
fn kind_of(frame: &[u8]) -> Option<Kind> {
    let dst: Mac = take(frame, 0)?;
    let mut at = HEADER_BYTES - 2;
    let mut ethertype = u16::from_be_bytes(take(frame, at)?);
    if ethertype == VLAN_TAG {
        let tag = u16::from_be_bytes(take(frame, at + 2)?);
        if tag & 0x0fff != 0 {
            return None;
        }
        at += TAG_BYTES;
        ethertype = u16::from_be_bytes(take(frame, at)?);
    }
    let packet = frame.get(at + 2..)?;
    match ethertype {
        IPV4 => ipv4(packet, dst),
        IPV6 => ipv6(packet, dst),
        _ => None,
    }
}

fn ipv4(packet: &[u8], dst: Mac) -> Option<Kind> {
    let group: [u8; 4] = take(packet, 16)?;
    let said = || {
        let [flags_high, flags_low] = take(packet, 6)?;
        if u16::from_be_bytes([flags_high, flags_low]) & 0x1fff != 0 {
            return None; // a later fragment
        }
        let payload = packet.get(usize::from(packet[0] & 0x0f) * 4..)?;
        match (packet[9], *payload.first()?) {
            (IGMP, 0x11) => Some(Kind::Router),
            (IGMP, 0x12 | 0x16 | 0x17 | 0x22) => Some(Kind::Report),
            (IGMP, 0x30 | 0x32) => Some(Kind::Router), // RFC 4286: a router is there, or goes
            (PIM, first) if first & 0x0f == PIM_HELLO => Some(Kind::Router),
            _ => None,
        }
    };
    if let Some(kind) = said() {
        return Some(kind);
    }
    let [a, b, c, d] = group;
    if !(224..240).contains(&a) || dst != [1, 0, 0x5e, b & 0x7f, c, d] || (a, b, c) == (224, 0, 0) {
        return None;
    }
    Some(Kind::Group)
}

fn ipv6(packet: &[u8], dst: Mac) -> Option<Kind> {
    let group: [u8; 16] = take(packet, 24)?;
    match icmpv6(packet).and_then(|message| message.first()) {
        Some(130 | 151 | 153) => return Some(Kind::Router), // query; RFC 4286: a router is there, or goes
        Some(131 | 132 | 143) => return Some(Kind::Report),
        _ => {}
    }
    if packet[6] == PIM && packet.get(40)? & 0x0f == PIM_HELLO {
        return Some(Kind::Router);
    }
    let [.., e, f, g, h] = group;
    if group[0] != 0xff || dst != [0x33, 0x33, e, f, g, h] || group[1] == 0x02 {
        return None;
    }
    Some(Kind::Group)
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// How many messages control is still told, by VLAN.
#[derive(Default)]
pub struct Budgets(HashMap<VlanId, Bucket>);

impl Budgets {
    /// Whether one more of so many bytes may be told now.
    pub fn take(&mut self, vlan: VlanId, bytes: usize, now: Nanos) -> bool {
        let messages = 1 + (bytes / BYTES_A_MESSAGE) as u64;
        self.0.entry(vlan).or_default().take(messages, MESSAGES_A_SECOND, BURST_NS, now)
    }

    /// Forgets the VLANs that are gone.
    pub fn retain(&mut self, is_vlan: impl Fn(VlanId) -> bool) {
        self.0.retain(|&vlan, _| is_vlan(vlan));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ipv4_frame(dst: Mac, group: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = [dst, [2, 0, 0, 0, 0, 1]].concat();
        frame.extend_from_slice(&[8, 0, 0x45, 0, 0, 0, 0, 0, 0, 0, 1, protocol, 0, 0, 10, 0, 0, 1]);
        frame.extend_from_slice(&group);
        frame.extend_from_slice(payload);
        frame
    }

    fn ipv6_frame(dst: Mac, group: [u8; 16], next: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = [dst, [2, 0, 0, 0, 0, 1]].concat();
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 0, next, 1]);
        frame.extend_from_slice(&[0xfe; 16]);
        frame.extend_from_slice(&group);
        frame.extend_from_slice(payload);
        frame
    }

    fn group6(scope: u8) -> [u8; 16] {
        let mut group = [0; 16];
        (group[0], group[1], group[15]) = (0xff, scope, 9);
        group
    }

    #[test]
    fn a_stream_is_of_its_group_and_link_local_groups_are_for_all() {
        let udp = [0; 8];
        assert_eq!(classify_untrusted(&ipv4_frame([1, 0, 0x5e, 1, 2, 3], [239, 1, 2, 3], 17, &udp)), Kind::Group);
        // 239.129.2.3 has the same MAC as 239.1.2.3; 225.0.0.5 has that of 224.0.0.5 and is still a group
        assert_eq!(classify_untrusted(&ipv4_frame([1, 0, 0x5e, 1, 2, 3], [239, 129, 2, 3], 17, &udp)), Kind::Group);
        assert_eq!(classify_untrusted(&ipv4_frame([1, 0, 0x5e, 0, 0, 5], [225, 0, 0, 5], 17, &udp)), Kind::Group);
        assert_eq!(classify_untrusted(&ipv4_frame([1, 0, 0x5e, 0, 0, 5], [224, 0, 0, 5], 17, &udp)), Kind::All);
        let mac = [0x33, 0x33, 0, 0, 0, 9];
        assert_eq!(classify_untrusted(&ipv6_frame(mac, group6(0x05), 17, &udp)), Kind::Group);
        assert_eq!(classify_untrusted(&ipv6_frame(mac, group6(0x02), 17, &udp)), Kind::All);
    }

    #[test]
    fn what_is_not_ip_or_not_for_its_mac_is_for_all() {
        let group = [239, 1, 2, 3];
        assert_eq!(classify_untrusted(&[0xff; 60]), Kind::All);
        assert_eq!(classify_untrusted(&[1, 0, 0x5e, 1, 2, 3, 2, 0, 0, 0, 0, 1, 0x88, 0xb5, 0, 0]), Kind::All);
        assert_eq!(classify_untrusted(&ipv4_frame([3, 0, 0x5e, 1, 2, 3], group, 17, &[0; 8])), Kind::All);
        assert_eq!(classify_untrusted(&ipv4_frame([1, 0, 0x5e, 1, 2, 3], [10, 1, 2, 3], 17, &[0; 8])), Kind::All);
        let mut tagged = ipv4_frame([1, 0, 0x5e, 1, 2, 3], group, 17, &[0; 8]);
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(classify_untrusted(&tagged), Kind::All);
        tagged[15] = 0; // a priority tag counts as none
        assert_eq!(classify_untrusted(&tagged), Kind::Group);
    }

    #[test]
    fn reports_queries_and_hellos_are_told_apart() {
        let mac = [1, 0, 0x5e, 0, 0, 22];
        for (kind, wanted) in [(0x11, Kind::Router), (0x12, Kind::Report), (0x16, Kind::Report), (0x17, Kind::Report)] {
            assert_eq!(classify_untrusted(&ipv4_frame(mac, [224, 0, 0, 22], IGMP, &[kind; 8])), wanted);
        }
        assert_eq!(classify_untrusted(&ipv4_frame(mac, [224, 0, 0, 22], IGMP, &[0x22; 8])), Kind::Report);
        assert_eq!(classify_untrusted(&ipv4_frame(mac, [224, 0, 0, 13], PIM, &[0x20, 0])), Kind::Router);
        assert_eq!(classify_untrusted(&ipv4_frame(mac, [224, 0, 0, 13], PIM, &[0x23, 0])), Kind::All);
        let mac = [0x33, 0x33, 0, 0, 0, 9];
        for (kind, wanted) in [(130, Kind::Router), (131, Kind::Report), (132, Kind::Report), (143, Kind::Report)] {
            let message = [58, 0, 5, 2, 0, 0, 1, 0, kind, 0, 0, 0]; // behind a router alert
            assert_eq!(classify_untrusted(&ipv6_frame(mac, group6(0x02), 0, &message)), wanted);
        }
        assert_eq!(classify_untrusted(&ipv6_frame(mac, group6(0x02), PIM, &[0x20, 0])), Kind::Router);
    }

    #[test]
    fn nonsense_is_for_all_or_something_and_never_ends_the_loop() {
        let frames = [
            ipv4_frame([1, 0, 0x5e, 0, 0, 22], [224, 0, 0, 22], IGMP, &[0x22; 16]),
            ipv6_frame([0x33, 0x33, 0, 0, 0, 9], group6(2), 0, &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0]),
        ];
        for frame in frames {
            for end in 0..frame.len() {
                let _ = classify_untrusted(&frame[..end]);
            }
            for at in 0..frame.len() {
                for bit in 0..8 {
                    let mut changed = frame.clone();
                    changed[at] ^= 1 << bit;
                    let _ = classify_untrusted(&changed);
                }
            }
        }
    }

    #[test]
    fn control_is_told_so_many_messages_at_once_and_a_second() {
        let mut budgets = Budgets::default();
        let told = (0..1000).filter(|_| budgets.take(1, 60, 0)).count();
        assert_eq!(told, MESSAGES_AT_ONCE as usize);
        assert!(budgets.take(2, 60, 0), "each VLAN has its own");
        let told = (0..1000).filter(|_| budgets.take(1, 60, 1_000_000_000)).count();
        assert_eq!(told, MESSAGES_A_SECOND as usize);
        let told = (0..1000).filter(|_| budgets.take(3, MAX_MESSAGE_BYTES, 0)).count();
        assert_eq!(told, 3, "a long one costs as much as many short ones");
        budgets.retain(|vlan| vlan == 2);
        assert_eq!(budgets.0.len(), 1);
    }
}
