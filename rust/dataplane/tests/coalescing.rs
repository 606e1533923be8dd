//! Flows mixed and disturbed in every way, merged: each comes out as it went in.
#![allow(missing_docs)]

mod reference;

use std::collections::HashMap;

use peertap_dataplane::offload::VIRTIO_BYTES;
use peertap_dataplane::offload::coalesce::{Coalescer, Merges};
use proptest::collection::vec;
use proptest::prelude::*;
use reference::super_frames::*;
use reference::{CWR, ECE, FIN, PSH, RST, Random, SYN, Shape, URG, View, canonical, complete, expand, set_word, word};

/// What happens to a flow's next frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    None,
    Short,
    Long,
    PureAck,
    Flag(u8),
    NewAck,
    Window,
    TcpOptions,
    IpOptions,
    Ttl,
    Tos,
    Lost,
    Again,
    Swapped,
    OldId,
    MayFragment,
    Fragment,
    WrongChecksum,
    NoChecksum,
    WrongIpChecksum,
    Padded,
    UdpLength,
    OtherTag,
}

fn changes() -> impl Strategy<Value = Change> {
    use Change::*;
    let flags = prop_oneof![Just(SYN), Just(RST), Just(URG), Just(CWR), Just(ECE), Just(FIN), Just(PSH)].prop_map(Flag);
    let rare = prop::sample::select(vec![
        Short,
        Long,
        PureAck,
        NewAck,
        Window,
        TcpOptions,
        IpOptions,
        Ttl,
        Tos,
        Lost,
        Again,
        Swapped,
        OldId,
        MayFragment,
        Fragment,
        WrongChecksum,
        NoChecksum,
        WrongIpChecksum,
        Padded,
        UdpLength,
        OtherTag,
    ]);
    prop_oneof![10 => Just(None), 1 => flags, 4 => rare]
}

/// A frame for the coalescer, and what is to come out.
#[derive(Clone, Debug)]
struct Pushed {
    bytes: Vec<u8>,
    /// With the whole checksum, if `partial` or it was right.
    whole: Vec<u8>,
    partial: bool,
    /// It may come out of a super-frame.
    may_merge: bool,
    change: Change,
}

/// Frames of several flows, mixed.
fn traffic(steps: &[(usize, Change)], seed: u64) -> Vec<Pushed> {
    let mut random = Random(seed | 1);
    let flow = |n: usize| Shape {
        v6: n % 2 == 1,
        tcp: n % 3 != 2,
        from: 1000 + n as u16,
        tags: vec![[0x81, 0, 0, 9]; n / 4 % 2],
        tcp_options: if n.is_multiple_of(4) { vec![1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] } else { vec![] },
        ..Shape::default()
    };
    let mut flows: Vec<_> = (0..12).map(flow).collect();
    let mut all: Vec<Pushed> = Vec::new();
    for &(n, change) in steps {
        let state = &mut flows[n];
        let mut length = [100, 100, 64, 1400][n % 4];
        let mut shape = state.clone();
        match change {
            Change::Short => length = 1 + random.below(length),
            Change::Long => length += 1 + random.below(60),
            Change::PureAck => length = 0,
            Change::Flag(flag) => shape.flags |= flag,
            Change::NewAck => state.ack += 1,
            Change::Window => state.window += 1,
            Change::TcpOptions => shape.tcp_options = vec![1; 4 * random.below(4)],
            Change::IpOptions if shape.v6 => shape.extensions = vec![(60, vec![1, 4, 0, 0, 0, 0])],
            Change::IpOptions => shape.ip_options = vec![1; 4],
            Change::Ttl => shape.ttl -= 1,
            Change::Tos => shape.tos ^= 3,
            Change::Lost => state.sequence = state.sequence.wrapping_add(length as u32),
            Change::OldId => state.id = state.id.wrapping_sub(1),
            Change::MayFragment => state.fragment ^= 0x4000,
            Change::Fragment if !shape.v6 => shape.fragment = 0x2000,
            Change::OtherTag => shape.tags.push([0x81, 0, 0x20, 9]),
            _ => {}
        }
        shape.ack = state.ack;
        shape.window = state.window;
        shape.sequence = state.sequence;
        (shape.id, shape.fragment) = (state.id, if shape.fragment == 0x2000 { 0x2000 } else { state.fragment });
        let used = length as u32 + u32::from(shape.flags & (SYN | FIN) != 0);
        state.sequence = state.sequence.wrapping_add(used);
        state.id = state.id.wrapping_add(1);
        let mut whole = shape.build(&random.bytes(length));
        let (mut partial, mut may_merge) = (random.one_in(2), true);
        let (l3, l4, at) = (shape.l3(), shape.l4(), shape.checksum_at());
        match change {
            Change::Fragment if !shape.v6 => partial = false,
            Change::WrongChecksum => {
                let wrong = word(&whole, at) ^ 1 << random.below(16);
                set_word(&mut whole, at, wrong);
                // 0 and ffff are one number to TCP.
                may_merge = View::of(&whole).is_some_and(|view| shape.tcp && view.is_right(&whole));
                partial = false;
            }
            Change::NoChecksum if !shape.tcp => {
                set_word(&mut whole, at, 0);
                (partial, may_merge) = (false, false);
            }
            Change::WrongIpChecksum if !shape.v6 => {
                let wrong = word(&whole, l3 + 10) ^ 1 << random.below(16);
                set_word(&mut whole, l3 + 10, wrong);
                (partial, may_merge) = (false, false);
            }
            Change::UdpLength if !shape.tcp => {
                let wrong = word(&whole, l4 + 4) ^ 1 << random.below(6);
                set_word(&mut whole, l4 + 4, wrong);
                complete(&mut whole);
                may_merge = false;
            }
            Change::Padded => {
                whole.extend(vec![0; 1 + random.below(6)]);
                (partial, may_merge) = (false, false);
            }
            _ => {}
        }
        let mut frame = whole.clone();
        if partial {
            set_word(&mut frame, at, random.next() as u16);
        }
        let pushed = Pushed { bytes: frame, whole, partial, may_merge, change };
        if change == Change::Again {
            all.push(pushed.clone());
        }
        all.push(pushed);
        if change == Change::Swapped && all.len() > 1 {
            let last = all.len() - 1;
            all.swap(last - 1, last);
        }
    }
    all
}

/// Frames by flow; what has none is a flow of its own. The order of flows among each other is free.
fn by_flow(frames: impl Iterator<Item = Vec<u8>>) -> HashMap<Vec<u8>, Vec<Vec<u8>>> {
    let mut flows: HashMap<_, Vec<_>> = HashMap::new();
    for frame in frames {
        let flow = View::of(&frame).map(|view| view.flow(&frame)).unwrap_or_default();
        flows.entry(flow).or_default().push(canonical(&frame));
    }
    flows
}

/// The id of a frame that may not be fragmented means nothing (RFC 6864): a kernel that cuts super-frames counts it.
fn without_id(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    if let Some(view) =
        View::of(&frame).filter(|view| !view.v6 && frame[view.l3 + 6] & 0x40 != 0 && view.is_right(&frame))
    {
        set_word(&mut frame, view.l3 + 4, 0);
        complete(&mut frame);
    }
    frame
}

fn check_traffic(pushed: &[Pushed], merges: Merges, turn: usize, mut accepts: impl FnMut() -> bool) {
    let frames: Vec<_> = pushed.iter().map(|one| one.bytes.clone()).collect();
    let (mut coalescer, mut writes) = (Coalescer::default(), Vec::new());
    for (frames, pushed) in frames.chunks(turn).zip(pushed.chunks(turn)) {
        let mut arena = Arena::of(frames);
        for (place, one) in arena.places.clone().into_iter().zip(pushed) {
            coalescer.push(&arena.bytes, place, one.partial, merges);
        }
        writes.extend(written(&mut coalescer, &mut arena, &mut accepts));
    }
    // What may not be merged comes out alone and as it was.
    for one in pushed.iter().filter(|one| !one.may_merge && !one.partial) {
        let alone = [&[0; VIRTIO_BYTES][..], &one.bytes].concat();
        assert!(writes.contains(&alone), "{:?} was merged or changed", one.change);
    }
    let expanded: Vec<(bool, Vec<u8>)> =
        writes.iter().flat_map(|write| expand(write).into_iter().map(|frame| (write[1] != 0, frame))).collect();
    assert_eq!(expanded.len(), pushed.len(), "a frame is lost or doubled");
    let got = by_flow(expanded.iter().map(|(_, frame)| frame.clone()));
    let want = by_flow(pushed.iter().map(|one| one.whole.clone()));
    assert_eq!(got.len(), want.len());
    for (flow, want) in &want {
        let got = &got[flow];
        let told: Vec<_> =
            pushed.iter().filter(|one| View::of(&one.whole).is_some_and(|v| v.flow(&one.whole) == *flow)).collect();
        assert_eq!(got.len(), want.len());
        for (n, (got, want)) in got.iter().zip(want).enumerate() {
            let merged = expanded.iter().any(|(merged, frame)| *merged && canonical(frame) == *got);
            let same = got == want || merged && without_id(got) == without_id(want);
            let around: Vec<_> =
                told[n.saturating_sub(3)..told.len().min(n + 3)].iter().map(|one| one.change).collect();
            let head = |frame: &[u8]| frame[..frame.len().min(80)].to_vec();
            assert!(same, "frame {n} of a flow, around {around:?}\n got {:02x?}\nwant {:02x?}", head(got), head(want));
        }
    }
}

proptest! {
    #![proptest_config(cases(2000))]

    #[test]
    fn mixed_flows_come_out_as_they_went_in(
        steps in vec((0usize..12, changes()), 1..120), turn in 1usize..120, seed: u64, tcp: bool, udp: bool)
    {
        check_traffic(&traffic(&steps, seed), Merges { tcp, udp }, turn, || true);
    }

    #[test]
    fn few_flows_with_much_to_merge_come_out_as_they_went_in(
        steps in vec((0usize..3, changes()), 1..120), flow in 0usize..9, seed: u64)
    {
        let steps: Vec<_> = steps.into_iter().map(|(n, change)| (flow + n, change)).collect();
        check_traffic(&traffic(&steps, seed), BOTH, 120, || true);
    }

    #[test]
    fn a_writer_that_refuses_super_frames_gets_the_single_ones(
        steps in vec((0usize..12, changes()), 1..120), seed: u64, refusals: u64)
    {
        let pushed = traffic(&steps, seed);
        let frames: Vec<_> = pushed.iter().map(|one| one.bytes.clone()).collect();
        // Always: then every frame is exactly as it was, ids too, and its checksum whole.
        let (mut coalescer, mut arena) = (Coalescer::default(), Arena::of(&frames));
        for (place, one) in arena.places.clone().into_iter().zip(&pushed) {
            coalescer.push(&arena.bytes, place, one.partial, BOTH);
        }
        let writes = written(&mut coalescer, &mut arena, || false);
        let mut got: Vec<_> = writes.iter().flat_map(|write| expand(write)).map(|frame| canonical(&frame)).collect();
        let mut want: Vec<_> = pushed.iter().map(|one| canonical(&one.whole)).collect();
        got.sort();
        want.sort();
        prop_assert!(got == want, "frames differ");
        // Now and then.
        let mut random = Random(refusals | 1);
        check_traffic(&pushed, BOTH, 50, || random.one_in(2));
    }

    #[test]
    fn steady_flows_are_merged(n in 0usize..12, count in 2usize..46, turn in 46usize..64, seed: u64) {
        let pushed = traffic(&vec![(n, Change::None); count], seed);
        let frames: Vec<_> = pushed.iter().map(|one| one.bytes.clone()).collect();
        let (mut coalescer, mut arena) = (Coalescer::default(), Arena::of(&frames));
        for (place, one) in arena.places.clone().into_iter().zip(&pushed) {
            coalescer.push(&arena.bytes, place, one.partial, BOTH);
        }
        prop_assert_eq!(written(&mut coalescer, &mut arena, || true).len(), 1);
        check_traffic(&pushed, BOTH, turn, || true);
    }
}
