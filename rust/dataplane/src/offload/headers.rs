//! Where the headers of a plain TCP or UDP frame are.

/// IEEE 802.1Q, 802.1ad, and the older QinQ number.
const TAGS: [[u8; 2]; 3] = [[0x81, 0x00], [0x88, 0xa8], [0x91, 0x00]];
/// Tags that are looked through (DATAPATH: double-tagged frames).
const MAX_TAGS: usize = 2;
/// IPv6 extension headers that are looked through (ours).
const MAX_EXTENSIONS: usize = 8;

/// The transport protocols whose frames are split and merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// RFC 9293.
    Tcp,
    /// RFC 768.
    Udp,
}

/// Offsets in a frame that is one whole TCP segment or UDP datagram over IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The IP header; the Ethernet header with its tags ends here.
    pub l3: usize,
    /// IPv6, else IPv4.
    pub v6: bool,
    /// The TCP or UDP header.
    pub l4: usize,
    /// Which.
    pub transport: Transport,
    /// The payload.
    pub payload: usize,
    /// The end of the payload, as the IP header says; more bytes are Ethernet padding.
    pub end: usize,
}

impl Headers {
    /// The headers, or None for anything else: fragments, tunnels, other protocols, lengths that do not fit.
    pub fn parse_untrusted(frame: &[u8]) -> Option<Self> {
        let mut at = 12;
        for _ in 0..MAX_TAGS {
            at += if TAGS.iter().any(|tag| frame.get(at..at + 2) == Some(tag)) { 4 } else { 0 };
        }
        let l3 = at + 2;
        match *frame.get(at..l3)? {
            [0x08, 0x00] => Self::parse_v4(frame, l3),
            [0x86, 0xdd] => Self::parse_v6(frame, l3),
            _ => None,
        }
    }

    fn parse_v4(frame: &[u8], l3: usize) -> Option<Self> {
        let header = frame.get(l3..l3 + 20)?;
        let header_bytes = 4 * usize::from(header[0] & 15);
        let end = l3 + usize::from(u16::from_be_bytes([header[2], header[3]]));
        let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
        if header[0] >> 4 != 4 || header_bytes < 20 || is_fragment {
            return None;
        }
        Self::parse_transport(frame, l3, false, l3 + header_bytes, header[9], end)
    }

    fn parse_v6(frame: &[u8], l3: usize) -> Option<Self> {
        let header = frame.get(l3..l3 + 40)?;
        if header[0] >> 4 != 6 {
            return None;
        }
        let end = l3 + 40 + usize::from(u16::from_be_bytes([header[4], header[5]]));
        let (mut next, mut at) = (header[6], l3 + 40);
        for _ in 0..MAX_EXTENSIONS {
            if !matches!(next, 0 | 43 | 60) {
                break; // hop-by-hop, routing and destination options have one form (RFC 8200, 4.2)
            }
            let extension = frame.get(at..at + 4)?;
            if next == 43 && extension[3] != 0 {
                return None; // not at its last destination, whose address is in the checksum (RFC 8200, 8.1)
            }
            (next, at) = (extension[0], at + 8 * (1 + usize::from(extension[1])));
        }
        Self::parse_transport(frame, l3, true, at, next, end)
    }

    fn parse_transport(frame: &[u8], l3: usize, v6: bool, l4: usize, protocol: u8, end: usize) -> Option<Self> {
        let (transport, payload) = match protocol {
            6 => {
                let bytes = 4 * usize::from(frame.get(l4..l4 + 20)?[12] >> 4);
                (Transport::Tcp, if bytes < 20 { return None } else { l4 + bytes })
            }
            17 => (Transport::Udp, l4 + 8),
            _ => return None,
        };
        (payload <= end && end <= frame.len()).then_some(Self { l3, v6, l4, transport, payload, end })
    }

    /// Where the checksum of TCP or UDP is.
    pub fn checksum_at(&self) -> usize {
        self.l4 + self.checksum_offset()
    }

    /// The same from the start of the TCP or UDP header.
    pub fn checksum_offset(&self) -> usize {
        match self.transport {
            Transport::Tcp => 16,
            Transport::Udp => 6,
        }
    }
}
