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
use crate::trailer::{self, SENT_TRAILER_BYTES};

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

/// Seals the content at `CONTENT_AT..end` of the slot in place.
///
/// A group key (one with a signer) adds its trailer after the content. Returns the packet's length and the nonce;
/// the 46 bytes in front are left for the hop. The slot has room for the trailer.
pub fn seal_frame(
    slot: &mut [u8],
    end: usize,
    key: &SendKey,
    token: &Token,
    content_type: ContentType,
) -> Result<(usize, [u8; NONCE_BYTES]), DropReason> {
    let salt = match key.signer() {
        Some(_) => crate::sys::random().map_err(|_| DropReason::KeyExhausted)?,
        None => [0; 16],
    };
    seal_frame_salted(slot, end, key, token, content_type, &salt)
}

/// `seal_frame` with a given salt of the group trailer, for vectors; everyone else needs a random one.
pub fn seal_frame_salted(
    slot: &mut [u8],
    end: usize,
    key: &SendKey,
    token: &Token,
    content_type: ContentType,
    salt: &[u8; 16],
) -> Result<(usize, [u8; NONCE_BYTES]), DropReason> {
    let nonce = key.take_nonce()?;
    let aad = frame_aad(key.names(), token, &nonce);
    slot[BODY_AT] = content_type as u8;
    slot[BODY_AT + 1] = 0;
    let mut end = end;
    if let Some(signer) = key.signer() {
        let root = trailer::leaf(salt, &aad, content_type as u8, 0, &slot[CONTENT_AT..end]);
        let signature = signer.sign(&trailer::message(key.names(), key.kid(), salt, 0, &root));
        trailer::emit_single(&mut slot[end..end + SENT_TRAILER_BYTES], salt, &signature);
        end += SENT_TRAILER_BYTES;
    }
    let tag = key.aead().seal(&nonce, &aad, &mut slot[BODY_AT..end]);
    slot[INNER_TAG_AT..BODY_AT].copy_from_slice(&tag);
    Ok((end, nonce))
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
