//! What one frame costs, step by step. `cargo bench -p peertap-dataplane`; compare on one machine only.
#![allow(missing_docs)]

#[path = "../tests/harness/mod.rs"]
mod harness;
#[path = "../tests/reference/mod.rs"]
mod reference;

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use harness::*;
use peertap_dataplane::offload::checksum;
use peertap_dataplane::offload::coalesce::{Coalescer, Merges};
use peertap_dataplane::offload::headers::Headers;
use peertap_dataplane::offload::segment::{Plan, Split, plan_untrusted};
use peertap_dataplane::offload::{VIRTIO_BYTES, Virtio};
use peertap_dataplane::packet::{BODY_AT, HOP_LIMIT, HopFields, open_hop_untrusted, seal_hop};
use peertap_dataplane::replay::ReplayWindow;
use peertap_dataplane::seal::{
    AAD_BYTES, CONTENT_AT, ContentType, SignedFrames, frame_aad, open_frame_untrusted, parse_plain, seal_frame,
};
use peertap_dataplane::switch::{LOCAL_SLOTS, MacTable};
use peertap_dataplane::trailer::{self, MAX_TRAILER_BYTES};
use reference::{Random, Shape};

/// A usual frame, and the smallest.
const LENGTHS: [usize; 2] = [1400, 64];
/// The segments of a super-frame of 60 KB at the usual MTU.
const SEGMENTS: usize = 45;
const SEGMENT_BYTES: usize = 1318;

fn fields(nonce: [u8; 12]) -> HopFields {
    HopFields { label: 3, hop_limit: HOP_LIMIT, flags: 0, nonce }
}

fn sealing(c: &mut Criterion) {
    let mut group = c.benchmark_group("pair frame");
    for length in LENGTHS {
        group.throughput(Throughput::Bytes(length as u64));
        let (send, receive, token) = (pair_send(1, 2), pair_receive(1, 2), token(2));
        let mut slot = vec![7; CONTENT_AT + length];
        let seal = |slot: &mut [u8]| seal_frame(slot, CONTENT_AT + length, &send, &token, ContentType::Frame).unwrap();
        group.bench_function(format!("seal {length}"), |b| b.iter(|| seal(black_box(&mut slot))));
        let (nonce, end) = (seal(&mut slot), slot.len());
        let mut plain = vec![0; end - BODY_AT];
        group.bench_function(format!("open {length}"), |b| {
            b.iter(|| {
                let aad = frame_aad(receive.names(), &token, &nonce);
                assert!(open_frame_untrusted(black_box(&slot[..end]), &aad, &nonce, &receive, &mut plain));
                parse_plain(&plain).unwrap().rest.len()
            });
        });
    }
    group.finish();
    let mut group = c.benchmark_group("hop");
    let (send, receive) = (hop_send(1, 2, false), hop_receive(1, 2, false));
    let mut packet = vec![7; 1400];
    group.bench_function("seal", |b| b.iter(|| seal_hop(black_box(&mut packet), &send, &fields([5; 12])).unwrap()));
    group.bench_function("open", |b| {
        b.iter(|| {
            // In place, so the head is put back: 46 bytes copied are part of the figure.
            let head: [u8; BODY_AT] = std::array::from_fn(|i| packet[i]);
            let opened = open_hop_untrusted(black_box(&mut packet), &receive).unwrap();
            packet[..BODY_AT].copy_from_slice(&head);
            opened
        });
    });
    group.finish();
}

/// A super-frame and how it is cut.
fn super_frame(v6: bool) -> (Vec<u8>, Split) {
    let shape = Shape { v6, tcp_options: vec![1; 12], ..Shape::default() };
    let mut all = shape.build_virtio(&Random(5).bytes(SEGMENTS * SEGMENT_BYTES), SEGMENT_BYTES);
    let mut frame = all.split_off(VIRTIO_BYTES);
    let virtio = Virtio::parse_untrusted(&all.try_into().unwrap()).unwrap();
    let Some(Plan::Split(split)) = plan_untrusted(&mut frame, &virtio) else { panic!() };
    (frame, split)
}

fn offload(c: &mut Criterion) {
    let mut group = c.benchmark_group("offload");
    for (name, v6) in [("v4", false), ("v6", true)] {
        let (frame, split) = super_frame(v6);
        group.throughput(Throughput::Bytes(frame.len() as u64));
        let mut out = vec![0; split.frame_bytes()];
        group.bench_function(format!("segment 60 KB {name}"), |b| {
            b.iter(|| (0..split.count()).map(|n| split.emit(black_box(&frame), n, &mut out).0).sum::<usize>());
        });
        for (kind, partial) in [("partial", true), ("whole", false)] {
            let (mut arena, mut places) = (Vec::new(), Vec::new());
            for n in 0..split.count() {
                let (end, headers) = split.emit(&frame, n, &mut out);
                if !partial {
                    checksum::complete(&mut out, &headers);
                }
                places.push(arena.len()..arena.len() + end);
                arena.extend(&out[..end]);
            }
            let (mut coalescer, first, mut writes) = (Coalescer::default(), arena[places[0].clone()].to_vec(), 0);
            group.bench_function(format!("coalesce {SEGMENTS} {kind} {name}"), |b| {
                b.iter(|| {
                    // The first frame's headers become those of the whole, so they are put back.
                    arena[..100].copy_from_slice(&first[..100]);
                    for place in &places {
                        coalescer.push(black_box(&arena), place.clone(), partial, Merges { tcp: true, udp: true });
                    }
                    writes = 0;
                    coalescer.flush(&mut arena, |write| {
                        writes += 1;
                        black_box(write.payloads.len()) > 0
                    });
                });
            });
            assert_eq!(writes, 1);
        }
    }
    let frame = Shape::default().build(&Random(6).bytes(1400 - 54));
    let headers = Headers::parse_untrusted(&frame).unwrap();
    group.throughput(Throughput::Bytes(1400));
    group.bench_function("checksum 1400", |b| b.iter(|| checksum::is_right(black_box(&frame), &headers)));
    group.finish();
}

fn state(c: &mut Criterion) {
    let mut group = c.benchmark_group("state");
    let table = MacTable::new(LOCAL_SLOTS, 300, 0x5eed);
    let address = |n: u32| [2, 1, 0, 0, (n >> 8) as u8, n as u8];
    (0..1000).for_each(|n| _ = table.learn(&address(n), None, n % 7, 1));
    let mut n = 0;
    group.bench_function("MAC look-up, 1000 known", |b| {
        b.iter(|| {
            n = (n + 7) % 1000;
            table.lookup(black_box(&address(n)), None, 2)
        });
    });
    group.bench_function("MAC learn again", |b| b.iter(|| table.learn(black_box(&address(3)), None, 3, 2)));
    let mut window = ReplayWindow::default();
    let mut next = 0;
    group.bench_function("replay accept in order", |b| {
        b.iter(|| {
            next += 1;
            window.accept(black_box(next)).unwrap();
        });
    });
    group.finish();
}

fn groups(c: &mut Criterion) {
    let mut group = c.benchmark_group("group frame");
    let (send, receive, token) = (group_send(1, signer(1)), group_receive(1), group_token());
    let length = 1000;
    let mut slot = vec![7; CONTENT_AT + length + MAX_TRAILER_BYTES];
    for frames in [1, 32] {
        let content = vec![5; length];
        group.bench_function(format!("sign and seal {frames} of 1000"), |b| {
            b.iter(|| {
                let contents = (0..frames).map(|_| (ContentType::Frame, &content[..]));
                let signed = SignedFrames::sign(contents, &send, &token, [3; 16]).unwrap();
                (0..frames).map(|n| signed.seal(n, black_box(&mut slot), CONTENT_AT + length).0).sum::<usize>()
            });
        });
    }
    let (salt, aad, content) = ([3; 16], [4; AAD_BYTES], vec![5; length]);
    group.bench_function("Merkle leaf 1000", |b| b.iter(|| trailer::leaf(&salt, &aad, 1, 0, black_box(&content))));
    let leaf = trailer::leaf(&salt, &aad, 1, 0, &content);
    let message = trailer::message(receive.names(), receive.kid(), &salt, 0, &leaf);
    let signer = signer(1);
    group.bench_function("sign", |b| b.iter(|| signer.sign(black_box(&message))));
    let signature = signer.sign(&message);
    group.bench_function("verify", |b| b.iter(|| assert!(receive.verify(black_box(&message), &signature))));
    group.finish();
}

fn short() -> Criterion {
    let times = (Duration::from_millis(200), Duration::from_millis(800));
    Criterion::default().warm_up_time(times.0).measurement_time(times.1).sample_size(50).nresamples(10_000)
}

criterion_group!(name = benches; config = short(); targets = sealing, offload, state, groups);
criterion_main!(benches);
