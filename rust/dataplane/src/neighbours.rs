//! Answers to ARP (RFC 826) and neighbour solicitations (RFC 4861) in place of those who are asked (SPEC 14.5; as RFC 9161).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::claims::{ARP, ICMPV6, IPV6, payload_untrusted, take};
use crate::frame::{Mac, is_group};
use crate::offload::checksum;

/// Addresses of a VLAN that are remembered (ours).
pub const MAX_NEIGHBOURS: usize = 4096;
/// An address is answered for so long after its owner was heard; then a question passes, and its answer renews it (ours).
pub const ANSWER_S: u32 = 60;

const SOLICITATION: u8 = 135; // RFC 4861, 4.3
const ADVERTISEMENT: u8 = 136;
const ROUTER_ADVERTISEMENT: u8 = 134;
const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
const ROUTER: u8 = 0x80; // RFC 4861, 4.4
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEIGHBOUR_HOPS: u8 = 255; // RFC 4861, 7.1: others are not believed
const IPV6_BYTES: usize = 40;

/// An address within its 802.1Q VLAN.
type Name = (Option<u16>, IpAddr);

#[derive(Clone, Copy)]
struct Neighbour {
    mac: Mac,
    is_router: bool,
    heard_at_s: u32,
}

/// Who has which IP address, as members' own frames say. Both loops use it, for ARP and neighbour discovery alone.
#[derive(Default)]
pub struct Neighbours(Mutex<Known>);

#[derive(Default)]
struct Known {
    by_name: HashMap<Name, Neighbour>,
    /// A full table is looked through for old ones once a second, not for each frame that brings another address.
    swept_at_s: Option<u32>,
}

/// What a frame says of its sender, or asks.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    /// This address is its sender's.
    Has(IpAddr, bool),
    /// Who has this address?
    Asks(IpAddr),
}

impl Neighbours {
    /// Notes what a frame of a member says of its sender.
    pub fn hear_untrusted(&self, frame: &[u8], vid: Option<u16>, now_s: u32) {
        let Some((mac, address, is_router)) = owner(frame) else { return };
        let mut known = self.known();
        let is_known = known.by_name.contains_key(&(vid, address));
        if !is_known && known.by_name.len() >= MAX_NEIGHBOURS && known.swept_at_s != Some(now_s) {
            known.swept_at_s = Some(now_s);
            known.by_name.retain(|_, one| now_s.saturating_sub(one.heard_at_s) < ANSWER_S);
        }
        if is_known || known.by_name.len() < MAX_NEIGHBOURS {
            known.by_name.insert((vid, address), Neighbour { mac, is_router, heard_at_s: now_s });
        }
    }

    /// A frame of a host of ours: what it has, nobody else answers for.
    pub fn hear_local_untrusted(&self, frame: &[u8], vid: Option<u16>) {
        if let Some((mac, address, _)) = owner(frame) {
            let mut known = self.known();
            if known.by_name.get(&(vid, address)).is_some_and(|one| one.mac != mac) {
                known.by_name.remove(&(vid, address));
            }
        }
    }

    /// The answer to a question for all, where it is known and the MAC is still somebody's.
    pub fn answer_untrusted(
        &self,
        frame: &[u8],
        vid: Option<u16>,
        now_s: u32,
        is_placed: impl Fn(&Mac) -> bool,
    ) -> Option<Vec<u8>> {
        if !is_group(&take(frame, 0)?) {
            return None; // to somebody who is to answer itself
        }
        let (kind, at) = payload_untrusted(frame)?;
        let address = match said(kind, frame.get(at..)?)? {
            (_, Said::Asks(address)) => address,
            _ => return None,
        };
        let one = *self.known().by_name.get(&(vid, address))?;
        if now_s.saturating_sub(one.heard_at_s) >= ANSWER_S || !is_placed(&one.mac) {
            return None;
        }
        match address {
            IpAddr::V4(address) => arp_reply(frame, at, one.mac, address),
            IpAddr::V6(address) => advertisement(frame, at, &one, address),
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// MAC, address and whether it is a router's, where a frame's sender speaks for its own MAC.
fn owner(frame: &[u8]) -> Option<(Mac, IpAddr, bool)> {
    let (kind, at) = payload_untrusted(frame)?;
    let (mac, said) = said(kind, frame.get(at..)?)?;
    match said {
        Said::Has(address, is_router) if mac.is_none_or(|mac| Some(mac) == take(frame, 6)) => {
            Some((take(frame, 6)?, address, is_router))
        }
        // An ARP question names its sender too.
        Said::Asks(IpAddr::V4(_)) if mac == take(frame, 6) => {
            let sender = Ipv4Addr::from(take::<4>(frame, at + 14)?);
            (!sender.is_unspecified()).then_some((mac?, IpAddr::V4(sender), false))
        }
        _ => None,
    }
}

/// The MAC that a message names as its sender's, and what it says.
fn said(kind: u16, payload: &[u8]) -> Option<(Option<Mac>, Said)> {
    match kind {
        ARP => {
            if take(payload, 0)? != [0, 1, 8, 0, 6, 4] {
                return None;
            }
            let (sender, target) = (Ipv4Addr::from(take::<4>(payload, 14)?), Ipv4Addr::from(take::<4>(payload, 24)?));
            let said = match take(payload, 6)? {
                [0, 1] if sender != target => Said::Asks(IpAddr::V4(target)),
                [0, 1 | 2] if !sender.is_unspecified() => Said::Has(IpAddr::V4(sender), false),
                _ => return None,
            };
            Some((Some(take(payload, 8)?), said))
        }
        IPV6 if payload.get(6) == Some(&ICMPV6) && payload.get(7) == Some(&NEIGHBOUR_HOPS) => {
            let message = payload.get(IPV6_BYTES..)?;
            let source = IpAddr::V6(Ipv6Addr::from(take::<16>(payload, 8)?));
            let target = |message| Some(IpAddr::V6(Ipv6Addr::from(take::<16>(message, 8)?)));
            Some(match *message.first()? {
                SOLICITATION => (option(message, 24, SOURCE_LINK_ADDRESS), Said::Asks(target(message)?)),
                ADVERTISEMENT => {
                    let is_router = message.get(4)? & ROUTER != 0;
                    (option(message, 24, TARGET_LINK_ADDRESS), Said::Has(target(message)?, is_router))
                }
                ROUTER_ADVERTISEMENT => (option(message, 16, SOURCE_LINK_ADDRESS), Said::Has(source, true)),
                _ => return None,
            })
        }
        _ => None,
    }
}

/// The MAC in the first option of this kind, if that stands first, where hosts put it.
fn option(message: &[u8], at: usize, kind: u8) -> Option<Mac> {
    if take(message, at)? == [kind, 1] { take(message, at + 2) } else { None }
}

/// The frame's own Ethernet header with its tags, turned round.
fn turned(frame: &[u8], payload_at: usize, src: Mac, dst: Mac) -> Vec<u8> {
    let mut answer = frame[..payload_at].to_vec();
    answer[..6].copy_from_slice(&dst);
    answer[6..12].copy_from_slice(&src);
    answer
}

fn arp_reply(frame: &[u8], at: usize, mac: Mac, address: Ipv4Addr) -> Option<Vec<u8>> {
    let asker = take(frame, 6)?;
    let mut answer = turned(frame, at, mac, asker);
    answer.extend([0, 1, 8, 0, 6, 4, 0, 2]);
    answer.extend(mac);
    answer.extend(address.octets());
    answer.extend(take::<10>(frame, at + 8)?); // who asked: MAC and address
    Some(answer)
}

/// A duplicate address detection (no source) is answered to all (RFC 4861, 7.2.4).
fn advertisement(frame: &[u8], at: usize, one: &Neighbour, target: Ipv6Addr) -> Option<Vec<u8>> {
    let source = Ipv6Addr::from(take::<16>(frame, at + 8)?);
    let is_probe = source.is_unspecified();
    let to = if is_probe { ALL_NODES } else { source };
    let dst = if is_probe { [0x33, 0x33, 0, 0, 0, 1] } else { take(frame, 6)? };
    let mut answer = turned(frame, at, one.mac, dst);
    answer.extend([0x60, 0, 0, 0, 0, 32, ICMPV6, NEIGHBOUR_HOPS]);
    answer.extend(target.octets());
    answer.extend(to.octets());
    let router = if one.is_router { ROUTER } else { 0 };
    let solicited = if is_probe { 0 } else { SOLICITED };
    answer.extend([ADVERTISEMENT, 0, 0, 0, router | solicited | OVERRIDE, 0, 0, 0]);
    answer.extend(target.octets());
    answer.extend([TARGET_LINK_ADDRESS, 1]);
    answer.extend(one.mac);
    let (addresses, message) = (&answer[at + 8..at + IPV6_BYTES], &answer[at + IPV6_BYTES..]);
    let sum = checksum::sum(addresses) + checksum::sum(message) + 32 + u64::from(ICMPV6);
    let sum = !checksum::fold(sum);
    answer[at + IPV6_BYTES + 2..at + IPV6_BYTES + 4].copy_from_slice(&sum.to_be_bytes());
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASKER: Mac = [2, 0, 0, 0, 0, 1];
    const OWNER: Mac = [6, 0, 0, 0, 0, 2];
    const TAG: [u8; 4] = [0x81, 0, 0, 5];

    fn arp(operation: u8, src: Mac, from: [u8; 4], to: [u8; 4], tag: &[u8]) -> Vec<u8> {
        let head = [&[0xff; 6][..], &src, tag, &[8, 6, 0, 1, 8, 0, 6, 4, 0, operation], &src, &from, &[0; 6], &to];
        head.concat()
    }

    fn discovery(kind: u8, flags: u8, src: Mac, from: Ipv6Addr, target: Ipv6Addr, option: u8) -> Vec<u8> {
        let ip = [&[0x60, 0, 0, 0, 0, 32, 58, 255][..], &from.octets(), &ALL_NODES.octets()].concat();
        let message = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets(), &[option, 1], &src].concat();
        [&[0x33, 0x33, 0xff, 0, 0, 2][..], &src, &[0x86, 0xdd], &ip, &message].concat()
    }

    fn all(_: &Mac) -> bool {
        true
    }

    #[test]
    fn an_arp_question_is_answered_with_what_the_owner_said_itself() {
        let known = Neighbours::default();
        let question = arp(1, ASKER, [10, 0, 0, 1], [10, 0, 0, 2], &TAG);
        assert_eq!(known.answer_untrusted(&question, Some(5), 0, all), None);
        known.hear_untrusted(&arp(2, OWNER, [10, 0, 0, 2], [10, 0, 0, 9], &TAG), Some(5), 0);
        let answer = known.answer_untrusted(&question, Some(5), 59, all).unwrap();
        let wanted = [&ASKER[..], &OWNER, &TAG, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 2], &OWNER, &[10, 0, 0, 2], &ASKER];
        assert_eq!(answer, [&wanted.concat()[..], &[10, 0, 0, 1]].concat());
        assert_eq!(known.answer_untrusted(&question, None, 59, all), None, "another VLAN");
        assert_eq!(known.answer_untrusted(&question, Some(5), 60, all), None, "too old: the owner is asked itself");
        assert_eq!(known.answer_untrusted(&question, Some(5), 1, |_| false), None, "the MAC is nowhere");
        let mut direct = question.clone();
        direct[..6].copy_from_slice(&OWNER);
        assert_eq!(known.answer_untrusted(&direct, Some(5), 1, all), None);
    }

    #[test]
    fn announcements_are_no_questions_and_a_local_host_takes_an_address_over() {
        let known = Neighbours::default();
        known.hear_untrusted(&arp(1, OWNER, [10, 0, 0, 2], [10, 0, 0, 7], &[]), None, 0);
        assert_eq!(known.answer_untrusted(&arp(1, ASKER, [10, 0, 0, 2], [10, 0, 0, 2], &[]), None, 0, all), None);
        let probe = arp(1, ASKER, [0; 4], [10, 0, 0, 2], &[]);
        assert!(known.answer_untrusted(&probe, None, 0, all).is_some(), "a duplicate is told so (RFC 5227)");
        known.hear_local_untrusted(&arp(1, ASKER, [10, 0, 0, 2], [10, 0, 0, 2], &[]), None);
        assert_eq!(known.answer_untrusted(&probe, None, 0, all), None);
    }

    #[test]
    fn a_neighbour_solicitation_is_answered_with_a_right_checksum() {
        let (known, target) = (Neighbours::default(), "fd00::2".parse().unwrap());
        known.hear_untrusted(&discovery(136, 0x80, OWNER, target, target, 2), None, 0);
        let asker = "fd00::1".parse().unwrap();
        let question = discovery(135, 0, ASKER, asker, target, 1);
        let answer = known.answer_untrusted(&question, None, 0, all).unwrap();
        assert_eq!((&answer[..6], &answer[6..12], answer.len()), (&ASKER[..], &OWNER[..], 86));
        assert_eq!((&answer[22..38], &answer[38..54]), (&target.octets()[..], &asker.octets()[..]));
        assert_eq!((answer[54], answer[58], &answer[80..]), (136, 0xe0, &OWNER[..]));
        let sum = checksum::sum(&answer[22..54]) + checksum::sum(&answer[54..]) + 32 + 58;
        assert_eq!(checksum::fold(sum), 0xffff);
        let detection = discovery(135, 0, ASKER, Ipv6Addr::UNSPECIFIED, target, 14);
        let answer = known.answer_untrusted(&detection, None, 0, all).unwrap();
        assert_eq!((&answer[..6], answer[58]), (&[0x33, 0x33, 0, 0, 0, 1][..], 0xa0));
    }

    #[test]
    fn who_speaks_for_anothers_mac_or_from_afar_is_not_believed() {
        let known = Neighbours::default();
        let mut proxy = arp(2, OWNER, [10, 0, 0, 2], [10, 0, 0, 9], &[]);
        proxy[22..28].copy_from_slice(&ASKER);
        known.hear_untrusted(&proxy, None, 0);
        let target = "fd00::2".parse().unwrap();
        let mut far = discovery(136, 0, OWNER, target, target, 2);
        far[21] = 254;
        known.hear_untrusted(&far, None, 0);
        assert!(known.known().by_name.is_empty());
    }

    #[test]
    fn any_bytes_are_heard_and_asked_without_harm_and_the_table_is_bounded() {
        let known = Neighbours::default();
        for question in
            [arp(1, ASKER, [10, 0, 0, 1], [10, 0, 0, 2], &TAG), discovery(135, 0, ASKER, ALL_NODES, ALL_NODES, 1)]
        {
            for length in 0..question.len() {
                known.hear_untrusted(&question[..length], None, 0);
                known.hear_local_untrusted(&question[..length], None);
                assert_eq!(known.answer_untrusted(&question[..length], None, 0, all), None);
            }
        }
        for n in 0..10_000u32 {
            known.hear_untrusted(&arp(2, OWNER, n.to_be_bytes(), [1; 4], &[]), None, 0);
        }
        assert_eq!(known.known().by_name.len(), MAX_NEIGHBOURS);
        known.hear_untrusted(&arp(2, OWNER, [1, 1, 1, 1], [1; 4], &[]), None, ANSWER_S);
        assert_eq!(known.known().by_name.len(), 1);
    }
}
