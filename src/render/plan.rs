//! Which pieces a picture is made of, and in which order they are asked for. Pure.
//!
//! Invariant: the passes depend on the number of samples alone, so that the sum of a pixel is made of the same numbers
//! whatever the tiles are.

use std::ops::Range;

use crate::tasks::render::trace::Tile;

/// Samples of the first pass, which shows the whole picture soon.
const FIRST_PASS: u32 = 16;

/// Samples of the others: a tile should neither take minutes nor be lost in the overhead.
const PASS: u32 = 256;

/// Some samples of a tile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Piece {
    /// Number of the tile, from above and from the left.
    pub(super) tile: usize,
    pub(super) pass: usize,
}

/// The tiles and passes of a picture.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) tiles: Vec<Tile>,
    pub(super) passes: Vec<Range<u32>>,
}

impl Plan {
    /// Tiles of `side` pixels, narrower at the right and the lower edge.
    pub(super) fn new(width: u32, height: u32, side: u32, samples: u32) -> Self {
        let mut tiles = Vec::new();
        for y in (0..height).step_by(side as usize) {
            for x in (0..width).step_by(side as usize) {
                tiles.push(Tile { x, y, width: side.min(width - x), height: side.min(height - y) });
            }
        }
        Plan { tiles, passes: passes(samples) }
    }

    /// All pieces: the first pass of the whole picture, then the others; in each the middle first, where the eye is.
    pub(super) fn pieces(&self) -> Vec<Piece> {
        let (right, bottom) = self.tiles.last().map_or((0, 0), |last| (last.x + last.width, last.y + last.height));
        let mut order: Vec<usize> = (0..self.tiles.len()).collect();
        order.sort_by_key(|&index| {
            let Tile { x, y, width, height } = self.tiles[index];
            // Twice the distances, which are whole numbers.
            let across = i64::from(2 * x + width) - i64::from(right);
            let down = i64::from(2 * y + height) - i64::from(bottom);
            across * across + down * down
        });
        let of_pass = |pass| order.iter().map(move |&tile| Piece { tile, pass });
        (0..self.passes.len()).flat_map(of_pass).collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.tiles.len() * self.passes.len()
    }

    /// The samples of all pixels of a piece.
    pub(super) fn samples(&self, piece: &Piece) -> u64 {
        let (tile, pass) = (self.tiles[piece.tile], &self.passes[piece.pass]);
        u64::from(tile.width) * u64::from(tile.height) * u64::from(pass.end - pass.start)
    }
}

/// How many pieces such a plan would have.
pub(super) fn count(width: u32, height: u32, side: u32, samples: u32) -> u64 {
    let tiles = u64::from(width.div_ceil(side)) * u64::from(height.div_ceil(side));
    tiles.saturating_mul(passes_count(samples))
}

/// How often each tile is asked for.
pub(super) fn passes_count(samples: u32) -> u64 {
    passes(samples).len() as u64
}

fn passes(samples: u32) -> Vec<Range<u32>> {
    let mut passes = Vec::new();
    let mut start = 0;
    while start < samples {
        let length = if start == 0 {
            FIRST_PASS
        } else if start == FIRST_PASS {
            PASS - FIRST_PASS
        } else {
            PASS
        };
        let end = start.saturating_add(length).min(samples);
        passes.push(start..end);
        start = end;
    }
    passes
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_pass_is_short_and_passes_begin_with_blocks() {
        assert_eq!(passes(1), vec![0..1; 1]);
        assert_eq!(passes(64), [0..16, 16..64]);
        assert_eq!(passes(600), [0..16, 16..256, 256..512, 512..600]);
    }

    #[test]
    fn the_middle_comes_first() {
        let plan = Plan::new(300, 300, 100, 16);
        let order: Vec<usize> = plan.pieces().iter().map(|piece| piece.tile).collect();
        assert_eq!(order, [4, 1, 3, 5, 7, 0, 2, 6, 8]);
    }

    proptest! {
        #[test]
        fn every_pixel_is_in_one_tile_and_every_piece_comes_once(
            width in 1..200u32, height in 1..200u32, side in 1..300u32, samples in 1..2000u32
        ) {
            let plan = Plan::new(width, height, side, samples);
            let mut seen = vec![0u8; (width * height) as usize];
            for tile in &plan.tiles {
                for y in tile.y..tile.y + tile.height {
                    for x in tile.x..tile.x + tile.width {
                        seen[(y * width + x) as usize] += 1;
                    }
                }
            }
            prop_assert!(seen.iter().all(|count| *count == 1));
            let pieces = plan.pieces();
            prop_assert_eq!(pieces.len(), plan.len());
            prop_assert_eq!(count(width, height, side, samples), plan.len() as u64);
            let different: HashSet<_> = pieces.iter().map(|piece| (piece.tile, piece.pass)).collect();
            prop_assert_eq!(different.len(), plan.len());
            let all: u64 = pieces.iter().map(|piece| plan.samples(piece)).sum();
            prop_assert_eq!(all, u64::from(width * height) * u64::from(samples));
        }
    }
}
