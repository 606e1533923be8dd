//! Super-frames for the property tests: made, cut, and merged again.

use std::ops::Range;

use peertap_dataplane::offload::coalesce::{Coalescer, Merges};
use peertap_dataplane::offload::headers::Headers;
use peertap_dataplane::offload::segment::{Plan, Split, plan_untrusted};
use peertap_dataplane::offload::{VIRTIO_BYTES, Virtio};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

pub const BOTH: Merges = Merges { tcp: true, udp: true };

/// Thirty times as many with PEERTAP_FULL=1 (make test-full). Failures are repeated by hand: no file is written.
pub fn cases(cases: u32) -> ProptestConfig {
    let full = std::env::var("PEERTAP_FULL").is_ok_and(|full| full != "0");
    let cases = if full { 30 * cases } else { cases };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// Any plain TCP or UDP headers; `rich`: with all that headers may have, most of which forbids merging.
pub fn shapes(rich: bool) -> impl Strategy<Value = Shape> {
    let words = |n| vec(any::<[u8; 4]>(), 0..=n).prop_map(|words| words.concat());
    let extension = (prop_oneof![Just(0u8), Just(60), Just(43)], 0usize..3, any::<u8>());
    let extensions = vec(extension, 0..3).prop_map(|all| {
        let bytes = |(number, n, fill): (u8, usize, u8)| {
            let mut bytes = vec![fill; 6 + 8 * n];
            (bytes[0], bytes[1]) = (4, 0); // a routing header that has arrived
            (number, bytes)
        };
        all.into_iter().map(bytes).collect::<Vec<_>>()
    });
    let tags = vec(prop_oneof![Just([0x81, 0x00]), Just([0x88, 0xa8]), Just([0x91, 0x00])], 0..3);
    let numbers = (any::<u16>(), any::<u16>(), any::<u16>(), any::<u32>(), any::<u32>(), any::<u16>());
    let ip = (any::<u8>(), 1u8.., prop_oneof![Just(0x4000u16), Just(0), Just(0x8000)]);
    (any::<bool>(), any::<bool>(), tags, words(10), extensions, words(10), numbers, any::<u8>(), ip).prop_map(
        move |(v6, tcp, tags, ip_options, extensions, tcp_options, numbers, flags, (tos, ttl, fragment))| {
            let (from, to, id, sequence, ack, window) = numbers;
            Shape {
                tags: tags.into_iter().map(|tag| [tag[0], tag[1], 0x20, 5]).collect(),
                v6,
                tcp,
                ip_options: if rich { ip_options } else { vec![] },
                extensions,
                tcp_options,
                from,
                to,
                id,
                fragment,
                tos,
                ttl,
                sequence,
                ack,
                flags: if rich { ACK | flags & !(SYN | RST | URG) } else { ACK | flags & (PSH | FIN | CWR) },
                window,
                ..Shape::default()
            }
        },
    )
}

/// Payload length and segment size, odd last segments and whole multiples alike.
pub fn extents() -> impl Strategy<Value = (usize, usize)> {
    (1usize..1500, 2usize..20, any::<prop::sample::Index>(), any::<bool>())
        .prop_map(|(size, count, last, even)| (size * count - if even { 0 } else { last.index(size) }, size))
}

pub fn bytes(n: usize, seed: u64) -> Vec<u8> {
    Random(seed | 1).bytes(n)
}

/// A super-frame as the kernel gives it, taken apart.
pub fn super_frame(shape: &Shape, payload: &[u8], size: usize) -> (Virtio, Vec<u8>) {
    let mut all = shape.build_virtio(payload, size);
    let frame = all.split_off(VIRTIO_BYTES);
    (Virtio::parse_untrusted(&all.try_into().unwrap()).unwrap(), frame)
}

pub fn planned_split(frame: &mut [u8], virtio: &Virtio) -> Split {
    match plan_untrusted(frame, virtio) {
        Some(Plan::Split(split)) => split,
        other => panic!("no split: {other:?}"),
    }
}

/// Segments as they are sealed: partial.
pub fn segments(frame: &[u8], split: &Split) -> Vec<Vec<u8>> {
    let each = |n| {
        let mut out = vec![0xee; split.bytes_of(n)];
        let (end, headers) = split.emit(frame, n, &mut out);
        assert_eq!((end, headers.end), (out.len(), out.len()));
        assert!(end <= split.frame_bytes());
        assert_eq!(Headers::parse_untrusted(&out), Some(headers));
        out
    };
    (0..split.count()).map(each).collect()
}

/// Frames side by side, as the engine has them.
#[derive(Default)]
pub struct Arena {
    pub bytes: Vec<u8>,
    pub places: Vec<Range<usize>>,
}

impl Arena {
    pub fn of(frames: &[Vec<u8>]) -> Self {
        let mut arena = Self::default();
        for frame in frames {
            let from = arena.bytes.len();
            arena.bytes.extend(frame);
            arena.places.push(from..arena.bytes.len());
        }
        arena
    }
}

/// What a coalescer writes; `accepts` says whether the writer takes a super-frame.
pub fn written(coalescer: &mut Coalescer, arena: &mut Arena, mut accepts: impl FnMut() -> bool) -> Vec<Vec<u8>> {
    let mut writes = Vec::new();
    coalescer.flush(&mut arena.bytes, |write| {
        assert_eq!(write.payloads.is_empty(), write.virtio[1] == 0, "only super-frames have more payloads");
        if write.virtio[1] != 0 && !accepts() {
            return false;
        }
        assert!(write.payloads.len() < 64);
        let payloads = write.payloads.iter().flat_map(|place| &write.arena[place.clone()]);
        writes.push(write.virtio.iter().chain(write.first).chain(payloads).copied().collect());
        true
    });
    coalescer.flush(&mut arena.bytes, |_| panic!("a flush left something behind"));
    writes
}

pub fn coalesce(frames: &[Vec<u8>], partial: bool) -> Vec<Vec<u8>> {
    let (mut coalescer, mut arena) = (Coalescer::default(), Arena::of(frames));
    for place in arena.places.clone() {
        coalescer.push(&arena.bytes, place, partial, BOTH);
    }
    written(&mut coalescer, &mut arena, || true)
}
