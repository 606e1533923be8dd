//! From a super-frame to frames of one MTU.

use super::checksum;
use super::headers::{Headers, Transport};
use super::{Gso, Virtio};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// What is to be done with a frame from a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plan {
    /// It goes as it is; its checksum is whole or not ours to know.
    Whole,
    /// It goes as it is; its TCP or UDP checksum is partial.
    Partial(Headers),
    /// It is cut into segments, whose checksums are partial.
    Split(Split),
}

/// How a super-frame is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Split {
    /// The super-frame's headers.
    pub headers: Headers,
    /// Payload bytes of each segment but the last.
    pub size: usize,
}

/// Decides by what the kernel says and what the frame is. The frame may get its checksum here. None: a super-frame that is not plain TCP or UDP.
pub fn plan_untrusted(frame: &mut [u8], virtio: &Virtio) -> Option<Plan> {
    if virtio.gso == Gso::None && virtio.partial.is_none() {
        return Some(Plan::Whole);
    }
    let headers = Headers::parse_untrusted(frame);
    if virtio.gso == Gso::None {
        let (start, offset) = virtio.partial.map(|(start, offset)| (usize::from(start), usize::from(offset)))?;
        return match headers {
            Some(headers)
                if headers.l4 == start && headers.checksum_offset() == offset && headers.end == frame.len() =>
            {
                Some(Plan::Partial(headers))
            }
            _ => checksum::complete_from(frame, start, start + offset).then_some(Plan::Whole),
        };
    }
    let headers = headers.filter(|headers| headers.end == frame.len())?;
    let fits = match virtio.gso {
        Gso::Tcp4 => !headers.v6 && headers.transport == Transport::Tcp,
        Gso::Tcp6 => headers.v6 && headers.transport == Transport::Tcp,
        _ => headers.transport == Transport::Udp,
    };
    let size = usize::from(virtio.gso_size);
    if !fits || size == 0 {
        return None;
    }
    Some(if headers.end - headers.payload <= size {
        Plan::Partial(headers)
    } else {
        Plan::Split(Split { headers, size })
    })
}

impl Split {
    /// How many segments there are.
    pub fn count(&self) -> usize {
        (self.headers.end - self.headers.payload).div_ceil(self.size)
    }

    /// Makes the segments small enough for frames of so many bytes. TCP may be cut anywhere, a datagram stays whole: false then.
    #[must_use]
    pub fn limit(&mut self, frame_bytes: usize) -> bool {
        let room = frame_bytes.saturating_sub(self.headers.payload);
        if self.size <= room {
            return true;
        }
        let can = self.headers.transport == Transport::Tcp && room > 0;
        self.size = if can { room } else { self.size };
        can
    }

    /// The longest frame that comes out.
    pub fn frame_bytes(&self) -> usize {
        self.headers.payload + self.size.min(self.headers.end - self.headers.payload)
    }

    /// The length of segment `n`.
    pub fn bytes_of(&self, n: usize) -> usize {
        let payload = self.headers.end - self.headers.payload;
        self.headers.payload + self.size.min(payload - n * self.size)
    }

    /// Writes segment `n` with a partial checksum; returns its length and headers. `out` has room for `frame_bytes`.
    pub fn emit(&self, frame: &[u8], n: usize, out: &mut [u8]) -> (usize, Headers) {
        let headers = &self.headers;
        let from = headers.payload + n * self.size;
        let to = (from + self.size).min(headers.end);
        let end = headers.payload + (to - from);
        out[..headers.payload].copy_from_slice(&frame[..headers.payload]);
        out[headers.payload..end].copy_from_slice(&frame[from..to]);
        let is_last = to == headers.end;
        set_ip_length(out, headers, end, n);
        let l4 = &mut out[headers.l4..];
        match headers.transport {
            Transport::Tcp => {
                let sequence = u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]).wrapping_add((n * self.size) as u32);
                l4[4..8].copy_from_slice(&sequence.to_be_bytes());
                l4[13] &= if is_last { 0xff } else { !(FIN | PSH) };
                l4[13] &= if n == 0 { 0xff } else { !CWR };
            }
            Transport::Udp => l4[4..6].copy_from_slice(&((end - headers.l4) as u16).to_be_bytes()),
        }
        let headers = Headers { end, ..*headers };
        checksum::set_partial(out, &headers);
        (end, headers)
    }
}

/// The length of the IP packet that ends at `end`, and over IPv4 the id of segment `n` and the header's checksum.
pub(super) fn set_ip_length(frame: &mut [u8], headers: &Headers, end: usize, n: usize) {
    let ip = &mut frame[headers.l3..headers.l4];
    if headers.v6 {
        let bytes = (end - headers.l3 - 40) as u16;
        ip[4..6].copy_from_slice(&bytes.to_be_bytes());
    } else {
        let bytes = (end - headers.l3) as u16;
        ip[2..4].copy_from_slice(&bytes.to_be_bytes());
        let id = u16::from_be_bytes([ip[4], ip[5]]).wrapping_add(n as u16);
        ip[4..6].copy_from_slice(&id.to_be_bytes());
        checksum::set_ipv4(ip);
    }
}
