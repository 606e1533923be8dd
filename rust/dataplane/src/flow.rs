//! Which of several ways a frame of ours takes: its flow decides, so that no flow is reordered (SPEC 6.6).
//!
//! ```text
//!     frame ──> flow: addresses, protocol, ports; or MACs and type ──> a weight for each way ──> the way of the highest
//! ```
//!
//! Rendezvous hashing: a way's weight for a flow depends on nothing else, so that a way that goes moves its own flows
//! alone, and one that comes takes an even share. The hash is no secret: it steers only frames of this node's own ports.

use crate::TrunkId;
use crate::frame::HEADER_BYTES;

/// 2^64 / golden ratio, odd.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
/// Protocols whose headers begin with two ports: TCP, UDP, DCCP, SCTP, UDP-Lite.
const WITH_PORTS: [u8; 5] = [6, 17, 33, 132, 136];
/// Tags that are looked through, as in `offload::headers`.
const MAX_TAGS: usize = 2;

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): each bit of the input changes half of the output's.
fn mix(word: u64) -> u64 {
    let word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

fn mix_bytes(bytes: &[u8], seed: u64) -> u64 {
    bytes.chunks(8).fold(seed, |hash, chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        mix((hash ^ u64::from_le_bytes(word)).wrapping_add(SPREAD))
    })
}

/// A number for the flow of an Ethernet frame, the same for all its frames. Fragments of IP datagrams have no ports that all could know.
pub fn flow_of_untrusted(frame: &[u8]) -> u64 {
    let Some(macs) = frame.get(..HEADER_BYTES - 2) else { return 0 };
    let mut at = HEADER_BYTES - 2;
    for _ in 0..MAX_TAGS {
        let is_tag = matches!(frame.get(at..at + 2), Some([0x81, 0x00] | [0x88, 0xa8] | [0x91, 0x00]));
        at += if is_tag { 4 } else { 0 };
    }
    let ip = frame.get(at + 2..).unwrap_or_default();
    let flow = match frame.get(at..at + 2) {
        Some([0x08, 0x00]) => flow_of_v4(ip),
        Some([0x86, 0xdd]) => flow_of_v6(ip),
        _ => None,
    };
    flow.unwrap_or_else(|| mix_bytes(frame.get(at..at + 2).unwrap_or_default(), mix_bytes(macs, SPREAD)))
}

fn flow_of_v4(ip: &[u8]) -> Option<u64> {
    let header = ip.get(..20)?;
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    let ports = ip.get(4 * usize::from(header[0] & 15)..).filter(|_| !is_fragment);
    Some(transport(mix_bytes(&header[12..20], SPREAD), header[9], ports))
}

fn flow_of_v6(ip: &[u8]) -> Option<u64> {
    let header = ip.get(..40)?;
    Some(transport(mix_bytes(&header[8..40], SPREAD), header[6], ip.get(40..)))
}

fn transport(hash: u64, protocol: u8, rest: Option<&[u8]>) -> u64 {
    let ports = rest.filter(|_| WITH_PORTS.contains(&protocol)).and_then(|rest| rest.get(..4));
    mix_bytes(ports.unwrap_or_default(), mix((hash ^ u64::from(protocol)).wrapping_add(SPREAD)))
}

/// How much a flow is for a way; it takes the one with the most.
pub fn weight(flow: u64, trunk: TrunkId) -> u64 {
    mix(flow ^ mix(u64::from(trunk).wrapping_add(SPREAD)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashMap;

    fn v4(protocol: u8, from: u8, ports: [u16; 2], fragment: u16) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 40, 0, 0];
        frame.extend(fragment.to_be_bytes());
        frame.extend([64, protocol, 0, 0, 10, 0, 0, from, 10, 0, 0, 99]);
        frame.extend(ports[0].to_be_bytes());
        frame.extend(ports[1].to_be_bytes());
        frame.extend([0; 60]);
        frame
    }

    fn way(flow: u64, ways: &[TrunkId]) -> TrunkId {
        *ways.iter().max_by_key(|&&trunk| weight(flow, trunk)).unwrap()
    }

    #[test]
    fn flows_are_spread_evenly_and_a_lost_way_moves_only_its_own() {
        let ways = [7, 8, 9, 10];
        let mut counts = HashMap::new();
        for n in 0..40_000u16 {
            let flow = flow_of_untrusted(&v4(6, n as u8, [1024 + n % 20_000, 443], 0));
            let taken = way(flow, &ways);
            *counts.entry(taken).or_insert(0) += 1;
            if taken != 8 {
                assert_eq!(way(flow, &[7, 9, 10]), taken);
            }
        }
        assert!(counts.values().all(|&count| (9_000..11_000).contains(&count)), "{counts:?}");
    }

    #[test]
    fn all_frames_of_a_flow_are_one_flow_and_others_are_another() {
        let one = flow_of_untrusted(&v4(6, 1, [1, 2], 0));
        let mut later = v4(6, 1, [1, 2], 0);
        later[18] = 9; // IP id
        later[50] = 9; // payload
        assert_eq!(flow_of_untrusted(&later), one);
        for other in [v4(6, 2, [1, 2], 0), v4(6, 1, [1, 3], 0), v4(6, 1, [2, 2], 0), v4(17, 1, [1, 2], 0)] {
            assert_ne!(flow_of_untrusted(&other), one);
        }
        let mut tagged = v4(6, 1, [1, 2], 0);
        tagged.splice(12..12, [0x81, 0, 0, 5]);
        assert_eq!(flow_of_untrusted(&tagged), one);
    }

    #[test]
    fn fragments_of_a_datagram_stay_together() {
        let first = flow_of_untrusted(&v4(17, 1, [1, 2], 0x2000));
        assert_eq!(flow_of_untrusted(&v4(17, 1, [0x6162, 0x6364], 185)), first);
    }

    #[test]
    fn a_frame_that_ends_anywhere_has_a_flow() {
        let mut v6 = v4(6, 1, [1, 2], 0);
        v6[12..14].copy_from_slice(&[0x86, 0xdd]);
        for whole in [v4(6, 1, [1, 2], 0), v6] {
            for end in 0..whole.len() {
                flow_of_untrusted(&whole[..end]);
            }
        }
    }

    #[test]
    fn the_ports_of_ipv6_count() {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 17, 64];
        frame.extend([0xfd; 32]);
        frame.extend([0, 1, 0, 2, 0, 8, 0, 0]);
        let one = flow_of_untrusted(&frame);
        frame[57] = 3;
        assert_ne!(flow_of_untrusted(&frame), one);
    }
}
