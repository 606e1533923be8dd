//! Bytes from strangers, neighbours and members who mean harm: nothing is delivered, nothing panics, everything is counted.
#![allow(missing_docs)]

mod harness;

use harness::*;
use peertap_dataplane::aead::{Aead, AeadKey};
use peertap_dataplane::events::Event;
use peertap_dataplane::kdf::{Secret, expand, expand_name};
use peertap_dataplane::packet::{BODY_AT, HOP_LIMIT, HopFields, INNER_TAG_AT, seal_hop};
use peertap_dataplane::seal::{CONTENT_AT, ContentType, SignedFrames, frame_aad};
use peertap_dataplane::tables::Carrier;
use peertap_dataplane::trailer::MAX_TRAILER_BYTES;

/// A small generator with a seed (xorshift64*), so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.next() as u8).collect()
    }
}

fn batch_of(packets: &[Vec<u8>]) -> Vec<u8> {
    packets.iter().flat_map(|p| [&(p.len() as u16).to_be_bytes()[..], p].concat()).collect()
}

/// Genuine packets from A for B, never delivered.
fn captured(two: &mut Two) -> Vec<Vec<u8>> {
    let mut packets = Vec::new();
    for dst in [mac(2), GROUP] {
        two.tap_a.send(&frame(dst, mac(1), 60));
        two.a.wait(|e| *e == Event::Stream { trunk: 2 });
        let batch = two.a.engine.stream_take(2).unwrap().unwrap();
        packets.push(batch[2..].to_vec());
    }
    packets
}

#[test]
fn random_and_mutated_packets_deliver_nothing_and_are_all_counted() {
    let mut two = Two::join(Carrier::Stream, false);
    let seeds = captured(&mut two);
    let mut random = Random(0x5eed);
    let mut put = 0;
    // a million with PEERTAP_FULL=1 (make test-full)
    let packets = if std::env::var("PEERTAP_FULL").is_ok_and(|full| full != "0") { 1_000_000 } else { 100_000 };
    for _ in 0..packets / 50 {
        let packets: Vec<_> = (0..50)
            .map(|n| {
                let length = random.below(300);
                let mut packet = if n % 3 == 0 { random.bytes(length) } else { seeds[random.below(2)].clone() };
                match n % 3 {
                    0 if packet.len() >= 12 => packet[..12].copy_from_slice(&seeds[0][..12]),
                    0 => {}
                    1 => {
                        // The header is hit at least once: a changed body alone would pass the hop.
                        let at = random.below(INNER_TAG_AT);
                        packet[at] ^= 1 << random.below(8);
                        for _ in 0..random.below(4) {
                            let at = INNER_TAG_AT + random.below(packet.len() - INNER_TAG_AT);
                            packet[at] ^= random.next() as u8;
                        }
                    }
                    _ => packet.truncate(random.below(packet.len())),
                }
                packet
            })
            .collect();
        two.b.engine.stream_put(1, &batch_of(&packets)).unwrap();
        put += 50;
        two.b.wait_for(|b| b.all_drops() >= put);
    }
    assert_eq!(two.b.all_drops(), put);
    two.tap_b.expect_nothing();
    assert_eq!(two.b.engine.snapshot().trunks[0].1.rx_packets, 0);
    // The genuine ones still arrive.
    two.b.engine.stream_put(1, &batch_of(&seeds)).unwrap();
    two.tap_b.expect(&frame(mac(2), mac(1), 60));
    two.tap_b.expect(&frame(GROUP, mac(1), 60));
}

#[test]
fn a_neighbour_with_the_hop_key_gets_nothing_delivered() {
    let two = Two::join(Carrier::Stream, false);
    let hop = hop_send(1, 2, true);
    let kids = [pair_send(1, 2).kid(), group_send(1, signer(1)).kid(), [1, 2, 3, 4]];
    let mut random = Random(0xbad);
    let mut put = 0;
    for _ in 0..200 {
        let mut packets = Vec::new();
        for _ in 0..50 {
            let mut nonce = [0; 12];
            nonce[..4].copy_from_slice(&kids[random.below(3)]);
            nonce[4..].copy_from_slice(&(random.next() >> random.below(64)).to_be_bytes());
            let label = [2, GROUP_LABEL, 3][random.below(3)];
            let flags = if random.below(4) == 0 { 2 << random.below(7) } else { 0 };
            let length = BODY_AT + 2 + random.below(200);
            let mut packet = random.bytes(length);
            seal_hop(&mut packet, &hop, &HopFields { label, hop_limit: HOP_LIMIT, flags, nonce }).unwrap();
            packets.push(packet);
        }
        two.b.engine.stream_put(1, &batch_of(&packets)).unwrap();
        put += packets.len() as u64;
    }
    // The last 32 with an unknown kid wait 200 ms before they count.
    two.b.wait_for(|b| b.all_drops() - b.drops("events_full") == put);
    two.tap_b.expect_nothing();
}

#[test]
fn a_member_who_seals_random_plaintexts_gets_nothing_of_it_delivered() {
    let two = Two::join(Carrier::Stream, false);
    let hop = hop_send(1, 2, true);
    let root = expand(&[7; 32], "static root", &[]);
    let group = expand(&root[..], "group", &[&[1], &[1; 16], &0u32.to_be_bytes(), &[1]]);
    let prk = peertap_dataplane::kdf::extract(&expand(&root[..], "pair", &[])[..], &[1; 32]);
    let pair: Secret = expand(&prk[..], "pair", &[&[1, 2], &[2; 48], &[1]]);
    let names = *vlan_keys().names();
    let mut random = Random(0xe71);
    for round in 0..400u64 {
        let mut packets = Vec::new();
        for n in 0..50 {
            let is_group = random.below(2) == 0;
            let (g, token, label) = if is_group { (&group, group_token(), GROUP_LABEL) } else { (&pair, token(2), 2) };
            let mut nonce = [0; 12];
            nonce[..4].copy_from_slice(&expand_name::<4>(&g[..], "kid", &[]));
            nonce[4..].copy_from_slice(&(round * 50 + n).to_be_bytes());
            let length = random.below(250);
            let mut plain = random.bytes(2 + length);
            plain[0] = random.below(7) as u8;
            plain[1] = if random.below(4) == 0 { plain[1] } else { 0 };
            if plain.len() > 14 && random.below(2) == 0 {
                plain[2..14].fill(0); // fragments that look better than chance
                plain[5] = random.below(3) as u8;
                plain[9] = random.below(200) as u8;
                plain[13] = random.below(255) as u8;
            }
            if is_group && plain.len() > 2 && random.below(2) == 0 {
                let end = plain.len();
                plain[end - 1] = random.below(7) as u8;
                plain[end - 2] = random.below(33) as u8;
            }
            let key = AeadKey::new(Aead::Aes256Gcm, &expand(&g[..], "key", &[]));
            let tag = key.seal(&nonce, &frame_aad(&names, &token, &nonce), &mut plain);
            let mut packet = vec![0; INNER_TAG_AT];
            packet.extend(tag);
            packet.extend(plain);
            seal_hop(&mut packet, &hop, &HopFields { label, hop_limit: HOP_LIMIT, flags: 0, nonce }).unwrap();
            packets.push(packet);
        }
        two.b.engine.stream_put(1, &batch_of(&packets)).unwrap();
        two.b.wait_for(|b| b.engine.snapshot().trunks[0].1.rx_packets == (round + 1) * 50);
        two.b.engine.events();
    }
    two.tap_b.expect_nothing();
    assert!(two.b.drops("malformed") > 0 && two.b.drops("fragment_invalid") > 0 && two.b.drops("spoofed_mac") > 0);
    assert!(two.b.drops("inner_auth") == 0 && two.b.engine.snapshot().panic.is_none());
    assert!(two.b.drops("forged") > 0);
    let sent = frame(mac(2), mac(1), 60);
    assert_eq!(sent.len(), 60);
}

#[test]
fn a_member_can_not_fill_the_side_queue_with_large_frames_or_control_all_at_once() {
    let mut two = Two::join(Carrier::Stream, false);
    let (hop, key) = (hop_send(1, 2, true), group_send(1, signer(1)));
    let packet = |content: &[u8], content_type| {
        let end = CONTENT_AT + content.len();
        let mut packet = vec![0; end + MAX_TRAILER_BYTES];
        packet[CONTENT_AT..end].copy_from_slice(content);
        let signed = SignedFrames::sign([(content_type, content)].into_iter(), &key, &group_token(), [9; 16]).unwrap();
        let (end, nonce) = signed.seal(0, &mut packet, end);
        packet.truncate(end);
        let fields = HopFields { label: GROUP_LABEL, hop_limit: HOP_LIMIT, flags: 0, nonce };
        seal_hop(&mut packet, &hop, &fields).unwrap();
        packet
    };
    let largest = frame(GROUP, mac(1), 1232 - 64 - 82);
    let packets = [
        packet(&[1; 9], ContentType::Control),
        packet(&[0; 30], ContentType::ControlFragment),
        packet(&frame(GROUP, mac(1), 200), ContentType::PartialFrame), // for pair frames only (SPEC 2.3)
        packet(&frame(GROUP, mac(1), largest.len() + 1), ContentType::Frame),
        packet(&largest, ContentType::Frame),
    ];
    two.b.engine.stream_put(1, &batch_of(&packets)).unwrap();
    two.tap_b.expect(&largest);
    two.tap_b.expect_nothing();
    assert_eq!(two.b.drops("malformed"), 4);
    two.b.events.extend(two.b.engine.events());
    assert!(!two.b.events.iter().any(|e| matches!(e, Event::Control { .. })));
}
