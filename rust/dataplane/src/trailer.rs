//! The trailer of a group frame and its Merkle tree (SPEC 2.4).
//!
//! ```text
//!     ├ path 16 × depth ┼ salt 16 ┼ signature 64 ┼ index 1 ┼ depth 1 ┤
//! ```

use crate::kdf::h16;
use crate::keys::Names;
use crate::seal::AAD_BYTES;

/// The deepest tree that is accepted (SPEC 2.4).
pub const MAX_DEPTH: u8 = 5;
/// The largest trailer: always reserved in a group packet (SPEC 2.3).
pub const MAX_TRAILER_BYTES: usize = 16 * MAX_DEPTH as usize + TAIL_BYTES;
/// The trailer of depth 0, which this version sends.
pub const SENT_TRAILER_BYTES: usize = TAIL_BYTES;

const TAIL_BYTES: usize = 16 + 64 + 2;
const PREFIX: &[u8; 15] = b"PeerTap/1 group";
/// Prefix, VLAN-ID, MLS-ID, kid, salt, depth, root.
const MESSAGE_BYTES: usize = 15 + 16 + 16 + 4 + 16 + 1 + 16;

/// A node of the tree.
pub type Node = [u8; 16];

/// The trailer of one frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trailer<'a> {
    path: &'a [u8],
    /// Random per tree.
    pub salt: [u8; 16],
    /// Over the root.
    pub signature: [u8; 64],
    index: u8,
    /// Height of the tree.
    pub depth: u8,
}

impl<'a> Trailer<'a> {
    /// Splits content and trailer; the bytes came under a member's key, but from which one nobody knows yet.
    pub fn split_untrusted(bytes: &'a [u8]) -> Option<(&'a [u8], Self)> {
        let (rest, tail) = bytes.split_at_checked(bytes.len().checked_sub(TAIL_BYTES)?)?;
        let (index, depth) = (tail[80], tail[81]);
        if depth > MAX_DEPTH || u32::from(index) >= 1 << depth {
            return None;
        }
        let (content, path) = rest.split_at_checked(rest.len().checked_sub(16 * usize::from(depth))?)?;
        let trailer = Self {
            path,
            salt: std::array::from_fn(|i| tail[i]),
            signature: std::array::from_fn(|i| tail[16 + i]),
            index,
            depth,
        };
        Some((content, trailer))
    }

    /// The root that this leaf and path lead to.
    pub fn root(&self, leaf: Node) -> Node {
        let mut node = leaf;
        for (height, other) in self.path.chunks_exact(16).enumerate() {
            node = match self.index >> height & 1 {
                0 => h16(&[&[1], &self.salt, &node, other]),
                _ => h16(&[&[1], &self.salt, other, &node]),
            };
        }
        node
    }
}

/// leaf = H16(00 ‖ salt ‖ AAD ‖ content type ‖ pad length ‖ content).
pub fn leaf(salt: &[u8; 16], aad: &[u8; AAD_BYTES], content_type: u8, pad: u8, content: &[u8]) -> Node {
    h16(&[&[0], salt, aad, &[content_type, pad], content])
}

/// What is signed: "PeerTap/1 group" ‖ VLAN-ID ‖ MLS-ID ‖ kid ‖ salt ‖ depth ‖ root.
pub fn message(names: &Names, kid: [u8; 4], salt: &[u8; 16], depth: u8, root: &Node) -> [u8; MESSAGE_BYTES] {
    let mut out = [0; MESSAGE_BYTES];
    let mut rest = &mut out[..];
    for part in [&PREFIX[..], &names.vlan_id, &names.mls_id, &kid, salt, &[depth], root] {
        let (head, tail) = rest.split_at_mut(part.len());
        head.copy_from_slice(part);
        rest = tail;
    }
    out
}

/// Writes a trailer of depth 0.
pub fn emit_single(out: &mut [u8], salt: &[u8; 16], signature: &[u8; 64]) {
    out[..16].copy_from_slice(salt);
    out[16..80].copy_from_slice(signature);
    out[80..82].fill(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_of_a_full_tree_leads_to_the_same_root() {
        let salt = [9; 16];
        for depth in 0..=MAX_DEPTH {
            let leaves: Vec<Node> = (0..1u8 << depth).map(|i| h16(&[&[i]])).collect();
            let mut levels = vec![leaves.clone()];
            while levels.last().unwrap().len() > 1 {
                let next = levels.last().unwrap().chunks(2).map(|p| h16(&[&[1], &salt, &p[0], &p[1]])).collect();
                levels.push(next);
            }
            let root = levels.last().unwrap()[0];
            for index in 0..leaves.len() {
                let mut bytes = b"content".to_vec();
                for (height, level) in levels[..usize::from(depth)].iter().enumerate() {
                    bytes.extend(level[(index >> height) ^ 1]);
                }
                bytes.extend(salt);
                bytes.extend([4; 64]);
                bytes.extend([index as u8, depth]);
                let (content, trailer) = Trailer::split_untrusted(&bytes).unwrap();
                assert_eq!(content, b"content");
                assert_eq!(trailer.root(leaves[index]), root);
            }
        }
    }

    #[test]
    fn a_tree_too_deep_or_an_index_outside_is_refused() {
        let mut bytes = vec![0; 300];
        bytes[299] = MAX_DEPTH + 1;
        assert!(Trailer::split_untrusted(&bytes).is_none());
        (bytes[298], bytes[299]) = (2, 1);
        assert!(Trailer::split_untrusted(&bytes).is_none());
        bytes[298] = 1;
        assert!(Trailer::split_untrusted(&bytes).is_some());
        assert!(Trailer::split_untrusted(&bytes[..TAIL_BYTES - 1]).is_none());
    }
}
