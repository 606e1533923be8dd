//! Segmentation and coalescing against a naive reference: what is cut and merged means the same as before.
#![allow(missing_docs)]

mod reference;

use peertap_dataplane::offload::checksum;
use peertap_dataplane::offload::coalesce::{Coalescer, Merges};
use peertap_dataplane::offload::headers::{Headers, Transport};
use peertap_dataplane::offload::segment::{Plan, plan_untrusted};
use peertap_dataplane::offload::{Gso, VIRTIO_BYTES, Virtio};
use proptest::collection::vec;
use proptest::prelude::*;
use reference::super_frames::*;
use reference::{ACK, CWR, FIN, PSH, Shape, View, complete, expand, set_word, word};

proptest! {
    #![proptest_config(cases(1000))]

    #[test]
    fn headers_are_where_the_reference_has_them(shape in shapes(true), length in 0usize..100) {
        let frame = shape.build(&bytes(length, 1));
        let transport = if shape.tcp { Transport::Tcp } else { Transport::Udp };
        let want = Headers {
            l3: shape.l3(), v6: shape.v6, l4: shape.l4(), transport, payload: shape.payload(), end: frame.len(),
        };
        prop_assert_eq!(Headers::parse_untrusted(&frame), Some(want));
        prop_assert_eq!(want.checksum_at(), shape.checksum_at());
        prop_assert!(checksum::is_right(&frame, &want));
        for at in shape.l4()..frame.len() {
            let mut wrong = frame.clone();
            wrong[at] ^= 0x10;
            prop_assert!(!checksum::is_right(&wrong, &want));
        }
        // Ethernet padding changes neither.
        let padded = [&frame[..], &[7; 9]].concat();
        prop_assert_eq!(Headers::parse_untrusted(&padded), Some(want));
        prop_assert!(checksum::is_right(&padded, &want));
        for end in 0..frame.len() {
            prop_assert_eq!(Headers::parse_untrusted(&frame[..end]), None);
        }
    }

    #[test]
    fn a_checksum_is_completed_to_the_references(shape in shapes(true), length in 0usize..100, garbage: u16) {
        let whole = shape.build(&bytes(length, 2));
        let headers = Headers::parse_untrusted(&whole).unwrap();
        let mut frame = whole.clone();
        set_word(&mut frame, shape.checksum_at(), garbage);
        let mut partial = frame.clone();
        checksum::set_partial(&mut partial, &headers);
        prop_assert_eq!(u32::from(word(&partial, shape.checksum_at())), View::of(&frame).unwrap().pseudo_sum(&frame));
        checksum::complete(&mut frame, &headers);
        prop_assert_eq!(&frame, &whole);
        prop_assert!(checksum::complete_from(&mut partial, shape.l4(), shape.checksum_at()));
        prop_assert_eq!(&partial, &whole);
    }

    #[test]
    fn segments_are_those_of_the_reference(shape in shapes(true), (length, size) in extents(), seed: u64) {
        prop_assume!(length + 120 < 65_535 && length > size);
        let payload = bytes(length, seed);
        let (virtio, mut frame) = super_frame(&shape, &payload, size);
        let split = planned_split(&mut frame, &virtio);
        let got = segments(&frame, &split);
        prop_assert_eq!(split.count(), length.div_ceil(size));
        prop_assert_eq!(got.iter().map(Vec::len).max(), Some(split.frame_bytes()));
        let joined: Vec<u8> = got.iter().flat_map(|one| one[shape.payload()..].to_vec()).collect();
        prop_assert_eq!(joined, payload);
        let want = reference::split(&frame, size);
        prop_assert_eq!(got.len(), want.len());
        let last = want.len() - 1;
        for (n, (got, want)) in got.iter().zip(&want).enumerate() {
            let view = View::of(got).unwrap();
            prop_assert_eq!(u32::from(word(got, view.checksum_at())), view.pseudo_sum(got));
            let mut whole = got.clone();
            checksum::complete(&mut whole, &Headers::parse_untrusted(got).unwrap());
            prop_assert!(View::of(&whole).unwrap().is_right(&whole));
            prop_assert_eq!(&whole, want);
            if shape.tcp {
                let flags = got[shape.l4() + 13];
                let here = |flag, is_here: bool| if is_here { shape.flags & flag } else { 0 };
                prop_assert_eq!(flags & (FIN | PSH), here(FIN | PSH, n == last));
                prop_assert_eq!(flags & CWR, here(CWR, n == 0));
                prop_assert_eq!(flags & !(FIN | PSH | CWR), shape.flags & !(FIN | PSH | CWR));
            }
            if !shape.v6 {
                prop_assert_eq!(word(got, shape.l3() + 4), shape.id.wrapping_add(n as u16));
            }
        }
    }

    #[test]
    fn a_limit_cuts_tcp_smaller_and_leaves_datagrams(
        shape in shapes(true), (length, size) in extents(), limit in 0usize..2000)
    {
        prop_assume!(length + 120 < 65_535 && length > size);
        let payload = bytes(length, 3);
        let (virtio, mut frame) = super_frame(&shape, &payload, size);
        let mut split = planned_split(&mut frame, &virtio);
        let before = split;
        let fits = split.limit(limit);
        prop_assert_eq!(fits, before.frame_bytes() <= limit || shape.tcp && limit > shape.payload());
        if before.frame_bytes() <= limit || !fits {
            prop_assert_eq!(split, before);
        }
        prop_assert!(split.size > 0 && (!fits || split.frame_bytes() <= limit));
        let got = segments(&frame, &split);
        let joined: Vec<u8> = got.iter().flat_map(|one| one[shape.payload()..].to_vec()).collect();
        prop_assert_eq!(joined, payload);
    }

    #[test]
    fn what_was_split_becomes_one_super_frame_again(shape in shapes(false), (length, size) in extents(), whole: bool) {
        prop_assume!(length + 120 < 65_535 && length > size);
        let (mut shape, payload) = (shape, bytes(length, 4));
        shape.flags &= !CWR; // the first segment would stand alone
        let (virtio, mut frame) = super_frame(&shape, &payload, size);
        let split = planned_split(&mut frame, &virtio);
        let mut frames = segments(&frame, &split);
        if whole {
            frames.iter_mut().for_each(|one| complete(one));
        }
        let writes = coalesce(&frames, !whole);
        prop_assert_eq!(writes.len(), 1);
        prop_assert_eq!(&writes[0][..VIRTIO_BYTES], &virtio.emit()[..]);
        prop_assert_eq!(&writes[0][VIRTIO_BYTES..], &frame[..]);
        prop_assert_eq!(expand(&writes[0]), reference::split(&frame, size));
    }

    #[test]
    fn a_segment_with_cwr_stays_alone(shape in shapes(false), seed: u64) {
        let shape = Shape { tcp: true, flags: ACK | PSH | CWR, ..shape };
        let (virtio, mut frame) = super_frame(&shape, &bytes(1000, seed), 100);
        let split = planned_split(&mut frame, &virtio);
        let writes = coalesce(&segments(&frame, &split), true);
        prop_assert_eq!(writes.len(), 2);
        let frames: Vec<_> = writes.iter().flat_map(|write| expand(write)).collect();
        prop_assert_eq!(frames, reference::split(&frame, 100));
    }

    #[test]
    fn no_frame_is_planned_otherwise_than_its_kernel_says(
        shape in shapes(true), length in 0usize..300, pad in 0usize..9)
    {
        let payload = bytes(length, 5);
        let whole = shape.build(&payload);
        // Without a word from the kernel nothing is touched.
        let mut frame = [&whole[..], &vec![3; pad]].concat();
        let before = frame.clone();
        prop_assert_eq!(plan_untrusted(&mut frame, &Virtio::default()), Some(Plan::Whole));
        prop_assert_eq!(&frame, &before);
        // A partial checksum is either left to the receiver or completed.
        let (virtio, mut frame) = super_frame(&shape, &payload, 0);
        match plan_untrusted(&mut frame, &virtio) {
            Some(Plan::Partial(headers)) => checksum::complete(&mut frame, &headers),
            plan => prop_assert_eq!(plan, Some(Plan::Whole)),
        }
        prop_assert_eq!(&frame, &whole);
        // A super-frame of one segment is none.
        let (virtio, mut frame) = super_frame(&shape, &payload, length.max(1));
        let plan = plan_untrusted(&mut frame, &virtio);
        prop_assert!(matches!(plan, Some(Plan::Partial(_))), "{plan:?}");
        // Another kind of super-frame than the frame is, one without size, and one with padding are refused.
        for gso in [Gso::Tcp4, Gso::Tcp6, Gso::Udp] {
            let fits = gso == virtio.gso;
            prop_assert_eq!(plan_untrusted(&mut frame, &Virtio { gso, ..virtio }).is_some(), fits);
            prop_assert_eq!(plan_untrusted(&mut frame, &Virtio { gso, gso_size: 0, ..virtio }), None);
        }
        frame.push(0);
        prop_assert_eq!(plan_untrusted(&mut frame, &virtio), None);
    }
}

#[test]
fn a_routing_header_that_is_still_on_its_way_gets_the_checksum_of_the_last_destination() {
    // RFC 8200, 8.1: while segments are left the pseudo-header has the last address of the routing header.
    for tcp in [true, false] {
        let mut routing = vec![4, 1, 0, 0, 0, 0];
        routing.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9]);
        let shape = Shape { v6: true, tcp, extensions: vec![(43, routing)], ..Shape::default() };
        let payload = bytes(3000, 6);
        let whole = shape.build(&payload);
        let (virtio, mut frame) = super_frame(&shape, &payload, 0);
        if let Some(Plan::Partial(headers)) = plan_untrusted(&mut frame, &virtio) {
            checksum::complete(&mut frame, &headers);
        }
        assert_eq!(frame, whole, "a single frame");
        // A super-frame of this kind is refused, or cut rightly.
        let (virtio, mut frame) = super_frame(&shape, &payload, 1000);
        if let Some(plan) = plan_untrusted(&mut frame, &virtio) {
            let Plan::Split(split) = plan else { panic!("{plan:?}") };
            let mut got = segments(&frame, &split);
            for one in &mut got {
                let headers = Headers::parse_untrusted(one).unwrap();
                checksum::complete(one, &headers);
            }
            assert_eq!(got, reference::split(&frame, 1000), "a super-frame");
        }
    }
}

#[test]
fn a_run_of_more_than_64_frames_becomes_several_super_frames_and_none_is_larger_than_an_ip_packet() {
    for (tcp, v6) in [(true, false), (true, true), (false, false), (false, true)] {
        for (size, count, writes) in [(10, 130, 3), (1400, 64, 2), (9000, 14, 2), (32_000, 5, 3)] {
            let shape = Shape { tcp, v6, flags: ACK, ..Shape::default() };
            let frames: Vec<_> = (0..count)
                .map(|n| {
                    let step = n as u32 * size as u32;
                    let id = shape.id.wrapping_add(n as u16);
                    let one = Shape { id, sequence: shape.sequence.wrapping_add(step), ..shape.clone() };
                    one.build(&bytes(size, n as u64))
                })
                .collect();
            let got = coalesce(&frames, false);
            assert_eq!(got.len(), writes, "tcp {tcp}, v6 {v6}, {count} of {size}");
            assert_eq!(got.iter().flat_map(|write| expand(write)).collect::<Vec<_>>(), frames);
        }
    }
}

#[test]
fn a_datagram_without_checksum_is_never_merged() {
    let frames: Vec<_> = (0..5)
        .map(|n| {
            let mut frame = Shape { tcp: false, id: n, ..Shape::default() }.build(&[n as u8; 100]);
            set_word(&mut frame, 40, 0);
            frame
        })
        .collect();
    let plain: Vec<_> = frames.iter().map(|frame| [&[0; VIRTIO_BYTES][..], frame].concat()).collect();
    assert_eq!(coalesce(&frames, false), plain);
}

#[test]
fn a_single_datagram_leaves_complete_and_a_single_tcp_segment_may_stay_partial() {
    for v6 in [true, false] {
        for tcp in [true, false] {
            // Payloads whose checksum is zero are among them: UDP says ffff then (RFC 768).
            for n in 0..=0xffff_u16 {
                let shape = Shape { v6, tcp, ..Shape::default() };
                let whole = shape.build(&n.to_be_bytes());
                let mut frame = whole.clone();
                set_word(&mut frame, shape.checksum_at(), 0);
                let writes = coalesce(&[frame], true);
                assert_eq!(writes.len(), 1);
                assert!(tcp || writes[0] == [&[0; VIRTIO_BYTES][..], &whole].concat());
                assert_ne!(word(&whole, shape.checksum_at()), 0);
                assert_eq!(expand(&writes[0]), [whole]);
            }
        }
    }
}

#[test]
fn merging_stops_at_what_a_port_takes() {
    for (merges, tcp, udp) in [(Merges { tcp: true, udp: false }, 1, 4), (Merges { tcp: false, udp: true }, 4, 1)] {
        for (is_tcp, writes) in [(true, tcp), (false, udp)] {
            let of =
                |n: u32| Shape { tcp: is_tcp, id: n as u16, sequence: n * 100, ..Shape::default() }.build(&[1; 100]);
            let frames: Vec<_> = (0..4).map(of).collect();
            let (mut coalescer, mut arena) = (Coalescer::default(), Arena::of(&frames));
            for place in arena.places.clone() {
                coalescer.push(&arena.bytes, place, false, merges);
            }
            assert_eq!(written(&mut coalescer, &mut arena, || true).len(), writes);
        }
    }
}

/// Nearly a frame: a real one, cut, lengthened, with some bytes changed, or anything at all.
fn nearly_frames() -> impl Strategy<Value = Vec<u8>> {
    let edits = vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let lengths = (0usize..40, any::<prop::sample::Index>(), 0usize..12);
    let real = (shapes(true), lengths, edits, any::<bool>()).prop_map(|(shape, (length, cut, more), edits, is_cut)| {
        let mut frame = shape.build(&bytes(length, 8));
        if is_cut {
            frame.truncate(cut.index(frame.len()));
        } else {
            frame.extend(vec![9; more]);
        }
        // Headers are where it hurts.
        for (at, byte) in edits {
            let at = 12 + at.index(frame.len().max(1));
            if let Some(place) = frame.get_mut(at) {
                *place = byte;
            }
        }
        frame
    });
    let any = (vec(any::<u8>(), 0..120), 0u8..4).prop_map(|(mut bytes, kind)| {
        let types = [&[0x08, 0x00, 0x45][..], &[0x86, 0xdd, 0x60], &[0x81, 0x00], &[]];
        for (n, byte) in types[usize::from(kind)].iter().enumerate() {
            if let Some(place) = bytes.get_mut(12 + n) {
                *place = *byte;
            }
        }
        bytes
    });
    prop_oneof![4 => real, 1 => any]
}

proptest! {
    #![proptest_config(cases(if cfg!(debug_assertions) { 4000 } else { 20_000 }))]

    #[test]
    fn nothing_in_a_frame_or_virtio_header_panics(
        frame in nearly_frames(), head: [u8; 4], edges: [u16; 3], near: bool)
    {
        let mut raw = virtio_of(&head, &edges, near.then(|| View::of(&frame)).flatten());
        raw[1] &= 0x87;
        let Some(virtio) = Virtio::parse_untrusted(&raw) else { return Ok(()) };
        let again = Virtio::parse_untrusted(&virtio.emit()).unwrap();
        prop_assert_eq!(again, Virtio { partial: again.partial, ..virtio });
        if let Some(headers) = Headers::parse_untrusted(&frame) {
            prop_assert!(headers.l3 < headers.l4 && headers.l4 < headers.payload);
            prop_assert!(headers.payload <= headers.end && headers.end <= frame.len());
            let view = View::of(&frame).expect("the reference sees a frame too");
            prop_assert!(!view.fragment);
            let Headers { l3, l4, payload, end, .. } = headers;
            prop_assert_eq!((view.l3, view.l4, view.payload, view.end), (l3, l4, payload, end));
            checksum::is_right(&frame, &headers);
            checksum::complete(&mut frame.clone(), &headers);
        }
        let mut planned = frame.clone();
        match plan_untrusted(&mut planned, &virtio) {
            Some(Plan::Split(split)) => {
                for limit in [usize::MAX, 0, split.headers.payload, split.headers.payload + 1, 90] {
                    let mut split = split;
                    let fits = split.limit(limit);
                    prop_assert!(!fits || split.frame_bytes() <= limit);
                    let payloads = segments(&planned, &split).into_iter().map(|one| one.len() - split.headers.payload);
                    let payload: usize = payloads.sum();
                    prop_assert_eq!(payload, split.headers.end - split.headers.payload);
                }
            }
            Some(Plan::Partial(headers)) => checksum::complete(&mut planned, &headers),
            Some(Plan::Whole) => prop_assert_eq!(planned.len(), frame.len()),
            None => prop_assert_eq!(planned, frame),
        }
    }

    #[test]
    fn no_frames_make_a_coalescer_panic_or_lose_one(
        frames in vec((nearly_frames(), any::<bool>(), any::<prop::sample::Index>(), any::<bool>()), 1..12),
        tcp: bool, udp: bool)
    {
        // Some again and again, so that flows meet; with the checksum made right, so that they merge.
        let mut all = Vec::new();
        for (frame, partial, other, fix) in &frames {
            let other = &frames[other.index(frames.len())].0;
            for frame in [frame, other] {
                let mut frame = frame.clone();
                match Headers::parse_untrusted(&frame) {
                    Some(headers) if *fix => checksum::complete(&mut frame, &headers),
                    _ => {}
                }
                all.push((frame, *partial));
            }
        }
        for accept in [true, false] {
            let bytes: Vec<_> = all.iter().map(|(frame, _)| frame.clone()).collect();
            let (mut coalescer, mut arena) = (Coalescer::default(), Arena::of(&bytes));
            for (place, (_, partial)) in arena.places.clone().into_iter().zip(&all) {
                coalescer.push(&arena.bytes, place, *partial, Merges { tcp, udp });
            }
            let writes = written(&mut coalescer, &mut arena, || accept);
            let count = |write: &Vec<u8>| if write[1] == 0 { 1 } else { expand(write).len() };
            prop_assert_eq!(writes.iter().map(count).sum::<usize>(), all.len());
        }
    }
}

/// A virtio header with edges at or near those of a frame.
fn virtio_of(head: &[u8; 4], edges: &[u16; 3], view: Option<View>) -> [u8; VIRTIO_BYTES] {
    let near =
        |base: usize, edge: u16| (base as u16).wrapping_add(if edge.is_multiple_of(4) { edge / 4 % 9 } else { 0 });
    let [size, start, offset] = match view {
        Some(view) => [edges[0] % 50, near(view.l4, edges[1]), near(view.checksum_at() - view.l4, edges[2])],
        None => *edges,
    };
    let mut raw = [0; VIRTIO_BYTES];
    raw[..4].copy_from_slice(head);
    for (at, word) in [(4, size), (6, start), (8, offset)] {
        raw[at..at + 2].copy_from_slice(&word.to_ne_bytes());
    }
    raw
}
