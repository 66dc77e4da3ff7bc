//! Which experts tokens go to, decided on the GPU.
//!
//! The plan that [`route`] writes is made of words: the experts of all slots, `[tokens, top_k]`; the slots
//! in order of their experts, those of pruned ones left out; and chunks, each an expert, the first of its
//! slots in that order, and how many there are. There is room for as many chunks as there can be; those
//! that are not needed hold no slots.

use cubecl::prelude::*;

use super::linear::UNITS;

/// Chunks of at most `batch` slots that `slots` of some experts can make.
pub(super) fn most_chunks(slots: usize, experts: usize, batch: usize) -> usize {
    slots.min(slots.div_ceil(batch) + experts)
}

/// Chooses experts, prunes, and plans, all in one cube.
///
/// `protected` and `tally` may be any arrays where `protects` and `counts` are false. The new tally is, for each
/// expert, how many passes used it, then how many activations were pruned.
#[cube(launch_unchecked)]
#[allow(clippy::too_many_arguments)]
pub(super) fn route<F: Float>(
    logits: &Array<F>,
    protected: &Array<f32>,
    tally: &Array<u32>,
    plan: &mut Array<u32>,
    weights: &mut Array<f32>,
    new_tally: &mut Array<u32>,
    tokens: usize,
    chunks: usize,
    threshold: f32,
    #[comptime] experts: usize,
    #[comptime] top_k: usize,
    #[comptime] batch: usize,
    #[comptime] protects: bool,
    #[comptime] counts: bool,
    #[define(F)] _type: StorageType,
) {
    let slots = tokens * top_k;
    let mut used = SharedMemory::<u32>::new(experts);
    let mut token = UNIT_POS as usize;
    while token < tokens {
        let mut least = threshold;
        if comptime!(protects) {
            least = select(protected[token] > 0.0, 0.0, threshold);
        }
        choose::<F>(logits, plan, weights, token, least, experts, top_k);
        token += UNITS;
    }
    sync_cube();
    sync_storage();
    let mut expert = UNIT_POS as usize;
    while expert < experts {
        let mut count = 0_u32;
        for slot in 0..slots {
            if plan[slot] == expert as u32 && weights[slot] > 0.0 {
                count += 1;
            }
        }
        used[expert] = count;
        expert += UNITS;
    }
    sync_cube();
    expert = UNIT_POS as usize;
    while expert < experts {
        let mut first = 0_usize;
        let mut chunk = 0_usize;
        for other in 0..expert {
            first += used[other] as usize;
            chunk += used[other].div_ceil(batch as u32) as usize;
        }
        let count = used[expert] as usize;
        let mut at = slots + first;
        for slot in 0..slots {
            if plan[slot] == expert as u32 && weights[slot] > 0.0 {
                plan[at] = slot as u32;
                at += 1;
            }
        }
        let mut done = 0_usize;
        while done < count {
            write_chunk(plan, slots, chunk, expert, first + done, min(batch, count - done));
            done += batch;
            chunk += 1;
        }
        expert += UNITS;
    }
    let mut needed = 0_usize;
    let mut kept = 0_usize;
    for expert in 0..experts {
        needed += used[expert].div_ceil(batch as u32) as usize;
        kept += used[expert] as usize;
    }
    let mut chunk = needed + UNIT_POS as usize;
    while chunk < chunks {
        write_chunk(plan, slots, chunk, 0, 0, 0);
        chunk += UNITS;
    }
    expert = UNIT_POS as usize;
    while expert < experts + 1 {
        let mut count = 0_u32;
        if comptime!(counts) {
            count = tally[expert];
        }
        if expert < experts {
            count += min(used[min(expert, experts - 1)], 1);
        } else {
            count += (slots - kept) as u32;
        }
        new_tally[expert] = count;
        expert += UNITS;
    }
}

/// The experts of a token, best first, the first of equals, and their shares.
#[cube]
#[allow(clippy::too_many_arguments)]
fn choose<F: Float>(
    logits: &Array<F>,
    plan: &mut Array<u32>,
    weights: &mut Array<f32>,
    token: usize,
    threshold: f32,
    #[comptime] experts: usize,
    #[comptime] top_k: usize,
) {
    let mut values = Array::<f32>::new(experts);
    let mut largest = f32::cast_from(logits[token * experts]);
    for expert in 0..experts {
        values[expert] = f32::cast_from(logits[token * experts + expert]);
        largest = max(largest, values[expert]);
    }
    let mut total = 0.0_f32;
    for expert in 0..experts {
        values[expert] = (values[expert] - largest).exp();
        total += values[expert];
    }
    let mut chosen = Array::<f32>::new(top_k);
    let mut sum = 0.0_f32;
    for k in 0..top_k {
        let mut best = f32::new(-1.0);
        let mut found = 0_usize;
        for expert in 0..experts {
            if values[expert] > best {
                best = values[expert];
                found = expert;
            }
        }
        values[found] = -1.0;
        plan[token * top_k + k] = found as u32;
        chosen[k] = best / total;
        sum += chosen[k];
    }
    let least = threshold * chosen[0];
    let mut kept = 0.0_f32;
    for k in 0..top_k {
        let mut weight = chosen[k] / sum;
        if k > 0 && chosen[k] < least {
            weight = 0.0;
        }
        chosen[k] = weight;
        kept += weight;
    }
    for k in 0..top_k {
        weights[token * top_k + k] = chosen[k] / kept;
    }
}

#[cube]
fn write_chunk(plan: &mut Array<u32>, slots: usize, chunk: usize, expert: usize, first: usize, count: usize) {
    let at = 2 * slots + 3 * chunk;
    plan[at] = expert as u32;
    plan[at + 1] = first as u32;
    plan[at + 2] = count as u32;
}

/// 1 for the `count` most important tokens of every sequence of `len`, 0 for the others: a token's importance
/// is its norm times the attention that it receives from each token that can see it.
#[cube(launch_unchecked)]
pub(super) fn protect(
    norms: &Array<f32>,
    received: &Array<f32>,
    protected: &mut Array<f32>,
    tokens: usize,
    len: usize,
    count: usize,
) {
    let token = ABSOLUTE_POS;
    if token < tokens {
        let (start, place) = (token / len * len, token % len);
        let own = importance(norms, received, start, place, len);
        let mut before = 0_usize;
        for other in 0..len {
            let theirs = importance(norms, received, start, other, len);
            if theirs > own || (theirs == own && other < place) {
                before += 1;
            }
        }
        protected[token] = select(before < count, 1.0, 0.0);
    }
}

#[cube]
fn importance(norms: &Array<f32>, received: &Array<f32>, start: usize, place: usize, len: usize) -> f32 {
    norms[start + place] * received[start + place] / (len - place) as f32
}
