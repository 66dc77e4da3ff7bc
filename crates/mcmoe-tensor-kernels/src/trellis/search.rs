//! The search for the stream with the least error: Viterbi's algorithm, each path with its own feedback.
//!
//! The error that a path makes at one column is spread to the columns after it, as GPTQ does; what it has
//! done to the next [`REACH`] columns is carried along with every path that is still open. For columns
//! further away, the errors of the path that is best at the end of a [`CHUNK`] of columns stand for those of
//! all paths. What lies [`DELAY`] columns back is settled then, and paths that differ there are closed.

use std::ops::Range;

use super::{LEVELS, TrellisRate, WINDOW, ZERO};

/// Columns ahead for which each path knows what its own errors have done.
const REACH: usize = 32;
/// Columns after which paths are compared.
const CHUNK: usize = 8;
/// Columns after which a choice is settled.
const DELAY: usize = 24;
/// Columns whose choices are open at most.
const OPEN: usize = DELAY + CHUNK;
/// Paths that can be open at most, at one bit a weight.
const STATES: usize = 1 << (WINDOW - 1);
const WINDOWS: usize = 1 << WINDOW;

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
    states: Vec<f32>,
    /// Where each state was when the chunk began.
    origins: [Vec<u16>; 2],
    /// Where each state at the end of a chunk was when it began, for the chunks that are open.
    chunks: Vec<[u16; STATES]>,
    /// What errors have done to the next columns, by column modulo [`REACH`].
    moved: [Vec<[f32; REACH]>; 2],
    /// The dropped bits of the best window of each state, by column modulo [`OPEN`].
    dropped: Vec<[u8; STATES]>,
    /// Targets, moved by the errors of settled columns.
    targets: Vec<f32>,
    /// The targets of a chunk, moved also by the best path's errors beyond [`REACH`].
    tentative: [f32; CHUNK],
}

impl Default for TrellisMemory {
    fn default() -> Self {
        let pair = || [vec![0; STATES], vec![0; STATES]];
        let moved = || vec![[0.0; REACH]; STATES];
        Self {
            windows: vec![0.0; WINDOWS],
            states: vec![0.0; STATES],
            origins: pair(),
            chunks: vec![[0; STATES]; DELAY / CHUNK],
            moved: [moved(), moved()],
            dropped: vec![[0; STATES]; OPEN],
            targets: Vec::new(),
            tentative: [0.0; CHUNK],
        }
    }
}

impl std::fmt::Debug for TrellisMemory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TrellisMemory")
    }
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
    memory.states.fill(f32::INFINITY);
    memory.states[0] = 0.0;
    memory.moved[0][0] = [0.0; REACH];
    memory.origins[0][0] = 0;
    let levels: Vec<f32> =
        LEVELS[work.rate.index()].iter().map(|&level| f32::from(level) - f32::from(ZERO)).collect();
    let levels: &[f32; WINDOWS] = levels.as_slice().try_into().expect("as many levels as windows");
    let mut settled = 0;
    for start in (0..cols).step_by(CHUNK) {
        let end = cols.min(start + CHUNK);
        look_ahead(work, memory, path, settled, start..end);
        for col in start..end {
            extend(work, memory, levels, col);
        }
        let best = compare(work, memory, start..end);
        trace(work, memory, path, levels, best, settled..end);
        let until = if end == cols { cols } else { end.saturating_sub(DELAY) };
        for col in settled..until {
            let feedback = &work.feedback[col * cols..][until..cols];
            for (target, feedback) in memory.targets[until..].iter_mut().zip(feedback) {
                *target -= path.errors[col] * feedback;
            }
        }
        settled = until;
    }
}

/// Moves the targets of a chunk by the errors that the best path made too long ago for the other paths to
/// know of their own.
#[inline(always)]
fn look_ahead(
    work: &TrellisSearch<'_>,
    memory: &mut TrellisMemory,
    path: &TrellisPath,
    settled: usize,
    chunk: Range<usize>,
) {
    let cols = work.targets.len();
    for (place, col) in memory.tentative.iter_mut().zip(chunk) {
        let known = settled..col.saturating_sub(REACH).max(settled);
        let moved: f32 = known.map(|from| path.errors[from] * work.feedback[from * cols + col]).sum();
        *place = memory.targets[col] - moved;
    }
}

/// Takes all open paths over one column.
#[inline(always)]
fn extend(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, levels: &[f32; WINDOWS], col: usize) {
    let (bits, slot) = (work.rate.bits_at(col), col % REACH);
    match bits {
        1 => branch::<2>(memory, levels, work.importance[col], col),
        2 => branch::<4>(memory, levels, work.importance[col], col),
        _ => branch::<8>(memory, levels, work.importance[col], col),
    }
    let next = work.rate.bits_at(col + 1);
    match next {
        1 => choose::<2>(memory, col),
        2 => choose::<4>(memory, col),
        _ => choose::<8>(memory, col),
    }
    // The feedback of this column, by column modulo REACH; what it does to itself is nothing.
    let cols = work.targets.len();
    let feedback = &work.feedback[col * cols..][..cols];
    let ahead: [f32; REACH] = std::array::from_fn(|at| {
        let distance = (at + REACH - slot - 1) % REACH + 1;
        feedback.get(col + distance).copied().unwrap_or(0.0)
    });
    let target = memory.tentative[col % CHUNK];
    let [moved, extended] = &mut memory.moved;
    let [origins, carried] = &mut memory.origins;
    let states = work.rate.states_before(col + 1);
    for (state, &dropped) in memory.dropped[col % OPEN][..states].iter().enumerate() {
        let window = state | usize::from(dropped) * states;
        let before = window >> bits;
        let error = target + moved[before][slot] - levels[window];
        // Read before anything is written, so that the compiler need not fear that they overlap.
        let mut to = moved[before];
        for at in 0..REACH {
            to[at] -= error * ahead[at];
        }
        extended[state] = to;
        extended[state][slot] = -error * ahead[slot];
        carried[state] = origins[before];
    }
    memory.moved.swap(0, 1);
    memory.origins.swap(0, 1);
}

/// The cost of every window that column `col` can make of the open paths by appending `B` symbols.
#[inline(always)]
fn branch<const B: usize>(
    memory: &mut TrellisMemory,
    levels: &[f32; WINDOWS],
    importance: f32,
    col: usize,
) {
    let target = memory.tentative[col % CHUNK];
    let (windows, levels) = (memory.windows.as_chunks_mut::<B>().0, levels.as_chunks::<B>().0);
    let open = memory.states.iter().zip(&memory.moved[0]);
    for (((cost, moved), windows), levels) in open.zip(windows).zip(levels) {
        let target = target + moved[col % REACH];
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
    let (costs, dropped) = (&mut memory.states[..states], &mut memory.dropped[col % OPEN][..states]);
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

/// The best path at the end of a chunk; paths that differ from it more than [`DELAY`] columns back are
/// closed.
#[inline(always)]
fn compare(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, chunk: Range<usize>) -> usize {
    let states = work.rate.states_before(chunk.end);
    let costs = &mut memory.states[..states];
    let best = (1..states).fold(0, |best, state| if costs[state] < costs[best] { state } else { best });
    let open = DELAY / CHUNK;
    let index = chunk.start / CHUNK;
    memory.chunks[index % open][..states].copy_from_slice(&memory.origins[0][..states]);
    if index + 1 >= open {
        let ancestor = |state: usize| {
            (0..open).fold(state, |state, back| usize::from(memory.chunks[(index - back) % open][state]))
        };
        let kept = ancestor(best);
        for (state, cost) in costs.iter_mut().enumerate() {
            if ancestor(state) != kept {
                *cost = f32::INFINITY;
            }
        }
    }
    memory.states[states..].fill(f32::INFINITY);
    memory.origins[0].iter_mut().enumerate().for_each(|(state, origin)| *origin = state as u16);
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
        let window = state | usize::from(memory.dropped[col % OPEN][state]) * states;
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
