//! A seeded draw among the allocations that use a block's budget best.

mod share;

use std::collections::BTreeMap;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use self::share::Share;
use super::Bits;
use crate::error::AllocatorError;
use crate::factors::Factors;
use crate::measure::Measure;

/// Sizes that a number of experts can add up to, each with its share of the ways to get there.
type Reachable = BTreeMap<u64, Share>;

/// The most sizes over all numbers of experts; each takes some forty bytes.
const MAX_SIZES: usize = 1 << 22;

/// One draw per layer, each from its own stream of the generator, so that a layer's widths do not
/// depend on how many numbers the layers before it used.
pub(crate) fn allocate(factors: &Factors, measure: &Measure, seed: u64) -> Result<Bits, AllocatorError> {
    let reachable = reachable(&measure.sizes, factors.num_experts, measure.block);
    let too_many =
        || AllocatorError::TooManySizes { experts: factors.num_experts, widths: factors.bits.clone() };
    let reachable = reachable.ok_or_else(too_many)?;
    let target = reachable.last().and_then(|sizes| sizes.keys().next_back().copied());
    let target = target.ok_or_else(|| measure.infeasible(0, smallest(factors, measure)))?;
    let draw = |layer| {
        let mut generator = ChaCha8Rng::seed_from_u64(seed);
        generator.set_stream(layer as u64);
        let choices = draw(&measure.sizes, &reachable, target, &mut generator);
        choices.into_iter().map(|choice| factors.bits[choice]).collect()
    };
    Ok((0..factors.num_layers).map(draw).collect())
}

fn smallest(factors: &Factors, measure: &Measure) -> u64 {
    let size = measure.sizes.iter().copied().min().unwrap_or(0);
    size.saturating_mul(factors.num_experts as u64)
}

/// Entry k: the sizes within `budget` that k experts can have; `None` if they are more than
/// [`MAX_SIZES`] in all.
fn reachable(sizes: &[u64], experts: usize, budget: u64) -> Option<Vec<Reachable>> {
    let (mut rows, mut room) = (vec![Reachable::from([(0, Share::ONE)])], MAX_SIZES);
    for _ in 0..experts {
        let next = one_more(&rows[rows.len() - 1], sizes, budget, room)?;
        room -= next.len();
        rows.push(next);
    }
    Some(rows)
}

/// The row after `row`, if it has `room` entries or fewer.
fn one_more(row: &Reachable, sizes: &[u64], budget: u64, room: usize) -> Option<Reachable> {
    let mut next = Reachable::new();
    for (total, &ways) in row {
        let larger = sizes.iter().filter_map(|size| total.checked_add(*size));
        for total in larger.filter(|&total| total <= budget) {
            next.entry(total).and_modify(|known| *known = known.plus(ways)).or_insert(ways);
        }
        if next.len() > room {
            return None;
        }
    }
    // Only proportions within a row matter; plain counts would be astronomical with many experts.
    if let Some(all) = next.values().copied().reduce(Share::plus) {
        next.values_mut().for_each(|ways| *ways = ways.divided_by(all));
    }
    Some(next)
}

/// Choices that add up to `target`, all such rows equally likely.
fn draw(sizes: &[u64], reachable: &[Reachable], target: u64, generator: &mut ChaCha8Rng) -> Vec<usize> {
    let (mut left, mut choices) = (target, Vec::new());
    for rest in reachable.iter().rev().skip(1) {
        let ways: Vec<Option<Share>> = sizes.iter().map(|&size| ways(rest, left, size)).collect();
        let choice = pick(&Share::in_proportion(&ways), generator);
        left -= sizes[choice];
        choices.push(choice);
    }
    choices
}

fn ways(rest: &Reachable, left: u64, size: u64) -> Option<Share> {
    left.checked_sub(size).and_then(|left| rest.get(&left)).copied()
}

/// An index drawn in proportion to `ways`, never one with no way.
fn pick(ways: &[f64], generator: &mut ChaCha8Rng) -> usize {
    let mut point = unit(generator) * ways.iter().sum::<f64>();
    let possible = || (0..ways.len()).filter(|&choice| ways[choice] > 0.0);
    for choice in possible() {
        if point < ways[choice] {
            return choice;
        }
        point -= ways[choice];
    }
    possible().next_back().unwrap_or(0)
}

/// A number in [0, 1) from the top 53 bits, the same on every platform.
fn unit(generator: &mut ChaCha8Rng) -> f64 {
    (generator.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_best_row_is_equally_likely() {
        // Three experts at 1, 2 or 3 within 6: 111 plus three steps gives 7 rows of size 6.
        let (sizes, reachable) = ([1, 2, 3], reachable(&[1, 2, 3], 3, 6).unwrap());
        let mut generator = ChaCha8Rng::seed_from_u64(1);
        let mut counts: BTreeMap<Vec<usize>, u32> = BTreeMap::new();
        for _ in 0..7000 {
            *counts.entry(draw(&sizes, &reachable, 6, &mut generator)).or_default() += 1;
        }
        assert_eq!(counts.len(), 7);
        // Five standard deviations around 1000.
        assert!(counts.values().all(|count| (854..1147).contains(count)), "{counts:?}");
    }

    #[test]
    fn many_experts_do_not_overflow() {
        let reachable = reachable(&[1, 2, 3], 2000, 4000).unwrap();
        let row = draw(&[1, 2, 3], &reachable, 4000, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(row.iter().map(|choice| choice + 1).sum::<usize>(), 4000);
    }

    #[test]
    fn the_one_way_among_all_is_found() {
        // All experts at the widest: one of 3^900 rows, too small a share for an f64.
        let reachable = reachable(&[1, 2, 3], 900, 2700).unwrap();
        let row = draw(&[1, 2, 3], &reachable, 2700, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(row, [2; 900]);
    }

    #[test]
    fn too_many_sizes_are_noticed() {
        let row = Reachable::from([(0, Share::ONE), (10, Share::ONE)]);
        let next = |room| one_more(&row, &[1, 2, 3], 12, room);
        assert_eq!(next(5).unwrap().len(), 5);
        assert!(next(4).is_none());
    }
}
