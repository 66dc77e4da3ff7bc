//! The search for the stream with the least error: Viterbi's algorithm, each path with its own feedback.
//!
//! The error that a path makes at one column moves the targets of the columns after it, as in GPTQ. Paths
//! are open for [`REACH`] columns, and each remembers its own errors of that time: those of the chunk of
//! [`CHUNK`] columns under way beside what they have done to the rest of the chunk, earlier ones chunk by
//! chunk. At the end of a chunk the best path settles the oldest open one, and paths that differ there are
//! closed; settled errors move all targets beyond.

use std::ops::Range;

use super::{TrellisRate, WINDOW, ZERO, levels};

/// Columns after which paths are compared.
const CHUNK: usize = 8;
/// Columns for which a choice is open.
const REACH: usize = 64;
/// Chunks that are open while one is under way, itself not counted.
const OPEN: usize = REACH / CHUNK - 1;
/// Paths that can be open at most: windows that agree in all but the 2 bits that a step drops at least.
const STATES: usize = 1 << (WINDOW - 2);
const WINDOWS: usize = 1 << WINDOW;

/// Numbers for the columns of a chunk.
type Chunk = [f32; CHUNK];
/// The level of every window, zero as 0, for the weights that share one.
type Levels = [[f32; WINDOWS]; 2];

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
    /// What has been done to the targets of the next columns.
    moved: [Vec<f32>; 2],
    /// The state in which the path was when the chunk began.
    origins: [Vec<u16>; 2],
    /// Of earlier chunks, by number modulo those that are open.
    chunks: Vec<Earlier>,
    /// For the chunk that begins, by state: what open paths have done to its targets so far.
    effects: [Vec<Chunk>; 2],
    /// How errors of an earlier chunk move its targets.
    feedback: Vec<Chunk>,
    /// States that an open path was in, by chunks back.
    live: Vec<Vec<u16>>,
    /// Which states are in the list of `live` that is being made.
    listed: Vec<bool>,
    /// The dropped bits of the best window of each state, by column modulo [`REACH`].
    dropped: Vec<[u8; STATES]>,
    /// Targets, moved by the errors of settled columns.
    targets: Vec<f32>,
    levels: Box<Levels>,
}

/// An earlier chunk, for the state in which each path was at its end.
#[derive(Clone)]
struct Earlier {
    errors: [Chunk; STATES],
    /// The state at the chunk's beginning.
    origins: [u16; STATES],
}

impl Default for TrellisMemory {
    fn default() -> Self {
        let states = || vec![0; STATES];
        let paths = || vec![[0.0; 2 * CHUNK]; STATES];
        let numbers = || vec![0.0; STATES];
        let effects = || vec![[0.0; CHUNK]; STATES];
        Self {
            windows: vec![0.0; WINDOWS],
            costs: numbers(),
            paths: [paths(), paths()],
            moved: [numbers(), numbers()],
            origins: [states(), states()],
            chunks: vec![Earlier { errors: [[0.0; CHUNK]; STATES], origins: [0; STATES] }; OPEN],
            effects: [effects(), effects()],
            feedback: vec![[0.0; CHUNK]; CHUNK],
            live: vec![Vec::new(); OPEN],
            listed: vec![false; STATES],
            dropped: vec![[0; STATES]; REACH],
            targets: Vec::new(),
            levels: Box::new([[0.0; WINDOWS]; 2]),
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
    memory.costs.fill(f32::INFINITY);
    memory.costs[0] = 0.0;
    *memory.levels = levels(work.rate).map(|table| table.map(|level| f32::from(level) - f32::from(ZERO)));
    let mut settled = 0;
    for start in (0..cols).step_by(CHUNK) {
        let chunk = start..cols.min(start + CHUNK);
        look_back(work, memory, &chunk);
        for col in chunk.clone().step_by(work.rate.weights_a_window()) {
            if work.rate.weights_a_window() == 1 {
                extend::<1>(work, memory, col);
            } else {
                extend::<2>(work, memory, col);
            }
        }
        let best = compare(work, memory, &chunk);
        let end = chunk.end;
        let open = OPEN * CHUNK;
        if end == cols || end >= open {
            trace(work, memory, path, best, settled..end);
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
///
/// The further back, the fewer paths there were of which all that are open today come: each of these is
/// summed up once.
#[inline(always)]
fn look_back(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, chunk: &Range<usize>) {
    let (cols, index) = (work.targets.len(), chunk.start / CHUNK);
    let (open, states) = (index.min(OPEN), work.rate.states_before(chunk.start));
    let slot = |back: usize| (index - 1 - back) % OPEN;
    for back in 0..open {
        let (newer, older) = memory.live.split_at_mut(back);
        let list = &mut older[0];
        list.clear();
        match newer.last() {
            None => list.extend(0..states as u16),
            Some(newer) => {
                for &state in newer {
                    let origin = memory.chunks[slot(back - 1)].origins[usize::from(state)];
                    if !std::mem::replace(&mut memory.listed[usize::from(origin)], true) {
                        list.push(origin);
                    }
                }
                list.iter().for_each(|&state| memory.listed[usize::from(state)] = false);
            }
        }
    }
    let [older, newer] = &mut memory.effects;
    for back in (0..open).rev() {
        let earlier = &memory.chunks[slot(back)];
        let first = chunk.start - (back + 1) * CHUNK;
        for (from, feedback) in memory.feedback.iter_mut().enumerate() {
            let row = &work.feedback[(first + from) * cols..][chunk.clone()];
            *feedback = std::array::from_fn(|at| row.get(at).copied().unwrap_or(0.0));
        }
        for &state in &memory.live[back] {
            let state = usize::from(state);
            let mut sums =
                if back + 1 < open { older[usize::from(earlier.origins[state])] } else { [0.0; CHUNK] };
            for (error, feedback) in earlier.errors[state].iter().zip(&memory.feedback) {
                sums = std::array::from_fn(|at| sums[at] + error * feedback[at]);
            }
            newer[state] = sums;
        }
        std::mem::swap(older, newer);
    }
    let [first, second] = &mut memory.moved;
    let moved = first.iter_mut().zip(second);
    let paths = memory.paths[0][..states].iter_mut().zip(moved).zip(&mut memory.origins[0]);
    for (state, ((path, (first, second)), origin)) in paths.enumerate() {
        let effect = if open > 0 { older[state] } else { [0.0; CHUNK] };
        *path = std::array::from_fn(|at| if at < CHUNK { -effect[at] } else { 0.0 });
        (*first, *second, *origin) = (path[0], path[1], state as u16);
    }
}

/// Takes all open paths over one column, or over the `V` that share a window.
#[inline(always)]
fn extend<const V: usize>(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, col: usize) {
    let (cols, slot) = (work.targets.len(), col % CHUNK);
    let own = |values: &[f32], at: usize| values.get(col + at).copied().unwrap_or(0.0);
    let targets: [f32; V] = std::array::from_fn(|at| own(&memory.targets, at));
    let importance: [f32; V] = std::array::from_fn(|at| own(work.importance, at));
    // What the errors here do to the rest of the chunk, and where they are written down.
    let effects: [[f32; 2 * CHUNK]; V] = std::array::from_fn(|at| {
        let (mut effect, next) = ([0.0; 2 * CHUNK], slot + at + 1);
        let row = work.feedback.get((col + at) * cols..).unwrap_or_default();
        let row = row.get(col + at + 1..cols).unwrap_or_default();
        effect[next..CHUNK].iter_mut().zip(row).for_each(|(effect, feedback)| *effect = *feedback);
        effect[CHUNK + slot + at] = -1.0;
        effect
    });
    let branch = Branch { targets, importance, inner: effects[0][slot + V - 1] };
    match work.rate.bits_at(col) {
        2 => branch.run::<4>(memory),
        3 => branch.run::<8>(memory),
        _ => branch.run::<16>(memory),
    }
    match work.rate.bits_at(col + V) {
        2 => choose::<4>(memory, col),
        3 => choose::<8>(memory, col),
        _ => choose::<16>(memory, col),
    }

    let (bits, states) = (work.rate.bits_at(col), work.rate.states_before(col + V));
    let [paths, extended] = &mut memory.paths;
    let [origins, carried] = &mut memory.origins;
    let (paths, origins) = (paths.as_slice(), origins.as_slice());
    let [first, second] = &mut memory.moved;
    let dropped = memory.dropped[col % REACH][..states].iter().enumerate();
    let outputs = extended.iter_mut().zip(carried).zip(first.iter_mut().zip(second));
    for ((state, &dropped), ((extended, carried), moved)) in dropped.zip(outputs) {
        let window = state + usize::from(dropped) * states;
        let before = window >> bits;
        let path = &paths[before];
        let mut errors = [0.0; V];
        for at in 0..V {
            let moved = if at == 0 { 0.0 } else { errors[0] * effects[0][slot + at] };
            errors[at] = targets[at] + path[slot + at] - moved - memory.levels[at][window % WINDOWS];
        }
        let after = |to: usize| (0..V).fold(path[to], |moved, at| moved - errors[at] * effects[at][to]);
        // Beyond the chunk nobody reads these.
        let next = [after(slot + V), after(slot + 2 * V - 1)];
        let extended_path = std::array::from_fn(after);
        (*moved.0, *moved.1) = (next[0], next[1]);
        // Written when all is read, so that the compiler need not fear that they overlap.
        *extended = extended_path;
        *carried = origins[before];
    }
    memory.paths.swap(0, 1);
    memory.origins.swap(0, 1);
}

/// The targets of `V` columns that share a window.
struct Branch<const V: usize> {
    targets: [f32; V],
    importance: [f32; V],
    /// The feedback from the first to the second.
    inner: f32,
}

impl<const V: usize> Branch<V> {
    /// The cost of every window that the columns can make of the open paths by appending `B` symbols.
    #[inline(always)]
    fn run<const B: usize>(&self, memory: &mut TrellisMemory) {
        let windows = memory.windows.as_chunks_mut::<B>().0;
        let [first, second] = &*memory.levels;
        let levels = first.as_chunks::<B>().0.iter().zip(second.as_chunks::<B>().0);
        let moved = memory.moved[0].iter().zip(&memory.moved[1]);
        for (((cost, moved), windows), levels) in memory.costs.iter().zip(moved).zip(windows).zip(levels) {
            let target = self.targets[0] + moved.0;
            let errors: [f32; B] = std::array::from_fn(|at| target - levels.0[at]);
            // Written when all is read, so that the compiler need not fear that they overlap.
            let mut costs = errors.map(|error| cost + self.importance[0] * (error * error));
            if V == 2 {
                let target = self.targets[1] + moved.1;
                let error = |at: usize| target - self.inner * errors[at] - levels.1[at];
                let errors: [f32; B] = std::array::from_fn(error);
                costs = std::array::from_fn(|at| costs[at] + self.importance[1] * (errors[at] * errors[at]));
            }
            *windows = costs;
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
    let states = work.rate.states_before(chunk.end.next_multiple_of(work.rate.weights_a_window()));
    let index = chunk.start / CHUNK;
    let slot = index % OPEN;
    memory.chunks[slot].origins[..states].copy_from_slice(&memory.origins[0][..states]);
    for (errors, path) in memory.chunks[slot].errors.iter_mut().zip(&memory.paths[0][..states]) {
        errors.copy_from_slice(&path[CHUNK..]);
    }
    let costs = &mut memory.costs[..states];
    let best = (1..states).fold(0, |best, state| if costs[state] < costs[best] { state } else { best });
    if index + 1 >= OPEN {
        let chunks = &memory.chunks;
        let ancestor = |state: usize| {
            (0..OPEN).fold(state, |state, back| usize::from(chunks[(index - back) % OPEN].origins[state]))
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
    best: usize,
    range: Range<usize>,
) {
    let (rate, cols) = (work.rate, work.targets.len());
    let (mut state, shared) = (best, rate.weights_a_window());
    for col in range.clone().step_by(shared).rev() {
        let states = rate.states_before(col + shared);
        let window = state + usize::from(memory.dropped[col % REACH][state]) * states;
        path.symbols[col] = (window % (1 << rate.bits_at(col))) as u8;
        for (level, levels) in path.levels[col..].iter_mut().zip(&memory.levels[..shared]) {
            *level = levels[window] as i8;
        }
        state = window >> rate.bits_at(col);
    }
    for col in range.clone() {
        let open = range.start..col;
        let moved: f32 = open.map(|from| path.errors[from] * work.feedback[from * cols + col]).sum();
        path.errors[col] = memory.targets[col] - moved - f32::from(path.levels[col]);
    }
}
