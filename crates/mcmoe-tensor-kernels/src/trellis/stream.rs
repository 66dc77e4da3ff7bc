//! The bits of a group: 64 streams side by side in lines, one for each byte of a line.
//!
//! Byte `4 r + c` of the lines belongs to row `r` of the tile and to the quarter `c` of the group's
//! columns: step `s` of the group is column `s` of each quarter. A stream fills its bytes from the highest
//! bit down, line after line, and continues that of the quarter before it, the first one zeros.

use super::{TrellisRate, WINDOW, levels};
use crate::packed::Line;
use crate::shape::{LINE, STEP_COLS};

/// Puts the bits `symbols` of a step into its place in `lines`, which are zero there.
pub(crate) fn pack(rate: TrellisRate, step: usize, symbols: &Line, lines: &mut [Line]) {
    let (bits, end) = (rate.bits_at(step), rate.bits_until(step));
    for at in end - bits..end {
        for (byte, symbol) in lines[at / 8].iter_mut().zip(symbols) {
            *byte |= (symbol >> (end - 1 - at) & 1) << (7 - at % 8);
        }
    }
}

/// The bits that stream `byte` appends at `step`.
pub(crate) fn symbol(rate: TrellisRate, step: usize, byte: usize, lines: &[Line]) -> u8 {
    let end = rate.bits_until(step);
    let bit = |at: usize| lines[at / 8][byte] >> (7 - at % 8) & 1;
    (end - rate.bits_at(step)..end).fold(0, |symbol, at| symbol << 1 | bit(at))
}

/// The levels of all steps of a group.
#[inline(always)]
pub(crate) fn unpack(rate: TrellisRate, lines: &[Line], steps: &mut [Line]) {
    let levels = levels(rate);
    let [mut before, mut last] = [2, 1].map(|back| continued(lines, back));
    let (mut taken, mut current) = (0, [0; LINE]);
    for (step, out) in steps.iter_mut().enumerate() {
        let end = rate.bits_until(step);
        // At the rates there are, a step ends at most one line further than the one before it.
        if end > 8 * taken {
            if taken > 0 {
                (before, last) = (last, current);
            }
            current = lines[taken];
            taken += 1;
        }
        let unused = 8 * taken - end;
        for byte in 0..LINE {
            let [before, last, current] = [&before, &last, &current].map(|line| u32::from(line[byte]));
            let window = (before << 16 | last << 8 | current) >> unused;
            out[byte] = levels[step % 2][window as usize % (1 << WINDOW)];
        }
    }
}

/// What lies before the first line of each stream: `back` lines before the end of the quarter before it.
#[inline(always)]
pub(crate) fn continued(lines: &[Line], back: usize) -> Line {
    let end = &lines[lines.len() - back];
    std::array::from_fn(|byte| if byte % STEP_COLS == 0 { 0 } else { end[byte - 1] })
}
