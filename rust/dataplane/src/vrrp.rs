//! Which addresses a virtual router's advertisement names: VRRP versions 2 (RFC 3768) and 3 (RFC 5798).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::frame::{HEADER_BYTES, Mac};

/// Where advertisements go: the MACs of 224.0.0.18 and ff02::12.
const GROUPS: [Mac; 2] = [[0x01, 0x00, 0x5e, 0, 0, 0x12], [0x33, 0x33, 0, 0, 0, 0x12]];
const TAGS: [u16; 2] = [0x8100, 0x88a8];
const IPV4: u16 = 0x0800;
const IPV6: u16 = 0x86dd;
const PROTOCOL: u8 = 112;
/// A router on the way would have lowered it (RFC 5798, 5.1.1.3).
const HOP_LIMIT: u8 = 255;
const ADVERTISEMENT: u8 = 1;
const ADDRESSES_AT: usize = 8;

/// The addresses that a frame says its sender's virtual router has; None where it is no advertisement.
pub fn addresses_untrusted(frame: &[u8]) -> Option<impl Iterator<Item = IpAddr>> {
    if !GROUPS.iter().any(|group| frame.starts_with(group)) {
        return None;
    }
    let mut at = HEADER_BYTES - 2;
    let mut kind = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
    for _ in 0..2 {
        if TAGS.contains(&kind) {
            at += 4;
            kind = u16::from_be_bytes([*frame.get(at)?, *frame.get(at + 1)?]);
        }
    }
    let packet = frame.get(at + 2..)?;
    let (body, protocol, hop_limit, bytes) = match kind {
        IPV4 => (packet.get(usize::from(packet.first()? & 15) * 4..)?, *packet.get(9)?, *packet.get(8)?, 4),
        IPV6 => (packet.get(40..)?, *packet.get(6)?, *packet.get(7)?, 16),
        _ => return None,
    };
    let [head, _, _, count, ..] = *body else { return None };
    if protocol != PROTOCOL || hop_limit != HOP_LIMIT || !matches!(head >> 4, 2 | 3) || head & 15 != ADVERTISEMENT {
        return None;
    }
    let addresses = body.get(ADDRESSES_AT..ADDRESSES_AT + usize::from(count) * bytes)?;
    Some(addresses.chunks_exact(bytes).filter_map(|one| {
        let four = <[u8; 4]>::try_from(one).map(|four| IpAddr::V4(Ipv4Addr::from(four)));
        four.or_else(|_| <[u8; 16]>::try_from(one).map(|six| IpAddr::V6(Ipv6Addr::from(six)))).ok()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertisement(tags: &[u8], version: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut frame = [&GROUPS[0][..], &[2, 0, 0, 0, 0, 1], tags, &[8, 0, 0x45]].concat();
        frame.extend_from_slice(&[0; 7]);
        frame.extend_from_slice(&[HOP_LIMIT, PROTOCOL, 0, 0, 10, 0, 0, 1, 224, 0, 0, 18]);
        frame.extend_from_slice(&[version << 4 | ADVERTISEMENT, 51, 100, addresses.len() as u8, 0, 1, 0, 0]);
        addresses.iter().for_each(|address| frame.extend_from_slice(address));
        frame.extend_from_slice(&[0; 8]); // version 2 has authentication data
        frame
    }

    fn named(frame: &[u8]) -> Vec<IpAddr> {
        addresses_untrusted(frame).map(Iterator::collect).unwrap_or_default()
    }

    #[test]
    fn an_advertisement_names_its_addresses_behind_any_tags() {
        let addresses = [[10, 0, 0, 7], [10, 0, 0, 8]];
        let wanted: Vec<_> = addresses.iter().map(|&one| IpAddr::from(one)).collect();
        for tags in [&[][..], &[0x81, 0, 0, 5], &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 6]] {
            for version in [2, 3] {
                assert_eq!(named(&advertisement(tags, version, &addresses)), wanted);
            }
        }
        let mut six =
            [&GROUPS[1][..], &[2, 0, 0, 0, 0, 1], &[0x86, 0xdd, 0x60, 0, 0, 0, 0, 24, PROTOCOL, 255]].concat();
        six.extend_from_slice(&[0xfe; 32]);
        six.extend_from_slice(&[0x31, 51, 100, 1, 0, 100, 0, 0]);
        six.extend_from_slice(&[0xfd; 16]);
        assert_eq!(named(&six), [IpAddr::from([0xfd; 16])]);
    }

    #[test]
    fn what_is_no_advertisement_names_none() {
        let good = advertisement(&[], 3, &[[10, 0, 0, 7]]);
        for (at, value) in [(0, 0), (22, 254), (23, 17), (34, 0x41), (34, 0x32), (37, 200), (12, 9)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert!(named(&bad).is_empty(), "byte {at}");
        }
        for end in 0..good.len() - 8 {
            assert!(named(&good[..end]).is_empty());
        }
        for at in 12..good.len() {
            let mut changed = good.clone();
            changed[at] ^= 0xff;
            let _ = named(&changed);
        }
    }
}
