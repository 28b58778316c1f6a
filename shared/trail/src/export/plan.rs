//! In which order tiles and records stand in a file: a walk from the root of the tree to the leaves of the range.

use std::{collections::VecDeque, ops::Range};

use crate::{
    TILE_WIDTH, TileId,
    tiles::{TILE_HEIGHT, is_full},
};

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The line of this full tile.
    Tile(TileId),
    /// The lines of the records with these indexes, at most 256.
    Records(Range<u64>),
}

/// The steps of a file between its first and its last line.
#[derive(Debug, Clone)]
pub struct Plan {
    begin: u64,
    end: u64,
    size: u64,
    at: u64,
    tiles: Option<VecDeque<TileId>>,
}

impl Plan {
    /// Of the records from `begin` to before `end` in a tree of that size.
    pub fn new(begin: u64, end: u64, size: u64) -> Self {
        Self { begin, end: end.min(size), size, at: begin, tiles: None }
    }
}

impl Iterator for Plan {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        if self.at >= self.end {
            return None;
        }
        let tiles = self.tiles.get_or_insert_with(|| tiles_at(self.at, self.begin, self.size));
        if let Some(tile) = tiles.pop_front() {
            return Some(Step::Tile(tile));
        }
        let width = TILE_WIDTH as u64;
        let end = (self.at / width * width).saturating_add(width).min(self.end);
        let records = self.at..end;
        (self.at, self.tiles) = (end, None);
        Some(Step::Records(records))
    }
}

/// The tiles whose lines stand right before a record: those that no record before it needed, the highest first. What
/// is not full stands in the first line.
pub(super) fn tiles_at(at: u64, begin: u64, size: u64) -> VecDeque<TileId> {
    let mut tiles = VecDeque::new();
    for level in 0..8_u8 {
        let height = TILE_HEIGHT * (u32::from(level) + 1);
        let id = TileId { level, index: at.checked_shr(height).unwrap_or(0) };
        let begins = at == begin || at.trailing_zeros() >= height;
        if begins && is_full(id, size) {
            tiles.push_front(id);
        }
    }
    tiles
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(begin: u64, end: u64, size: u64) -> Vec<Step> {
        Plan::new(begin, end, size).collect()
    }

    #[test]
    fn tiles_stand_before_the_first_record_that_needs_them_from_the_top() {
        let tile = |level, index| Step::Tile(TileId { level, index });
        assert_eq!(steps(0, 0, 700), []);
        assert_eq!(steps(600, 700, 700), [Step::Records(600..700)]);
        assert_eq!(
            steps(200, 520, 520),
            [
                tile(0, 0),
                Step::Records(200..256),
                tile(0, 1),
                Step::Records(256..512),
                Step::Records(512..520)
            ]
        );
        let size = 2 * 65_536 + 300;
        assert_eq!(
            steps(65_535, 65_537, size),
            [
                tile(1, 0),
                tile(0, 255),
                Step::Records(65_535..65_536),
                tile(1, 1),
                tile(0, 256),
                Step::Records(65_536..65_537)
            ]
        );
        assert_eq!(steps(size - 44, size, size), [Step::Records(size - 44..size)]);
    }
}
