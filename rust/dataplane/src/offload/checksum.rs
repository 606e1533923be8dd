//! The Internet checksum (RFC 1071), whole and partial.

use super::headers::{Headers, Transport};

/// The one's complement sum of some bytes, not folded. An odd last byte counts as the high one of a pair.
///
/// Words are added as the machine has them: the sum is turned at the end (RFC 1071, 2(B)).
pub fn sum(bytes: &[u8]) -> u64 {
    let mut lanes = [0u64; 8];
    let mut chunks = bytes.chunks_exact(32);
    for chunk in &mut chunks {
        for (lane, word) in lanes.iter_mut().zip(chunk.chunks_exact(4)) {
            *lane += u64::from(u32::from_ne_bytes([word[0], word[1], word[2], word[3]]));
        }
    }
    let mut total: u64 = lanes.iter().sum();
    let mut pairs = chunks.remainder().chunks_exact(2);
    for pair in &mut pairs {
        total += u64::from(u16::from_ne_bytes([pair[0], pair[1]]));
    }
    if let [last] = pairs.remainder() {
        total += u64::from(u16::from_ne_bytes([*last, 0]));
    }
    u64::from(u16::from_be(fold(total)))
}

/// A sum in 16 bits.
pub fn fold(mut sum: u64) -> u16 {
    while sum >> 16 != 0 {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The sum of the pseudo-header over so many bytes of TCP or UDP (RFC 9293, 3.1; RFC 8200, 8.1).
pub fn pseudo_sum(frame: &[u8], headers: &Headers, bytes: usize) -> u64 {
    let addresses =
        if headers.v6 { &frame[headers.l3 + 8..headers.l3 + 40] } else { &frame[headers.l3 + 12..headers.l3 + 20] };
    let protocol = match headers.transport {
        Transport::Tcp => 6,
        Transport::Udp => 17,
    };
    sum(addresses) + protocol + bytes as u64
}

/// Writes the partial checksum: the pseudo-header's sum, not inverted, over all that follows the IP header.
pub fn set_partial(frame: &mut [u8], headers: &Headers) {
    let partial = fold(pseudo_sum(frame, headers, headers.end - headers.l4));
    frame[headers.checksum_at()..headers.checksum_at() + 2].copy_from_slice(&partial.to_be_bytes());
}

/// Writes the whole checksum of TCP or UDP, whatever stood there.
pub fn complete(frame: &mut [u8], headers: &Headers) {
    set_partial(frame, headers);
    complete_from(&mut frame[..headers.end], headers.l4, headers.checksum_at());
}

/// Ends a partial checksum of any protocol: sums from `start` to the end and writes at `at`, if both are inside.
pub fn complete_from(frame: &mut [u8], start: usize, at: usize) -> bool {
    if start > at || at + 2 > frame.len() {
        return false;
    }
    let checksum = match !fold(sum(&frame[start..])) {
        0 => 0xffff, // the same number; UDP means "none" by 0 (RFC 768)
        checksum => checksum,
    };
    frame[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
    true
}

/// Whether the whole checksum of TCP or UDP is right. "None" of UDP over IPv4 is not.
pub fn is_right(frame: &[u8], headers: &Headers) -> bool {
    let at = headers.checksum_at();
    if headers.transport == Transport::Udp && frame[at..at + 2] == [0, 0] {
        return false;
    }
    let bytes = &frame[headers.l4..headers.end];
    fold(pseudo_sum(frame, headers, bytes.len()) + sum(bytes)) == 0xffff
}

/// Writes the checksum of an IPv4 header.
pub fn set_ipv4(header: &mut [u8]) {
    header[10..12].fill(0);
    let checksum = !fold(sum(header));
    header[10..12].copy_from_slice(&checksum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_rfc_1071() {
        assert_eq!(fold(sum(&[0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7])), 0xddf2);
    }

    proptest! {
        #[test]
        fn the_sum_is_that_of_16_bit_words(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let plain: u64 = bytes.chunks(2).map(|p| u64::from(p[0]) << 8 | u64::from(*p.get(1).unwrap_or(&0))).sum();
            prop_assert_eq!(fold(sum(&bytes)), fold(plain));
        }
    }
}
