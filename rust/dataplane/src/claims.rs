//! Who says that an IP address is its own: ARP (RFC 826) and neighbour discovery (RFC 4861), and whether it may (SPEC 5.5).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MemberId;
use crate::frame::{HEADER_BYTES, Mac};

pub(crate) const ARP: u16 = 0x0806;
pub(crate) const IPV6: u16 = 0x86dd;
const TAGS: [u16; 2] = [0x8100, 0x88a8];
pub(crate) const ICMPV6: u8 = 58;
/// Extension headers that are walked (ours: of three kinds, each occurs once or twice).
const MAX_EXTENSIONS: usize = 8;
const SOURCE_LINK_ADDRESS: u8 = 1; // RFC 4861, 4.6.1
const TARGET_LINK_ADDRESS: u8 = 2;

/// Addresses of a VLAN that are watched (ours).
pub const MAX_ADDRESSES: usize = 4096;
/// Of one member, so that one who invents addresses leaves room for others (ours).
pub const MAX_ADDRESSES_EACH: usize = 64;
/// A claim is good for so long after it was made last (ours: hosts repeat it well within, while somebody speaks to them).
pub const CLAIM_S: u32 = 30;
/// Who said nothing at all for so long loses its addresses to whoever takes them over, as a router's backup does (ours).
pub const SILENCE_S: u32 = 3;

/// Addresses of a VLAN that virtual routers have (ours).
pub const MAX_SHARED: usize = 256;
/// Members that are routers for one of them (ours).
pub const MAX_ROUTERS: usize = 8;

/// What a frame says about its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The MAC that it names as the address's.
    pub mac: Mac,
    /// The address; None where it only asks who has one.
    pub address: Option<IpAddr>,
}

/// The claim in a frame; None where there is none, or nothing that a host would take for one.
pub fn claim_untrusted(frame: &[u8]) -> Option<Claim> {
    let (kind, at) = payload_untrusted(frame)?;
    let payload = frame.get(at..)?;
    match kind {
        ARP => arp(payload),
        IPV6 => neighbour(payload, take(frame, 6)?),
        _ => None,
    }
}

/// The EtherType behind at most two tags, and where what it names begins.
pub(crate) fn payload_untrusted(frame: &[u8]) -> Option<(u16, usize)> {
    let mut at = HEADER_BYTES - 2;
    let mut kind = u16::from_be_bytes(take(frame, at)?);
    for _ in 0..2 {
        if TAGS.contains(&kind) {
            at += 4;
            kind = u16::from_be_bytes(take(frame, at)?);
        }
    }
    Some((kind, at + 2))
}

/// Hardware type Ethernet (1) or IEEE 802 (6), which hosts take alike, protocol IPv4, sizes 6 and 4, operation; then the
/// sender's MAC and address.
fn arp(payload: &[u8]) -> Option<Claim> {
    if !matches!(take(payload, 0)?, [0, 1 | 6, 8, 0, 6, 4]) {
        return None;
    }
    let address = Ipv4Addr::from(take::<4>(payload, 14)?);
    Some(Claim { mac: take(payload, 8)?, address: (!address.is_unspecified()).then_some(IpAddr::V4(address)) })
}

/// Solicitations (133, 135) and a router's advertisement (134) speak for their source, an advertisement (136) for its target.
fn neighbour(payload: &[u8], src: Mac) -> Option<Claim> {
    let message = icmpv6(payload)?;
    let source = Ipv6Addr::from(take::<16>(payload, 8)?);
    let (address, options_at, option) = match message.first()? {
        133 => (source, 8, SOURCE_LINK_ADDRESS),
        134 => (source, 16, SOURCE_LINK_ADDRESS),
        135 => (source, 24, SOURCE_LINK_ADDRESS),
        136 => (Ipv6Addr::from(take::<16>(message, 8)?), 24, TARGET_LINK_ADDRESS),
        _ => return None,
    };
    let mac = link_address(message.get(options_at..)?, option).unwrap_or(src);
    Some(Claim { mac, address: (!address.is_unspecified()).then_some(IpAddr::V6(address)) })
}

/// What stands behind the IPv6 header and those extension headers that hosts take before neighbour discovery; fragments of
/// it they drop (RFC 6980).
pub fn icmpv6(payload: &[u8]) -> Option<&[u8]> {
    let (mut kind, mut at) = (*payload.get(6)?, 40);
    for _ in 0..MAX_EXTENSIONS {
        match kind {
            ICMPV6 => return payload.get(at..),
            0 | 43 | 60 => {
                let [next, units] = take(payload, at)?;
                (kind, at) = (next, at + (usize::from(units) + 1) * 8);
            }
            _ => return None,
        }
    }
    None
}

/// The first option of this kind (type 1, length in units of 8 bytes).
fn link_address(mut options: &[u8], wanted: u8) -> Option<Mac> {
    while let [kind, units, ..] = *options {
        if kind == wanted {
            return take(options, 2);
        }
        options = options.get(usize::from(units.max(1)) * 8..)?;
    }
    None
}

pub(crate) fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at.checked_add(N)?)?.try_into().ok()
}

/// An address in the 802.1Q network that it is of.
type Name = (Option<u16>, IpAddr);

struct Holder {
    member: MemberId,
    claimed_at_s: u32,
    /// Who had it before it went silent: it may have it back.
    former: Option<MemberId>,
}

/// The addresses of one VLAN, each with the member that claims it.
#[derive(Default)]
pub struct Claims {
    holders: HashMap<Name, Holder>,
    counts: HashMap<MemberId, usize>,
    /// Who said by VRRP, and when, that an address is its virtual router's.
    shared: HashMap<Name, Vec<(MemberId, u32)>>,
}

impl Claims {
    /// Whether a member may claim an address. `heard_at_s` says when another one was heard last.
    pub fn allows(
        &mut self,
        member: MemberId,
        vid: Option<u16>,
        address: IpAddr,
        now_s: u32,
        heard_at_s: impl Fn(MemberId) -> Option<u32>,
    ) -> bool {
        let name = (vid, address);
        let mut former = None;
        if let Some(holder) = self.holders.get_mut(&name) {
            let is_stale = now_s.saturating_sub(holder.claimed_at_s) > CLAIM_S;
            let is_silent = heard_at_s(holder.member).is_none_or(|at| now_s.saturating_sub(at) > SILENCE_S);
            if holder.member == member {
                holder.claimed_at_s = now_s;
                return true;
            }
            let routers = self.shared.get(&name);
            let says_so = |one| routers.is_some_and(|all| all.iter().any(|&(of, at)| of == one && is_fresh(at, now_s)));
            let is_shared = says_so(holder.member) && says_so(member);
            if !is_stale && !is_silent && !is_shared && holder.former != Some(member) {
                return false;
            }
            if !is_stale && holder.former != Some(member) {
                former = Some(holder.member);
            }
            self.release(&name);
        }
        let is_full = self.counts.get(&member).is_some_and(|&count| count >= MAX_ADDRESSES_EACH);
        if is_full || self.holders.len() >= MAX_ADDRESSES {
            self.forget_stale(now_s);
        }
        let count = self.counts.entry(member).or_default();
        if *count < MAX_ADDRESSES_EACH && self.holders.len() < MAX_ADDRESSES {
            *count += 1;
            self.holders.insert(name, Holder { member, claimed_at_s: now_s, former });
        }
        true
    }

    /// A member says by VRRP that its virtual router has an address: it goes between those that say so, as they agree.
    pub fn announced(&mut self, member: MemberId, vid: Option<u16>, address: IpAddr, now_s: u32) {
        let name = (vid, address);
        if !self.shared.contains_key(&name) && self.shared.len() >= MAX_SHARED {
            self.shared.retain(|_, routers| routers.iter().any(|&(_, at)| is_fresh(at, now_s)));
            if self.shared.len() >= MAX_SHARED {
                return;
            }
        }
        let routers = self.shared.entry(name).or_default();
        routers.retain(|&(one, at)| one != member && is_fresh(at, now_s));
        if routers.len() < MAX_ROUTERS {
            routers.push((member, now_s));
        }
    }

    fn release(&mut self, name: &Name) {
        if let Some(holder) = self.holders.remove(name)
            && let Some(count) = self.counts.get_mut(&holder.member)
        {
            *count -= 1;
        }
    }

    fn forget_stale(&mut self, now_s: u32) {
        let is_stale = |holder: &Holder| now_s.saturating_sub(holder.claimed_at_s) > CLAIM_S;
        let stale: Vec<_> = self.holders.iter().filter(|(_, one)| is_stale(one)).map(|(name, _)| *name).collect();
        for name in stale {
            self.release(&name);
        }
    }
}

fn is_fresh(said_at_s: u32, now_s: u32) -> bool {
    now_s.saturating_sub(said_at_s) <= CLAIM_S
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = [2, 0, 0, 0, 0, 1];
    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

    fn arp_frame(tags: &[u8], sha: Mac, spa: [u8; 4]) -> Vec<u8> {
        let mut frame = [[0xff; 6], ME].concat();
        frame.extend_from_slice(tags);
        frame.extend_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
        frame.extend_from_slice(&sha);
        frame.extend_from_slice(&spa);
        frame.extend_from_slice(&[0; 10]);
        frame
    }

    #[test]
    fn an_arp_frame_claims_its_senders_address_behind_any_tags() {
        for tags in [&[][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            let claim = claim_untrusted(&arp_frame(tags, [9; 6], [10, 0, 0, 7]));
            assert_eq!(claim, Some(Claim { mac: [9; 6], address: Some(HOST) }));
        }
        assert_eq!(claim_untrusted(&arp_frame(&[], ME, [0; 4])), Some(Claim { mac: ME, address: None }));
    }

    fn neighbour_frame(kind: u8, option: u8, mac: Mac) -> Vec<u8> {
        let mut frame = [[0x33; 6], ME].concat();
        frame.extend_from_slice(&[0x86, 0xdd, 0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
        frame.extend_from_slice(&[0xfe; 16]); // source
        frame.extend_from_slice(&[0xff; 16]);
        frame.extend_from_slice(&[kind, 0, 0, 0, 0, 0, 0, 0]);
        frame.extend_from_slice(&[0xfd; 16]); // target
        frame.extend_from_slice(&[14, 1, 0, 0, 0, 0, 0, 0, option, 1]); // a nonce option first (RFC 3971)
        frame.extend_from_slice(&mac);
        frame
    }

    #[test]
    fn an_advertisement_claims_its_target_and_a_solicitation_its_source() {
        let target = claim_untrusted(&neighbour_frame(136, TARGET_LINK_ADDRESS, [9; 6])).unwrap();
        assert_eq!(target, Claim { mac: [9; 6], address: Some(IpAddr::V6(Ipv6Addr::from([0xfd; 16]))) });
        let source = claim_untrusted(&neighbour_frame(135, SOURCE_LINK_ADDRESS, [9; 6])).unwrap();
        assert_eq!(source, Claim { mac: [9; 6], address: Some(IpAddr::V6(Ipv6Addr::from([0xfe; 16]))) });
        let without = claim_untrusted(&neighbour_frame(136, SOURCE_LINK_ADDRESS, [9; 6])).unwrap();
        assert_eq!(without.mac, ME);
    }

    #[test]
    fn nonsense_claims_nothing() {
        let frames = [arp_frame(&[], ME, [10, 0, 0, 7]), neighbour_frame(136, TARGET_LINK_ADDRESS, ME)];
        for frame in frames {
            for end in 0..frame.len() {
                let _ = claim_untrusted(&frame[..end]);
            }
            for at in 12..frame.len() {
                let mut changed = frame.clone();
                changed[at] ^= 0xff;
                let _ = claim_untrusted(&changed);
            }
        }
        assert_eq!(claim_untrusted(&[]), None);
    }

    #[test]
    fn an_address_stays_with_who_has_it_while_it_speaks() {
        let mut claims = Claims::default();
        let heard = |at: u32| move |_| Some(at);
        assert!(claims.allows(1, None, HOST, 100, heard(100)));
        assert!(!claims.allows(2, None, HOST, 101, heard(100)), "it is the first one's");
        assert!(claims.allows(2, Some(5), HOST, 101, heard(100)), "another 802.1Q network has its own addresses");
        assert!(claims.allows(1, None, HOST, 125, heard(125)));
        assert!(!claims.allows(2, None, HOST, 140, heard(140)));
        assert!(claims.allows(2, None, HOST, 140, heard(136)), "the first one has gone silent: a backup takes over");
        assert!(claims.allows(1, None, HOST, 171, heard(171)), "the second one no longer says so");
    }

    #[test]
    fn who_was_silent_for_a_moment_gets_its_address_back_and_who_took_it_does_not() {
        let mut claims = Claims::default();
        let heard = |at: u32| move |_| Some(at);
        assert!(claims.allows(1, None, HOST, 100, heard(100)));
        assert!(claims.allows(2, None, HOST, 110, heard(100)), "it was silent");
        assert!(claims.allows(1, None, HOST, 111, heard(111)), "it is back");
        assert!(!claims.allows(2, None, HOST, 112, heard(112)));
        assert!(!claims.allows(3, None, HOST, 112, heard(112)));
    }

    #[test]
    fn a_virtual_routers_address_moves_while_the_old_master_still_speaks() {
        let mut claims = Claims::default();
        let heard = |at: u32| move |_| Some(at);
        claims.announced(1, None, HOST, 100);
        assert!(claims.allows(1, None, HOST, 100, heard(100)));
        assert!(!claims.allows(2, None, HOST, 110, heard(110)), "who does not announce it may not take it");
        claims.announced(2, None, HOST, 111);
        assert!(claims.allows(2, None, HOST, 111, heard(111)));
        assert!(claims.allows(1, None, HOST, 112, heard(112)), "and back");
        claims.announced(2, None, HOST, 140);
        assert!(claims.allows(1, None, HOST, 140, heard(140)));
        assert!(!claims.allows(2, None, HOST, 141, heard(141)), "the holder has long announced nothing");
    }

    #[test]
    fn an_address_that_only_its_taker_announces_stays_whose_it_is() {
        let mut claims = Claims::default();
        assert!(claims.allows(1, None, HOST, 100, |_| Some(100)));
        claims.announced(2, None, HOST, 100);
        assert!(!claims.allows(2, None, HOST, 101, |_| Some(101)));
    }

    #[test]
    fn who_announces_many_addresses_fills_a_bounded_table() {
        let mut claims = Claims::default();
        for n in 0..10_000u32 {
            claims.announced(n % 100, None, IpAddr::V4(Ipv4Addr::from(n / 100)), 0);
            claims.announced(n % 100, None, HOST, 0);
        }
        assert_eq!((claims.shared.len(), claims.shared[&(None, HOST)].len()), (101, MAX_ROUTERS));
        for n in 0..10_000u32 {
            claims.announced(1, None, IpAddr::V4(Ipv4Addr::from(n)), 0);
        }
        assert_eq!(claims.shared.len(), MAX_SHARED);
        claims.announced(1, None, IpAddr::V4(Ipv4Addr::from(70_000)), CLAIM_S + 1);
        assert_eq!(claims.shared.len(), 1, "stale ones make room");
    }

    #[test]
    fn what_hosts_take_for_arp_or_neighbour_discovery_is_looked_at() {
        let mut frame = arp_frame(&[], [9; 6], [10, 0, 0, 7]);
        frame[15] = 6;
        assert_eq!(claim_untrusted(&frame).unwrap().mac, [9; 6]);
        let mut behind = neighbour_frame(136, TARGET_LINK_ADDRESS, [9; 6]);
        behind[20] = 60; // destination options first
        behind.splice(54..54, [ICMPV6, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(claim_untrusted(&behind).unwrap().mac, [9; 6]);
    }

    #[test]
    fn who_invents_addresses_leaves_room_for_others() {
        let mut claims = Claims::default();
        for n in 0..10_000u32 {
            assert!(claims.allows(1, None, IpAddr::V4(Ipv4Addr::from(n)), 0, |_| Some(0)));
        }
        assert_eq!(claims.holders.len(), MAX_ADDRESSES_EACH);
        assert!(claims.allows(2, None, IpAddr::V4(Ipv4Addr::from(7_000_000)), 0, |_| Some(0)));
        assert!(!claims.allows(1, None, IpAddr::V4(Ipv4Addr::from(7_000_000)), 0, |_| Some(0)));
        assert!(claims.allows(1, None, HOST, CLAIM_S + 1, |_| Some(CLAIM_S + 1)));
        assert_eq!(claims.counts[&1], 1, "stale ones make room");
    }
}
