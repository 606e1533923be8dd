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

/// The tree over the frames that are signed together; missing leaves are zero.
pub struct Tree {
    salt: [u8; 16],
    /// From the leaves to the root.
    levels: Vec<Vec<Node>>,
}

impl Tree {
    /// The tree of 1 to 32 leaves.
    pub fn new(salt: [u8; 16], mut leaves: Vec<Node>) -> Self {
        leaves.resize(leaves.len().next_power_of_two(), [0; 16]);
        let mut levels = vec![leaves];
        while let Some(level) = levels.last().filter(|level| level.len() > 1) {
            levels.push(level.chunks_exact(2).map(|pair| h16(&[&[1], &salt, &pair[0], &pair[1]])).collect());
        }
        Self { salt, levels }
    }

    /// Its height.
    pub fn depth(&self) -> u8 {
        (self.levels.len() - 1) as u8
    }

    /// What is signed.
    pub fn root(&self) -> Node {
        self.levels[self.levels.len() - 1][0]
    }

    /// Writes the trailer of a leaf and returns its length.
    pub fn emit(&self, index: usize, signature: &[u8; 64], out: &mut [u8]) -> usize {
        let path = 16 * usize::from(self.depth());
        for (height, node) in out[..path].chunks_exact_mut(16).enumerate() {
            node.copy_from_slice(&self.levels[height][(index >> height) ^ 1]);
        }
        let tail = &mut out[path..path + TAIL_BYTES];
        tail[..16].copy_from_slice(&self.salt);
        tail[16..80].copy_from_slice(signature);
        tail[80..].copy_from_slice(&[index as u8, self.depth()]);
        path + TAIL_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_leaf_leads_to_the_same_root() {
        let salt = [9; 16];
        for depth in 0..=MAX_DEPTH {
            let count = (1u8 << depth) - u8::from(depth > 1); // a full tree, and one with a missing leaf
            let leaves: Vec<Node> = (0..count).map(|i| h16(&[&[i]])).collect();
            let tree = Tree::new(salt, leaves.clone());
            assert_eq!(tree.depth(), depth);
            for (index, &leaf) in leaves.iter().enumerate() {
                let mut bytes = [&b"content"[..], &[0; MAX_TRAILER_BYTES]].concat();
                let length = tree.emit(index, &[4; 64], &mut bytes[7..]);
                let (content, trailer) = Trailer::split_untrusted(&bytes[..7 + length]).unwrap();
                assert_eq!((content, trailer.salt, trailer.signature), (&b"content"[..], salt, [4; 64]));
                assert_eq!(trailer.root(leaf), tree.root());
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
