//! The search for the stream with the least error: Viterbi's algorithm, each path with its own feedback.
//!
//! The error that a path makes at one column moves the targets of the columns after it, as in GPTQ. Paths
//! are open for [`REACH`] columns, and each remembers its own errors of that time: those of the chunk of
//! [`CHUNK`] columns under way beside what they have done to the rest of the chunk, earlier ones chunk by
//! chunk. At the end of a chunk the best path settles the oldest open one, and paths that differ there are
//! closed; settled errors move all targets beyond.

use std::ops::Range;

use super::{LEVELS, TrellisRate, WINDOW, ZERO};

/// Columns after which paths are compared.
const CHUNK: usize = 8;
/// Columns for which a choice is open at most.
const REACH: usize = 64;
/// Chunks that are open at most while one is under way, itself not counted.
const MOST_OPEN: usize = REACH / CHUNK - 1;
/// Sums that are added up side by side.
const SUMS: usize = 4;
/// Paths that can be open at most, at one bit a weight.
const STATES: usize = 1 << (WINDOW - 1);
const WINDOWS: usize = 1 << WINDOW;

/// Numbers for the columns of a chunk.
type Chunk = [f32; CHUNK];

/// A group of one row to find a stream for.
#[derive(Clone, Copy, Debug)]
pub struct TrellisSearch<'a> {
    /// The code.
    pub rate: TrellisRate,
    /// Weights over scale, so that a level too high or low is an error of 1.
    pub targets: &'a [f32],
    /// How much the squared error of each column counts.
    pub importance: &'a [f32],
    /// `[columns, columns]`: the error of column `c` moves the target of a later column `m` by
    /// `-feedback[c][m]` times itself.
    pub feedback: &'a [f32],
}

/// What a search found.
#[derive(Clone, Debug, Default)]
pub struct TrellisPath {
    /// The bits that each column appends to the stream.
    pub symbols: Vec<u8>,
    /// The level of each column less 64.
    pub levels: Vec<i8>,
    /// What was left of each target, feedback included, that the level does not make up for.
    pub errors: Vec<f32>,
}

/// Memory of a search, to be used again.
pub struct TrellisMemory {
    /// Least cost of a path that ends in each window.
    windows: Vec<f32>,
    /// The same by what the next column sees of the window.
    costs: Vec<f32>,
    /// Of the chunk under way, for each state: what its path's errors have done to the targets, and these
    /// errors themselves.
    paths: [Vec<[f32; 2 * CHUNK]>; 2],
    /// What has been done to the target of the next column.
    moved: Vec<f32>,
    /// The state in which the path was when the chunk began.
    origins: [Vec<u16>; 2],
    /// Of earlier chunks, by number modulo those that are open: errors and origins by the state at the chunk's end.
    errors: Vec<Vec<Chunk>>,
    earlier: Vec<[u16; STATES]>,
    /// The dropped bits of the best window of each state, by column modulo [`REACH`].
    dropped: Vec<[u8; STATES]>,
    /// Targets, moved by the errors of settled columns.
    targets: Vec<f32>,
}

impl Default for TrellisMemory {
    fn default() -> Self {
        let states = || vec![0; STATES];
        let paths = || vec![[0.0; 2 * CHUNK]; STATES];
        Self {
            windows: vec![0.0; WINDOWS],
            costs: vec![0.0; STATES],
            paths: [paths(), paths()],
            moved: vec![0.0; STATES],
            origins: [states(), states()],
            errors: vec![vec![[0.0; CHUNK]; STATES]; MOST_OPEN],
            earlier: vec![[0; STATES]; MOST_OPEN],
            dropped: vec![[0; STATES]; REACH],
            targets: Vec::new(),
        }
    }
}

impl std::fmt::Debug for TrellisMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrellisMemory")
    }
}

/// Chunks that are open while one is under way: the fewer bits a weight adds, the longer paths take to
/// come together.
const fn open_chunks(rate: TrellisRate) -> usize {
    if rate.half_bits() < 4 { MOST_OPEN } else { MOST_OPEN / 2 }
}

/// Searches; in plain code: each backend compiles it for its instructions.
#[inline(always)]
pub(crate) fn search(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, path: &mut TrellisPath) {
    let cols = work.targets.len();
    memory.targets.clear();
    memory.targets.extend_from_slice(work.targets);
    path.symbols.clear();
    path.symbols.resize(cols, 0);
    path.levels.clear();
    path.levels.resize(cols, 0);
    path.errors.clear();
    path.errors.resize(cols, 0.0);
    // The stream before the group is zeros.
    memory.costs.fill(f32::INFINITY);
    memory.costs[0] = 0.0;
    let levels = LEVELS[work.rate.index()].map(|level| f32::from(level) - f32::from(ZERO));
    let mut settled = 0;
    for start in (0..cols).step_by(CHUNK) {
        let chunk = start..cols.min(start + CHUNK);
        look_back(work, memory, &chunk);
        for col in chunk.clone() {
            extend(work, memory, &levels, col);
        }
        let best = compare(work, memory, &chunk);
        let end = chunk.end;
        let open = open_chunks(work.rate) * CHUNK;
        if end == cols || end >= open {
            trace(work, memory, path, &levels, best, settled..end);
            let until = if end == cols { cols } else { end - open };
            for col in settled..until {
                let feedback = &work.feedback[col * cols..][until..cols];
                for (target, feedback) in memory.targets[until..].iter_mut().zip(feedback) {
                    *target -= path.errors[col] * feedback;
                }
            }
            settled = until;
        }
    }
}

/// Begins a chunk: what each path's own errors of the open chunks before it do to its targets.
#[inline(always)]
fn look_back(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, chunk: &Range<usize>) {
    let (cols, index) = (work.targets.len(), chunk.start / CHUNK);
    let most = open_chunks(work.rate);
    let open = index.min(most);
    // From the columns of an open chunk, the latest first, to those of this one.
    let feedback: [[Chunk; CHUNK]; MOST_OPEN] = std::array::from_fn(|back| {
        std::array::from_fn(|from| {
            let from = chunk.start.wrapping_sub((back + 1) * CHUNK).wrapping_add(from);
            let row = if back < open { &work.feedback[from * cols..][chunk.clone()] } else { &[] };
            std::array::from_fn(|at| row.get(at).copied().unwrap_or(0.0))
        })
    });
    let states = work.rate.states_before(chunk.start);
    let slots: [usize; MOST_OPEN] =
        std::array::from_fn(|back| (index + most * most - 1 - back.min(most)) % most);
    let targets = memory.paths[0][..states].iter_mut().zip(&mut memory.moved).zip(&mut memory.origins[0]);
    for (state, ((path, first), origin)) in targets.enumerate() {
        // Some sums side by side, which do not wait for each other.
        let (mut sums, mut at) = ([[0.0; CHUNK]; SUMS], state);
        for (&slot, feedback) in slots[..open].iter().zip(&feedback) {
            let (errors, feedback) = (memory.errors[slot][at].as_chunks().0, feedback.as_chunks().0);
            for (errors, feedback) in errors.iter().zip(feedback) {
                add_products(&mut sums, errors, feedback);
            }
            at = usize::from(memory.earlier[slot][at]);
        }
        let moved: Chunk = std::array::from_fn(|at| -sums.iter().map(|sum| sum[at]).sum::<f32>());
        *first = moved[0];
        *origin = state as u16;
        *path = [0.0; 2 * CHUNK];
        path[..CHUNK].copy_from_slice(&moved);
    }
}

/// `sums[i] += errors[i] · feedback[i]`.
#[inline(always)]
fn add_products(sums: &mut [Chunk; SUMS], errors: &[f32; SUMS], feedback: &[Chunk; SUMS]) {
    for i in 0..SUMS {
        for at in 0..CHUNK {
            sums[i][at] += errors[i] * feedback[i][at];
        }
    }
}

/// Takes all open paths over one column.
#[inline(always)]
fn extend(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, levels: &[f32; WINDOWS], col: usize) {
    let (target, importance) = (memory.targets[col], work.importance[col]);
    let bits = work.rate.bits_at(col);
    match bits {
        1 => branch::<2>(memory, levels, target, importance),
        2 => branch::<4>(memory, levels, target, importance),
        _ => branch::<8>(memory, levels, target, importance),
    }
    match work.rate.bits_at(col + 1) {
        1 => choose::<2>(memory, col),
        2 => choose::<4>(memory, col),
        _ => choose::<8>(memory, col),
    }
    // What an error here does to the rest of the chunk, and where it is written down.
    let (cols, slot) = (work.targets.len(), col % CHUNK);
    let row = &work.feedback[col * cols..][col + 1..cols];
    let mut effect = [0.0; 2 * CHUNK];
    effect[slot + 1..CHUNK].iter_mut().zip(row).for_each(|(effect, feedback)| *effect = *feedback);
    effect[CHUNK + slot] = -1.0;

    let states = work.rate.states_before(col + 1);
    let [paths, extended] = &mut memory.paths;
    let [origins, carried] = &mut memory.origins;
    let (paths, origins) = (paths.as_slice(), origins.as_slice());
    let dropped = memory.dropped[col % REACH][..states].iter().enumerate();
    let outputs = extended.iter_mut().zip(carried).zip(&mut memory.moved);
    for ((state, &dropped), ((extended, carried), moved)) in dropped.zip(outputs) {
        let window = state + usize::from(dropped) * states;
        let before = window >> bits;
        let path = &paths[before];
        let error = target + path[slot] - levels[window % WINDOWS];
        *moved = path[slot + 1] - error * effect[slot + 1];
        // Read before anything is written, so that the compiler need not fear that they overlap.
        let mut longer = *path;
        for at in 0..2 * CHUNK {
            longer[at] -= error * effect[at];
        }
        *extended = longer;
        *carried = origins[before];
    }
    memory.paths.swap(0, 1);
    memory.origins.swap(0, 1);
}

/// The cost of every window that a column can make of the open paths by appending `B` symbols.
#[inline(always)]
fn branch<const B: usize>(memory: &mut TrellisMemory, levels: &[f32; WINDOWS], target: f32, importance: f32) {
    let (windows, levels) = (memory.windows.as_chunks_mut::<B>().0, levels.as_chunks::<B>().0);
    let open = memory.costs.iter().zip(&memory.moved);
    for (((cost, moved), windows), levels) in open.zip(windows).zip(levels) {
        let target = target + moved;
        for (window, level) in windows.iter_mut().zip(levels) {
            let error = target - level;
            *window = cost + importance * (error * error);
        }
    }
}

/// The best window for each state of the next column, which no longer sees their oldest `B` symbols.
#[inline(always)]
fn choose<const B: usize>(memory: &mut TrellisMemory, col: usize) {
    let states = WINDOWS / B;
    let (costs, dropped) = (&mut memory.costs[..states], &mut memory.dropped[col % REACH][..states]);
    costs.copy_from_slice(&memory.windows[..states]);
    dropped.fill(0);
    for symbol in 1..B {
        let windows = &memory.windows[symbol * states..][..states];
        for ((cost, dropped), window) in costs.iter_mut().zip(dropped.iter_mut()).zip(windows) {
            let better = window < cost;
            *cost = if better { *window } else { *cost };
            *dropped = if better { symbol as u8 } else { *dropped };
        }
    }
}

/// Ends a chunk: returns the state of the best path, and closes paths that differ from it in the oldest
/// open chunk.
#[inline(always)]
fn compare(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, chunk: &Range<usize>) -> usize {
    let states = work.rate.states_before(chunk.end);
    let index = chunk.start / CHUNK;
    let open = open_chunks(work.rate);
    let slot = index % open;
    memory.earlier[slot][..states].copy_from_slice(&memory.origins[0][..states]);
    for (errors, path) in memory.errors[slot].iter_mut().zip(&memory.paths[0][..states]) {
        errors.copy_from_slice(&path[CHUNK..]);
    }
    let costs = &mut memory.costs[..states];
    let best = (1..states).fold(0, |best, state| if costs[state] < costs[best] { state } else { best });
    if index + 1 >= open {
        let ancestor = |state: usize| {
            (0..open).fold(state, |state, back| usize::from(memory.earlier[(index - back) % open][state]))
        };
        let kept = ancestor(best);
        for (state, cost) in costs.iter_mut().enumerate() {
            if ancestor(state) != kept {
                *cost = f32::INFINITY;
            }
        }
    }
    best
}

/// Writes down the path that ends in state `best` at the end of `range`, its open columns.
#[inline(always)]
fn trace(
    work: &TrellisSearch<'_>,
    memory: &TrellisMemory,
    path: &mut TrellisPath,
    levels: &[f32; WINDOWS],
    best: usize,
    range: Range<usize>,
) {
    let (rate, cols) = (work.rate, work.targets.len());
    let mut state = best;
    for col in range.clone().rev() {
        let states = rate.states_before(col + 1);
        let window = state + usize::from(memory.dropped[col % REACH][state]) * states;
        path.symbols[col] = (window % (1 << rate.bits_at(col))) as u8;
        path.levels[col] = levels[window] as i8;
        state = window >> rate.bits_at(col);
    }
    for col in range.clone() {
        let open = range.start..col;
        let moved: f32 = open.map(|from| path.errors[from] * work.feedback[from * cols + col]).sum();
        path.errors[col] = memory.targets[col] - moved - f32::from(path.levels[col]);
    }
}
