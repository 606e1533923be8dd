//! Sealing and opening the frame inside a packet (SPEC 2.3).
//!
//! ```text
//!     plaintext: ├ content type 1 ┼ pad length 1 ┼ content … ┼ group trailer ┼ pad length × 00 ┤
//! ```

use crate::Token;
use crate::aead::NONCE_BYTES;
use crate::drops::DropReason;
use crate::keys::{Names, ReceiveKey, SendKey};
use crate::packet::{BODY_AT, INNER_TAG_AT};
use crate::trailer::{self, Tree};

/// "PT1F" ‖ VLAN-ID ‖ MLS-ID ‖ VFT ‖ nonce.
pub const AAD_BYTES: usize = 64;
/// Bytes in front of the content in a plaintext: content type and pad length.
pub const PLAIN_HEAD_BYTES: usize = 2;
/// Where the content starts in a packet; also the overhead of a pair frame (SPEC 2.3).
pub const CONTENT_AT: usize = BODY_AT + PLAIN_HEAD_BYTES;

/// The content type (SPEC 2.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ContentType {
    /// Nothing to deliver.
    Padding = 0,
    /// An Ethernet frame.
    Frame = 1,
    /// A fragment of a frame.
    FrameFragment = 2,
    /// Member control.
    Control = 3,
    /// A fragment of member control.
    ControlFragment = 4,
    /// An Ethernet frame whose TCP or UDP checksum is partial: the receiver completes it.
    PartialFrame = 5,
}

impl ContentType {
    /// The type of a wire number.
    pub fn from_id(id: u8) -> Option<Self> {
        Some(match id {
            0 => Self::Padding,
            1 => Self::Frame,
            2 => Self::FrameFragment,
            3 => Self::Control,
            4 => Self::ControlFragment,
            5 => Self::PartialFrame,
            _ => return None,
        })
    }

    /// The type of this content's fragments.
    pub fn fragment(self) -> Self {
        match self {
            Self::Control => Self::ControlFragment,
            _ => Self::FrameFragment,
        }
    }
}

/// The inner AAD (SPEC 2.3).
pub fn frame_aad(names: &Names, token: &Token, nonce: &[u8; NONCE_BYTES]) -> [u8; AAD_BYTES] {
    let mut aad = [0; AAD_BYTES];
    aad[..4].copy_from_slice(b"PT1F");
    aad[4..20].copy_from_slice(&names.vlan_id);
    aad[20..36].copy_from_slice(&names.mls_id);
    aad[36..52].copy_from_slice(token);
    aad[52..].copy_from_slice(nonce);
    aad
}

/// Seals the content at `CONTENT_AT..end` of the slot in place, under a pair key.
///
/// Returns the nonce; the packet ends at `end`. The 46 bytes in front are left for the hop.
pub fn seal_frame(
    slot: &mut [u8],
    end: usize,
    key: &SendKey,
    token: &Token,
    content_type: ContentType,
) -> Result<[u8; NONCE_BYTES], DropReason> {
    let nonce = key.take_nonce()?;
    seal_body(&mut slot[..end], key, &frame_aad(key.names(), token, &nonce), &nonce, content_type);
    Ok(nonce)
}

fn seal_body(
    packet: &mut [u8],
    key: &SendKey,
    aad: &[u8; AAD_BYTES],
    nonce: &[u8; NONCE_BYTES],
    content_type: ContentType,
) {
    packet[BODY_AT] = content_type as u8;
    packet[BODY_AT + 1] = 0;
    let tag = key.aead().seal(nonce, aad, &mut packet[BODY_AT..]);
    packet[INNER_TAG_AT..BODY_AT].copy_from_slice(&tag);
}

/// Frames under one group key that share a signature (SPEC 2.4).
pub struct SignedFrames<'a> {
    key: &'a SendKey,
    names: Vec<(ContentType, [u8; NONCE_BYTES], [u8; AAD_BYTES])>,
    tree: Tree,
    signature: [u8; 64],
}

impl<'a> SignedFrames<'a> {
    /// Signs 1 to 32 contents. The salt is random, but in test vectors.
    pub fn sign<'c>(
        contents: impl Iterator<Item = (ContentType, &'c [u8])>,
        key: &'a SendKey,
        token: &Token,
        salt: [u8; 16],
    ) -> Result<Self, DropReason> {
        let signer = key.signer().ok_or(DropReason::NoEdge)?;
        let (mut names, mut leaves) = (Vec::new(), Vec::new());
        for (content_type, content) in contents {
            let nonce = key.take_nonce()?;
            let aad = frame_aad(key.names(), token, &nonce);
            leaves.push(trailer::leaf(&salt, &aad, content_type as u8, 0, content));
            names.push((content_type, nonce, aad));
        }
        let tree = Tree::new(salt, leaves);
        let signature = signer.sign(&trailer::message(key.names(), key.kid(), &salt, tree.depth(), &tree.root()));
        Ok(Self { key, names, tree, signature })
    }

    /// Seals content `n`, which is at `CONTENT_AT..end` of the slot, in place; the slot has room for the trailer.
    ///
    /// Returns the packet's length and the nonce; the 46 bytes in front are left for the hop.
    pub fn seal(&self, n: usize, slot: &mut [u8], end: usize) -> (usize, [u8; NONCE_BYTES]) {
        let (content_type, nonce, aad) = &self.names[n];
        let end = end + self.tree.emit(n, &self.signature, &mut slot[end..]);
        seal_body(&mut slot[..end], self.key, aad, nonce, *content_type);
        (end, *nonce)
    }
}

/// The inside of an opened frame: authentic from a member, not yet from which one if it is a group frame.
#[derive(Debug, PartialEq, Eq)]
pub struct Opened<'a> {
    /// What the content is.
    pub content_type: ContentType,
    /// The pad length byte.
    pub pad: u8,
    /// Content, and in a group frame its trailer.
    pub rest: &'a [u8],
}

/// Opens a packet's body into `plain`; false when the tag is wrong.
pub fn open_frame_untrusted(
    packet: &[u8],
    aad: &[u8; AAD_BYTES],
    nonce: &[u8; NONCE_BYTES],
    key: &ReceiveKey,
    plain: &mut [u8],
) -> bool {
    let (tag, body) = (&packet[INNER_TAG_AT..BODY_AT], &packet[BODY_AT..]);
    key.aead().open_to(nonce, aad, body, tag, &mut plain[..body.len()])
}

/// Reads a plaintext's fixed fields and takes the padding off.
pub fn parse_plain(plain: &[u8]) -> Option<Opened<'_>> {
    let (head, rest) = plain.split_at_checked(2)?;
    let (rest, padding) = rest.split_at_checked(rest.len().checked_sub(usize::from(head[1]))?)?;
    if padding.iter().any(|&b| b != 0) {
        return None;
    }
    Some(Opened { content_type: ContentType::from_id(head[0])?, pad: head[1], rest })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_is_taken_off_and_must_be_zero() {
        let opened = parse_plain(&[1, 2, 7, 7, 0, 0]).unwrap();
        assert_eq!((opened.content_type, opened.rest), (ContentType::Frame, &[7, 7][..]));
        assert_eq!(parse_plain(&[1, 2, 7, 7, 0, 1]), None);
        assert_eq!(parse_plain(&[1, 5, 0, 0]), None);
        assert_eq!(parse_plain(&[6, 0, 0]), None);
        assert_eq!(parse_plain(&[1]), None);
    }
}
