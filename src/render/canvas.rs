//! The picture in the making: pieces in any order in, one sum per pixel out. Pure.
//!
//! Invariant: the passes of a tile are added in their order, so that the sum does not depend on who was faster; each piece
//! counts once.

use std::collections::HashMap;

use super::plan::{Piece, Plan};
use crate::task::ContentHash;
use crate::tasks::render::trace::Tile;

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    New,
    /// It was there already, and this one is the same to the bit.
    Double,
    /// It was there already, and this one differs.
    Different,
}

/// The sums of all pixels.
#[derive(Clone, Debug)]
pub(super) struct Canvas {
    width: usize,
    /// RGB, rows from above.
    sums: Vec<f64>,
    /// Of each tile, how many of its passes are in `sums`.
    added: Vec<usize>,
    /// Passes that came before one in front of them, by tile and pass.
    early: HashMap<(usize, usize), Vec<f32>>,
    /// Of everything that was taken.
    hashes: HashMap<(usize, usize), ContentHash>,
    taken: usize,
}

impl Canvas {
    pub(super) fn new(width: u32, height: u32, plan: &Plan) -> Self {
        Canvas {
            width: width as usize,
            sums: vec![0.0; width as usize * height as usize * 3],
            added: vec![0; plan.tiles.len()],
            early: HashMap::new(),
            hashes: HashMap::new(),
            taken: 0,
        }
    }

    /// What an earlier run has left: sums with so many passes of each tile in them.
    pub(super) fn restore(&mut self, sums: Vec<f64>, added: Vec<usize>) {
        self.taken = added.iter().sum();
        (self.sums, self.added) = (sums, added);
    }

    /// Takes the sums of a piece, which has as many as its tile wants.
    pub(super) fn take(&mut self, plan: &Plan, piece: &Piece, sums: Vec<f32>) -> Taken {
        let key = (piece.tile, piece.pass);
        let hash = ContentHash::of(bytemuck::cast_slice(&sums));
        match self.hashes.get(&key) {
            Some(first) if *first == hash => return Taken::Double,
            Some(_) => return Taken::Different,
            // Of an earlier run: there is nothing to compare with.
            None if self.has(piece) => return Taken::Double,
            None => {}
        }
        self.hashes.insert(key, hash);
        self.early.insert(key, sums);
        self.taken += 1;
        while let Some(next) = self.early.remove(&(piece.tile, self.added[piece.tile])) {
            self.add(plan.tiles[piece.tile], &next);
            self.added[piece.tile] += 1;
        }
        Taken::New
    }

    fn add(&mut self, tile: Tile, sums: &[f32]) {
        let row = tile.width as usize * 3;
        for (y, from) in sums.chunks_exact(row).enumerate() {
            let start = ((tile.y as usize + y) * self.width + tile.x as usize) * 3;
            for (sum, add) in self.sums[start..start + row].iter_mut().zip(from) {
                *sum += f64::from(*add);
            }
        }
    }

    pub(super) fn has(&self, piece: &Piece) -> bool {
        piece.pass < self.added[piece.tile] || self.early.contains_key(&(piece.tile, piece.pass))
    }

    /// Pieces that were taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// The sums, and how many passes of each tile are in them.
    pub(super) fn parts(&self) -> (&[f64], &[usize]) {
        (&self.sums, &self.added)
    }

    /// The mean radiance of each pixel, linear RGB, rows from above; black where nothing is yet.
    pub(super) fn means(&self, plan: &Plan) -> Vec<f32> {
        let mut means = vec![0.0; self.sums.len()];
        for (tile, added) in plan.tiles.iter().zip(&self.added).filter(|(_, added)| **added > 0) {
            let samples = f64::from(plan.passes[added - 1].end);
            for y in tile.y as usize..(tile.y + tile.height) as usize {
                let start = (y * self.width + tile.x as usize) * 3;
                let row = start..start + tile.width as usize * 3;
                for (mean, sum) in means[row.clone()].iter_mut().zip(&self.sums[row]) {
                    *mean = (sum / samples) as f32;
                }
            }
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;

    use super::*;

    /// Numbers whose sums depend on their order.
    fn sums(plan: &Plan, piece: &Piece) -> Vec<f32> {
        let tile = plan.tiles[piece.tile];
        let numbers = tile.width * tile.height * 3;
        (0..numbers).map(|i| 1.1e7_f32.powi(piece.pass as i32 % 3) + (i * 7 + piece.tile as u32) as f32 * 0.1).collect()
    }

    #[test]
    fn a_double_counts_once_and_is_compared() {
        let plan = Plan::new(4, 4, 2, 20);
        let mut canvas = Canvas::new(4, 4, &plan);
        let piece = Piece { tile: 1, pass: 0 };
        let right = sums(&plan, &piece);
        assert_eq!(canvas.take(&plan, &piece, right.clone()), Taken::New);
        let before = canvas.means(&plan);
        assert_eq!(canvas.take(&plan, &piece, right.clone()), Taken::Double);
        let mut wrong = right;
        wrong[5] = -0.0;
        assert_eq!(canvas.take(&plan, &piece, wrong), Taken::Different);
        assert_eq!((canvas.taken(), canvas.means(&plan)), (1, before));
    }

    proptest! {
        #[test]
        fn the_order_of_the_pieces_changes_no_bit(seed: u64, doubled in 0..10usize, stop in 0..60usize) {
            let plan = Plan::new(20, 12, 7, 600);
            let mut pieces = plan.pieces();
            let mut straight = Canvas::new(20, 12, &plan);
            for piece in &pieces {
                straight.take(&plan, piece, sums(&plan, piece));
            }
            pieces.extend_from_within(..doubled);
            pieces.shuffle(&mut rand::rngs::SmallRng::seed_from_u64(seed));
            let mut shuffled = Canvas::new(20, 12, &plan);
            for piece in &pieces[..stop.min(pieces.len())] {
                shuffled.take(&plan, piece, sums(&plan, piece));
            }
            // Interrupted and resumed.
            let mut resumed = Canvas::new(20, 12, &plan);
            let (half, added) = shuffled.parts();
            resumed.restore(half.to_vec(), added.to_vec());
            for piece in &pieces {
                resumed.take(&plan, piece, sums(&plan, piece));
            }
            prop_assert_eq!(resumed.taken(), plan.len());
            let bits = |canvas: &Canvas| canvas.means(&plan).iter().map(|mean| mean.to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(bits(&resumed), bits(&straight));
        }
    }
}
