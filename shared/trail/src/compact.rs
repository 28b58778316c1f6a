//! A tree that is read from left to right: only the roots of its full subtrees are kept, at most one a height.

use crate::{Hash, ProofError, empty_root, leaf_hash, node_hash, tiles::full_subtrees};

/// The leaves from 0 up to some size, as the roots of their maximal full subtrees.
#[derive(Debug, Clone, Default)]
pub struct Compact {
    size: u64,
    /// Heights fall from left to right, as the bits of the size do.
    roots: Vec<Hash>,
}

impl Compact {
    /// The tree of that size whose maximal full subtrees, from left to right, have these roots.
    pub fn from_roots(size: u64, roots: &[Hash]) -> Result<Self, ProofError> {
        if u64::from(size.count_ones()) != roots.len() as u64 {
            return Err(ProofError::Length);
        }
        Ok(Self { size, roots: roots.to_vec() })
    }

    /// Number of leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the maximal full subtrees, from left to right.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// Adds a leaf of which the bytes are known.
    pub fn push_leaf(&mut self, leaf: &[u8]) {
        self.push(leaf_hash(leaf));
    }

    /// Adds the hash of a leaf.
    pub fn push(&mut self, hash: Hash) {
        self.push_subtree(0, hash);
    }

    /// Adds a full subtree. The size must be a multiple of its leaves, or the tree is another one.
    pub(crate) fn push_subtree(&mut self, height: u32, mut hash: Hash) {
        debug_assert!(self.size.is_multiple_of(1 << height));
        let mut bit = 1_u64 << height;
        let added = bit;
        while self.size & bit != 0 {
            let left = self.roots.pop().expect("every bit of the size has its root");
            hash = node_hash(&left, &hash);
            bit <<= 1;
        }
        self.roots.push(hash);
        self.size += added;
    }

    /// The root.
    pub fn root(&self) -> Hash {
        fold(&self.roots)
    }
}

/// The root over full subtrees of falling heights.
pub(crate) fn fold(roots: &[Hash]) -> Hash {
    let mut right_to_left = roots.iter().rev();
    let Some(last) = right_to_left.next() else { return empty_root() };
    right_to_left.fold(*last, |right, left| node_hash(left, &right))
}

/// What stands left and right of a range of leaves.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeProof {
    /// Roots of the maximal full subtrees before the range, from left to right.
    pub left: Vec<Hash>,
    /// Roots of the maximal full subtrees behind it, from left to right.
    pub right: Vec<Hash>,
}

/// Checks that the leaves of a range are those of a tree, all of them and in order.
#[derive(Debug, Clone)]
pub struct RangeVerifier {
    tree: Compact,
    size: u64,
    right: Vec<Hash>,
}

impl RangeVerifier {
    /// Begins at a leaf of a tree of that size.
    pub fn new(begin: u64, size: u64, proof: &RangeProof) -> Result<Self, ProofError> {
        if begin > size {
            return Err(ProofError::Range);
        }
        Ok(Self { tree: Compact::from_roots(begin, &proof.left)?, size, right: proof.right.clone() })
    }

    /// Takes the next leaf's hash.
    pub fn push(&mut self, hash: Hash) -> Result<(), ProofError> {
        if self.tree.size() == self.size {
            return Err(ProofError::Range);
        }
        self.tree.push(hash);
        Ok(())
    }

    /// Ends the range; Ok where its leaves are those of the tree with this root.
    pub fn finish(mut self, root: &Hash) -> Result<(), ProofError> {
        let behind = full_subtrees(self.tree.size(), self.size);
        if behind.len() != self.right.len() {
            return Err(ProofError::Length);
        }
        for (node, hash) in behind.iter().zip(&self.right) {
            self.tree.push_subtree(node.height, *hash);
        }
        if self.tree.root() == *root { Ok(()) } else { Err(ProofError::Root) }
    }
}
