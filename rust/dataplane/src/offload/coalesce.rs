//! From frames of one flow to a super-frame: the rules of the kernel's GRO.

use std::ops::Range;

use super::headers::{Headers, Transport};
use super::segment::set_ip_length;
use super::{Gso, VIRTIO_BYTES, Virtio, checksum};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const DONT_FRAGMENT: u8 = 0x40;
/// Flows that take more frames at a time; the oldest closes for a new one (as in the kernel's GRO).
const MAX_OPEN: usize = 8;
/// Frames in one super-frame (the kernel's UDP_MAX_SEGMENTS; more than fit into 64 KiB at any usual MTU).
const MAX_FRAMES: usize = 64;
/// The largest IP packet.
const MAX_IP_BYTES: usize = 65_535;

/// Which super-frames a port takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merges {
    /// TCP.
    pub tcp: bool,
    /// UDP.
    pub udp: bool,
}

/// One write to a port: what goes in front, the first frame, and the payloads of those merged with it.
pub struct Write<'a> {
    /// The virtio header.
    pub virtio: [u8; VIRTIO_BYTES],
    /// The first frame, with the headers of the whole.
    pub first: &'a [u8],
    /// The payloads that follow, as places in `arena`.
    pub payloads: &'a [Range<usize>],
    /// Where they are.
    pub arena: &'a [u8],
}

/// Frames that became one, or a single one.
#[derive(Debug, Default)]
struct Entry {
    first: Range<usize>,
    /// Payloads of the frames that were merged into the first.
    payloads: Vec<Range<usize>>,
    headers: Option<Headers>,
    /// The frames' checksums are partial. They are the same for all: a whole one is checked and then counts as partial.
    partial: bool,
    payload_bytes: usize,
    next_sequence: u32,
    last_id: u16,
    /// Flags that only the last frame has.
    last_flags: u8,
}

/// Collects the frames of one turn for one port and writes them in order, merged where it can be.
#[derive(Debug, Default)]
pub struct Coalescer {
    entries: Vec<Entry>,
    /// Entries that take more, the oldest first.
    open: Vec<usize>,
    spare: Vec<Vec<Range<usize>>>,
}

impl Coalescer {
    /// Takes the frame at a place of the arena. `partial`: its TCP or UDP checksum is.
    pub fn push(&mut self, arena: &[u8], at: Range<usize>, partial: bool, merges: Merges) {
        let frame = &arena[at.clone()];
        let Some(headers) = Headers::parse_untrusted(frame) else {
            self.add(Entry { first: at, ..Entry::default() }, false);
            return;
        };
        let takes_more = match headers.transport {
            Transport::Tcp => merges.tcp,
            Transport::Udp => merges.udp,
        } && is_mergeable(frame, &headers);
        let known = self.open.iter().position(|&n| self.entries[n].is_same_flow(arena, frame, &headers));
        if let Some(place) = known {
            let entry = &mut self.entries[self.open[place]];
            if takes_more && entry.takes(arena, frame, &headers, partial) {
                if !entry.merge(frame, &headers, at) {
                    self.open.remove(place);
                }
                return;
            }
            self.open.remove(place); // what comes later must not overtake this frame
        }
        let payload_bytes = headers.end - headers.payload;
        let mut entry = Entry { first: at, headers: Some(headers), partial, payload_bytes, ..Entry::default() };
        entry.last_id = ip_id(frame, &headers);
        if headers.transport == Transport::Tcp {
            entry.next_sequence = sequence(frame, &headers).wrapping_add(payload_bytes as u32);
        }
        let open = takes_more && last_flags(frame, &headers) == 0;
        self.add(entry, open);
    }

    fn add(&mut self, mut entry: Entry, open: bool) {
        entry.payloads = self.spare.pop().unwrap_or_default();
        if open {
            if self.open.len() >= MAX_OPEN {
                self.open.remove(0);
            }
            self.open.push(self.entries.len());
        }
        self.entries.push(entry);
    }

    /// Gives everything to `write`, oldest first. It says false when it takes no super-frame: then it gets its frames one by one.
    pub fn flush(&mut self, arena: &mut [u8], mut write: impl FnMut(&Write<'_>) -> bool) {
        self.open.clear();
        for mut entry in self.entries.drain(..) {
            let virtio = entry.finish(arena).emit();
            let (first, payloads) = (entry.first.clone(), &entry.payloads[..]);
            if !write(&Write { virtio, first: &arena[first], payloads, arena }) {
                entry.undo(arena, |arena, frame| {
                    let virtio = Virtio::default().emit();
                    write(&Write { virtio, first: &arena[frame], payloads: &[], arena });
                });
            }
            entry.payloads.clear();
            if self.spare.len() < MAX_FRAMES {
                self.spare.push(entry.payloads);
            }
        }
    }
}

impl Entry {
    fn is_same_flow(&self, arena: &[u8], frame: &[u8], headers: &Headers) -> bool {
        let (Some(ours), first) = (self.headers, &arena[self.first.clone()]) else { return false };
        let addresses = if headers.v6 { headers.l3 + 8..headers.l3 + 40 } else { headers.l3 + 12..headers.l3 + 20 };
        let same_ports = first[ours.l4..ours.l4 + 4] == frame[headers.l4..headers.l4 + 4];
        let same = |range: Range<usize>| first[range.clone()] == frame[range];
        (ours.l3, ours.v6, ours.transport) == (headers.l3, headers.v6, headers.transport)
            && same(0..headers.l3)
            && same(addresses)
            && same_ports
    }

    /// Whether a frame of this flow, itself fit to be merged, continues what is here.
    fn takes(&mut self, arena: &[u8], frame: &[u8], headers: &Headers, partial: bool) -> bool {
        let (Some(ours), first) = (self.headers.filter(|ours| ours.l4 == headers.l4), &arena[self.first.clone()])
        else {
            return false;
        };
        let payload = headers.end - headers.payload;
        let ip_bytes = ours.payload - ours.l3 + self.payload_bytes + payload;
        let same = |from: usize, to: usize| first[from..to] == frame[from..to];
        let (l3, l4) = (headers.l3, headers.l4);
        let same_ip = match headers.v6 {
            true => same(l3, l3 + 4) && same(l3 + 6, l4),
            false => {
                let step = ip_id(frame, headers).wrapping_sub(self.last_id);
                let fixed = frame[l3 + 6] & DONT_FRAGMENT != 0;
                same(l3, l3 + 2) && same(l3 + 6, l3 + 10) && (step == 1 || fixed && step == 0)
            }
        };
        let same_transport = match headers.transport {
            Transport::Udp => true,
            Transport::Tcp => {
                let flags = first[l4 + 13] | PSH | FIN;
                ours.payload == headers.payload
                    && sequence(frame, headers) == self.next_sequence
                    && same(l4 + 8, l4 + 13)
                    && frame[l4 + 13] | PSH | FIN == flags
                    && same(l4 + 14, l4 + 16)
                    && same(l4 + 18, headers.payload)
            }
        };
        if payload > ours.end - ours.payload || ip_bytes > MAX_IP_BYTES || !same_ip || !same_transport {
            return false;
        }
        // A whole checksum must be right before it is given up for a partial one.
        let sound =
            (partial || checksum::is_right(frame, headers)) && (self.partial || checksum::is_right(first, &ours));
        self.partial |= sound;
        sound
    }

    /// Adds the frame; false when nothing may follow it.
    fn merge(&mut self, frame: &[u8], headers: &Headers, at: Range<usize>) -> bool {
        let payload = headers.end - headers.payload;
        self.payloads.push(at.start + headers.payload..at.end);
        self.payload_bytes += payload;
        self.next_sequence = self.next_sequence.wrapping_add(payload as u32);
        self.last_id = ip_id(frame, headers);
        self.last_flags = last_flags(frame, headers);
        let full = self.headers.is_some_and(|ours| payload == ours.end - ours.payload);
        full && self.last_flags == 0 && 1 + self.payloads.len() < MAX_FRAMES
    }

    /// Makes the first frame's headers those of the whole.
    fn finish(&self, arena: &mut [u8]) -> Virtio {
        let Some(headers) = self.headers.filter(|_| self.partial) else { return Virtio::default() };
        let frame = &mut arena[self.first.clone()];
        let is_tcp = headers.transport == Transport::Tcp;
        if self.payloads.is_empty() {
            if !is_tcp {
                checksum::complete(frame, &headers); // some DHCP clients drop a partial one (DATAPATH)
                return Virtio::default();
            }
            checksum::set_partial(frame, &headers);
        } else {
            self.set_extent(frame, &headers, headers.payload + self.payload_bytes);
            if is_tcp {
                frame[headers.l4 + 13] |= self.last_flags;
            }
        }
        let gso = match (self.payloads.is_empty(), is_tcp, headers.v6) {
            (true, ..) => Gso::None,
            (false, true, false) => Gso::Tcp4,
            (false, true, true) => Gso::Tcp6,
            (false, false, _) => Gso::Udp,
        };
        let gso_size = if gso == Gso::None { 0 } else { (headers.end - headers.payload) as u16 };
        let partial = Some((headers.l4 as u16, headers.checksum_offset() as u16));
        Virtio { partial, gso, gso_size, header_bytes: headers.payload as u16 }
    }

    /// Gives the frames that were merged back one by one, with whole checksums.
    fn undo(&self, arena: &mut [u8], mut each: impl FnMut(&[u8], Range<usize>)) {
        let Some(headers) = self.headers else { return };
        let frame = &mut arena[self.first.clone()];
        self.set_extent(frame, &headers, headers.end);
        if headers.transport == Transport::Tcp {
            frame[headers.l4 + 13] &= !self.last_flags;
        }
        checksum::complete(frame, &headers);
        each(arena, self.first.clone());
        for payload in &self.payloads {
            let frame = payload.start - headers.payload..payload.end;
            checksum::complete(&mut arena[frame.clone()], &Headers { end: frame.len(), ..headers });
            each(arena, frame);
        }
    }

    /// Writes every length for a frame that ends there, and the partial checksum.
    fn set_extent(&self, frame: &mut [u8], headers: &Headers, end: usize) {
        set_ip_length(frame, headers, end, 0);
        if headers.transport == Transport::Udp {
            let bytes = (end - headers.l4) as u16;
            frame[headers.l4 + 4..headers.l4 + 6].copy_from_slice(&bytes.to_be_bytes());
        }
        checksum::set_partial(frame, &Headers { end, ..*headers });
    }
}

/// Whether a frame may be the first or a later part of a super-frame.
fn is_mergeable(frame: &[u8], headers: &Headers) -> bool {
    let ip = &frame[headers.l3..headers.l4];
    let without_padding = headers.end == frame.len();
    let without_options = headers.v6 || ip.len() == 20 && checksum::fold(checksum::sum(ip)) == 0xffff;
    let fits = match headers.transport {
        Transport::Tcp => frame[headers.l4 + 13] & !(PSH | FIN) == ACK,
        Transport::Udp => usize::from(word(frame, headers.l4 + 4)) == headers.end - headers.l4,
    };
    without_padding && without_options && fits && headers.end > headers.payload
}

/// FIN and PSH: nothing follows them in a super-frame.
fn last_flags(frame: &[u8], headers: &Headers) -> u8 {
    match headers.transport {
        Transport::Tcp => frame[headers.l4 + 13] & (PSH | FIN),
        Transport::Udp => 0,
    }
}

fn sequence(frame: &[u8], headers: &Headers) -> u32 {
    u32::from(word(frame, headers.l4 + 4)) << 16 | u32::from(word(frame, headers.l4 + 6))
}

/// IPv6 has none.
fn ip_id(frame: &[u8], headers: &Headers) -> u16 {
    if headers.v6 { 0 } else { word(frame, headers.l3 + 4) }
}

fn word(frame: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([frame[at], frame[at + 1]])
}
