//! A naive second opinion on checksums, headers and segmentation: slow, short, and it shares no line with the crate.
#![allow(dead_code)] // each test binary uses its part
#![allow(missing_docs)]

pub mod super_frames;

pub const FIN: u8 = 1;
pub const SYN: u8 = 2;
pub const RST: u8 = 4;
pub const PSH: u8 = 8;
pub const ACK: u8 = 16;
pub const URG: u8 = 32;
pub const ECE: u8 = 64;
pub const CWR: u8 = 128;

/// Bytes of the virtio header.
pub const VIRTIO: usize = 10;

/// A small generator with a seed (xorshift64*), so that a failure can be repeated.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 16) as usize % n
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| (self.next() >> 24) as u8).collect()
    }
}

/// The one's complement sum of 16-bit words.
pub fn sum(bytes: &[u8]) -> u32 {
    let mut total = 0u32;
    for (at, &byte) in bytes.iter().enumerate() {
        total += if at % 2 == 0 { u32::from(byte) << 8 } else { u32::from(byte) };
        if total > 0xffff {
            total -= 0xffff;
        }
    }
    total
}

pub fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from(bytes[at]) << 8 | u16::from(bytes[at + 1])
}

pub fn long(bytes: &[u8], at: usize) -> u32 {
    u32::from(word(bytes, at)) << 16 | u32::from(word(bytes, at + 2))
}

pub fn set_word(bytes: &mut [u8], at: usize, word: u16) {
    bytes[at] = (word >> 8) as u8;
    bytes[at + 1] = word as u8;
}

/// All that a frame says in front of its payload.
#[derive(Clone, Debug)]
pub struct Shape {
    pub dst: [u8; 6],
    pub src: [u8; 6],
    pub tags: Vec<[u8; 4]>,
    pub v6: bool,
    pub tcp: bool,
    /// A multiple of 4 bytes, at most 40.
    pub ip_options: Vec<u8>,
    /// IPv6 extension headers by number, with their bytes from the third on (6 + 8 n).
    pub extensions: Vec<(u8, Vec<u8>)>,
    /// A multiple of 4 bytes, at most 40.
    pub tcp_options: Vec<u8>,
    pub from: u16,
    pub to: u16,
    pub id: u16,
    /// The three flags and the offset, shifted as in the header.
    pub fragment: u16,
    pub tos: u8,
    pub ttl: u8,
    pub sequence: u32,
    pub ack: u32,
    pub flags: u8,
    pub window: u16,
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            dst: [2, 0, 0, 0, 0, 2],
            src: [2, 0, 0, 0, 0, 1],
            tags: vec![],
            v6: false,
            tcp: true,
            ip_options: vec![],
            extensions: vec![],
            tcp_options: vec![],
            from: 40_000,
            to: 5201,
            id: 0xfff0,
            fragment: 0x4000,
            tos: 0,
            ttl: 64,
            sequence: 0xffff_f000,
            ack: 7,
            flags: ACK,
            window: 500,
        }
    }
}

impl Shape {
    pub fn l3(&self) -> usize {
        14 + 4 * self.tags.len()
    }

    pub fn l4(&self) -> usize {
        let extensions: usize = self.extensions.iter().map(|(_, bytes)| 2 + bytes.len()).sum();
        self.l3() + if self.v6 { 40 + extensions } else { 20 + self.ip_options.len() }
    }

    pub fn payload(&self) -> usize {
        self.l4() + if self.tcp { 20 + self.tcp_options.len() } else { 8 }
    }

    pub fn checksum_at(&self) -> usize {
        self.l4() + if self.tcp { 16 } else { 6 }
    }

    /// The frame with whole checksums.
    pub fn build(&self, payload: &[u8]) -> Vec<u8> {
        let mut frame = [self.dst, self.src].concat();
        self.tags.iter().for_each(|tag| frame.extend(tag));
        frame.extend(if self.v6 { [0x86, 0xdd] } else { [0x08, 0x00] });
        let protocol = if self.tcp { 6 } else { 17 };
        let ip_bytes = self.payload() - self.l3() + payload.len();
        if self.v6 {
            let bytes = (ip_bytes - 40) as u16;
            frame.extend([0x60 | self.tos >> 4, self.tos << 4, 0, 1]);
            frame.extend(bytes.to_be_bytes());
            let numbers: Vec<u8> = self.extensions.iter().map(|(number, _)| *number).chain([protocol]).collect();
            frame.extend([numbers[0], self.ttl]);
            frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            frame.extend([0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
            for (n, (_, bytes)) in self.extensions.iter().enumerate() {
                frame.extend([numbers[n + 1], (bytes.len() / 8) as u8]);
                frame.extend(bytes);
            }
        } else {
            frame.extend([0x45 + (self.ip_options.len() / 4) as u8, self.tos]);
            frame.extend((ip_bytes as u16).to_be_bytes());
            frame.extend(self.id.to_be_bytes());
            frame.extend(self.fragment.to_be_bytes());
            frame.extend([self.ttl, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            frame.extend(&self.ip_options);
        }
        assert_eq!(frame.len(), self.l4());
        frame.extend(self.from.to_be_bytes());
        frame.extend(self.to.to_be_bytes());
        if self.tcp {
            frame.extend(self.sequence.to_be_bytes());
            frame.extend(self.ack.to_be_bytes());
            frame.extend([0x50 + ((self.tcp_options.len() / 4) << 4) as u8, self.flags]);
            frame.extend(self.window.to_be_bytes());
            frame.extend([0; 4]);
            frame.extend(&self.tcp_options);
        } else {
            frame.extend((8 + payload.len() as u16).to_be_bytes());
            frame.extend([0; 2]);
        }
        frame.extend(payload);
        complete(&mut frame);
        frame
    }

    /// The same with the virtio header of the kernel in front: a partial checksum, and a super-frame if `size` says so.
    pub fn build_virtio(&self, payload: &[u8], size: usize) -> Vec<u8> {
        let mut frame = self.build(payload);
        let (l4, at) = (self.l4(), self.checksum_at());
        let partial = View::of(&frame).unwrap().pseudo_sum(&frame) as u16;
        set_word(&mut frame, at, partial);
        let kind = match (size, self.tcp, self.v6) {
            (0, ..) => 0,
            (_, true, false) => 1,
            (_, true, true) => 4,
            (_, false, _) => 5,
        };
        let kind = kind | if self.tcp && size > 0 && self.flags & CWR != 0 { 0x80 } else { 0 };
        [virtio(kind, self.payload(), size, Some((l4, at - l4))), frame].concat()
    }
}

pub fn virtio(kind: u8, header: usize, size: usize, partial: Option<(usize, usize)>) -> Vec<u8> {
    let (start, offset) = partial.unwrap_or_default();
    let mut bytes = vec![u8::from(partial.is_some()), kind];
    [header, size, start, offset].iter().for_each(|&n| bytes.extend((n as u16).to_ne_bytes()));
    bytes
}

/// Where things are in a TCP or UDP frame, fragments and padding included.
#[derive(Clone, Copy, Debug)]
pub struct View {
    pub l3: usize,
    pub v6: bool,
    pub l4: usize,
    pub tcp: bool,
    pub payload: usize,
    /// As the IP header says.
    pub end: usize,
    pub fragment: bool,
    /// The checksum's destination address: the routing header's last one while segments are left (RFC 8200, 8.1).
    dst: usize,
}

impl View {
    pub fn of(frame: &[u8]) -> Option<View> {
        let mut l3 = 14;
        while matches!(word(frame.get(..l3)?, l3 - 2), 0x8100 | 0x88a8 | 0x9100) && l3 < 22 {
            l3 += 4;
        }
        let ip = frame.get(l3..)?;
        let v6 = match word(frame, l3 - 2) {
            0x0800 if ip.len() >= 20 && ip[0] >> 4 == 4 && ip[0] & 15 >= 5 => false,
            0x86dd if ip.len() >= 40 && ip[0] >> 4 == 6 => true,
            _ => return None,
        };
        let (mut l4, mut protocol, mut dst) = (l3 + 40, ip[6], l3 + 24);
        let (mut end, mut fragment) = (l3 + 40 + usize::from(word(ip, 4)), false);
        if v6 {
            while matches!(protocol, 0 | 43 | 60) {
                let extension = frame.get(l4..)?;
                let bytes = 8 + 8 * usize::from(*extension.get(1)?);
                if extension.len() < bytes {
                    return None;
                }
                if protocol == 43 && extension[3] > 0 {
                    dst = l4 + bytes - 16;
                }
                (protocol, l4) = (extension[0], l4 + bytes);
            }
        } else {
            (l4, protocol, dst) = (l3 + 4 * usize::from(ip[0] & 15), ip[9], l3 + 16);
            end = l3 + usize::from(word(ip, 2));
            fragment = word(ip, 6) & 0x3fff != 0;
        }
        let tcp = protocol == 6;
        if protocol != 6 && protocol != 17 || l4 + if tcp { 20 } else { 8 } > frame.len() {
            return None;
        }
        let payload = l4 + if tcp { 4 * usize::from(frame[l4 + 12] >> 4) } else { 8 };
        (payload <= end && end <= frame.len()).then_some(View { l3, v6, l4, tcp, payload, end, fragment, dst })
    }

    pub fn checksum_at(&self) -> usize {
        self.l4 + if self.tcp { 16 } else { 6 }
    }

    pub fn pseudo_sum(&self, frame: &[u8]) -> u32 {
        let (src, n) = if self.v6 { (self.l3 + 8, 16) } else { (self.l3 + 12, 4) };
        let bytes = (self.end - self.l4) as u16;
        let pseudo = [&frame[src..src + n], &frame[self.dst..self.dst + n]].concat();
        sum(&[&pseudo[..], &bytes.to_be_bytes(), &[0, if self.tcp { 6 } else { 17 }]].concat())
    }

    /// Who talks to whom, as far as order matters.
    pub fn flow(&self, frame: &[u8]) -> Vec<u8> {
        let addresses = if self.v6 { self.l3 + 8..self.l3 + 40 } else { self.l3 + 12..self.l3 + 20 };
        let kind = [u8::from(self.v6), u8::from(self.tcp), u8::from(self.fragment)];
        [&frame[..self.l3], &frame[addresses], &frame[self.l4..self.l4 + 4], &kind].concat()
    }

    pub fn is_right(&self, frame: &[u8]) -> bool {
        let bytes = &frame[self.l4..self.end];
        let ip_is_right = self.v6 || sum(&frame[self.l3..self.l4]) == 0xffff;
        ip_is_right && sum(&[(self.pseudo_sum(frame) as u16).to_be_bytes().as_slice(), bytes].concat()) == 0xffff
    }
}

/// Writes the IPv4 header's checksum and the whole one of TCP or UDP.
pub fn complete(frame: &mut [u8]) {
    let view = View::of(frame).expect("TCP or UDP");
    if !view.v6 {
        set_word(frame, view.l3 + 10, 0);
        let checksum = !(sum(&frame[view.l3..view.l4]) as u16);
        set_word(frame, view.l3 + 10, checksum);
    }
    set_word(frame, view.checksum_at(), 0);
    let pseudo = (view.pseudo_sum(frame) as u16).to_be_bytes();
    let checksum = !(sum(&[&pseudo, &frame[view.l4..view.end]].concat()) as u16);
    set_word(frame, view.checksum_at(), if checksum == 0 { 0xffff } else { checksum });
}

/// What a kernel makes of a write with a virtio header: the frames, with whole checksums.
pub fn expand(write: &[u8]) -> Vec<Vec<u8>> {
    let native = |at: usize| usize::from(u16::from_ne_bytes([write[at], write[at + 1]]));
    let (flags, kind, size, frame) = (write[0], write[1] & 0x7f, native(4), &write[VIRTIO..]);
    if kind == 0 {
        let mut frame = frame.to_vec();
        if flags & 1 != 0 {
            let (start, at) = (native(6), native(6) + native(8));
            let checksum = !(sum(&frame[start..]) as u16);
            set_word(&mut frame, at, if checksum == 0 { 0xffff } else { checksum });
        }
        return vec![frame];
    }
    // The conditions of virtio_net_hdr_to_skb: anything else is EINVAL.
    let view = View::of(frame).expect("a super-frame is TCP or UDP");
    assert_eq!(flags & 1, 1, "a super-frame needs NEEDS_CSUM");
    assert_eq!((native(6), native(6) + native(8)), (view.l4, view.checksum_at()));
    assert_eq!(native(2), view.payload, "header length");
    assert_eq!(
        (view.end, kind),
        (
            frame.len(),
            match (view.tcp, view.v6) {
                (true, false) => 1,
                (true, true) => 4,
                _ => 5,
            }
        )
    );
    let partial = word(frame, view.checksum_at());
    assert_eq!(u32::from(partial), view.pseudo_sum(frame), "the pseudo-header's sum over the full length");
    assert!(view.v6 || sum(&frame[view.l3..view.l4]) == 0xffff, "the IPv4 header's checksum");
    assert!(view.tcp || usize::from(word(frame, view.l4 + 4)) == frame.len() - view.l4, "the UDP length");
    assert!(size > 0 && frame.len() > view.payload + size && frame.len() - view.l3 <= 65_535);
    assert!((frame.len() - view.payload).div_ceil(size) <= 64 || view.tcp);
    split(frame, size)
}

/// Segments of a super-frame with whole checksums.
pub fn split(frame: &[u8], size: usize) -> Vec<Vec<u8>> {
    let view = View::of(frame).expect("TCP or UDP");
    let count = (view.end - view.payload).div_ceil(size);
    let each = |(n, payload): (usize, &[u8])| {
        let mut out = [&frame[..view.payload], payload].concat();
        let ip_bytes = (out.len() - view.l3) as u16;
        if view.v6 {
            set_word(&mut out, view.l3 + 4, ip_bytes - 40);
        } else {
            set_word(&mut out, view.l3 + 2, ip_bytes);
            set_word(&mut out, view.l3 + 4, word(frame, view.l3 + 4).wrapping_add(n as u16));
        }
        if view.tcp {
            let sequence = long(frame, view.l4 + 4).wrapping_add((n * size) as u32);
            set_word(&mut out, view.l4 + 4, (sequence >> 16) as u16);
            set_word(&mut out, view.l4 + 6, sequence as u16);
            let not_last = if n + 1 < count { FIN | PSH } else { 0 };
            out[view.l4 + 13] &= !(not_last | if n > 0 { CWR } else { 0 });
        } else {
            let bytes = (out.len() - view.l4) as u16;
            set_word(&mut out, view.l4 + 4, bytes);
        }
        complete(&mut out);
        out
    };
    frame[view.payload..view.end].chunks(size).enumerate().map(each).collect()
}

/// One form for frames that mean the same: of TCP's two checksums 0 and ffff, which are one number, the latter.
pub fn canonical(frame: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let view = View::of(&frame).filter(|view| view.tcp && view.is_right(&frame));
    if let Some(at) = view.map(|view| view.checksum_at()).filter(|&at| word(&frame, at) == 0) {
        set_word(&mut frame, at, 0xffff);
    }
    frame
}
