//! The tables of the codes.

use super::{TrellisRate, WINDOW};

/// Bits of an index into the levels.
pub(crate) const INDEX: usize = 6;

/// The code of a rate.
pub(super) struct Code {
    /// Levels that a standard deviation spans.
    pub(super) unit: f32,
    /// What each of the 6 older bits of the window, the newest of them first, flips in the index.
    older: [u8; WINDOW - INDEX],
    /// The levels, from 1 to 127; 64 is zero. Those of weights at even positions, then at odd ones if they
    /// share windows.
    levels: &'static [Table],
}

type Table = [u8; 1 << INDEX];

/// By [`super::TrellisRate::index`].
pub(super) static CODES: [Code; 6] = [
    Code {
        unit: 30.189,
        older: [31, 23, 60, 1, 26, 42],
        levels: &[
            [
                32, 72, 82, 71, 121, 59, 31, 90, 85, 55, 102, 66, 45, 61, 89, 59, 64, 78, 24, 65, 58, 31, 24,
                80, 89, 72, 95, 72, 52, 89, 56, 19, 61, 56, 41, 106, 125, 71, 75, 29, 32, 77, 94, 45, 6, 37,
                59, 92, 84, 51, 48, 2, 84, 53, 109, 39, 46, 61, 92, 51, 70, 107, 67, 40,
            ],
            [
                67, 26, 90, 62, 41, 61, 39, 75, 91, 62, 19, 37, 93, 50, 62, 1, 34, 76, 81, 81, 56, 104, 15,
                89, 14, 77, 50, 106, 81, 50, 36, 51, 71, 124, 34, 52, 77, 37, 73, 65, 105, 44, 116, 61, 87,
                40, 72, 81, 58, 73, 28, 51, 49, 95, 100, 60, 80, 115, 60, 58, 34, 71, 92, 66,
            ],
        ],
    },
    Code {
        unit: 27.969,
        older: [41, 5, 59, 50, 35, 4],
        levels: &[
            [
                47, 98, 88, 31, 38, 95, 63, 69, 85, 66, 124, 119, 54, 66, 41, 57, 68, 50, 49, 94, 16, 73,
                101, 41, 114, 38, 72, 64, 29, 91, 82, 46, 57, 40, 61, 33, 84, 83, 58, 27, 64, 12, 53, 74, 48,
                6, 74, 99, 30, 87, 86, 117, 33, 56, 68, 88, 70, 72, 4, 100, 71, 51, 76, 49,
            ],
            [
                103, 114, 29, 65, 32, 64, 49, 75, 69, 101, 54, 94, 78, 54, 71, 1, 44, 62, 86, 72, 103, 100,
                52, 122, 25, 45, 127, 81, 77, 91, 51, 41, 42, 95, 22, 85, 45, 87, 69, 52, 101, 33, 29, 54,
                61, 80, 78, 41, 13, 92, 53, 70, 60, 60, 73, 6, 63, 65, 57, 78, 24, 85, 33, 46,
            ],
        ],
    },
    Code {
        unit: 24.047,
        older: [37, 32, 23, 12, 49, 33],
        levels: &[[
            66, 44, 91, 21, 47, 57, 69, 93, 99, 87, 60, 67, 38, 76, 66, 55, 82, 58, 39, 69, 31, 91, 106, 50,
            74, 72, 55, 46, 69, 88, 103, 35, 111, 79, 73, 57, 61, 53, 82, 31, 64, 44, 127, 77, 18, 92, 61,
            77, 46, 106, 90, 75, 80, 31, 62, 46, 49, 19, 1, 80, 62, 33, 58, 47,
        ]],
    },
    Code {
        unit: 22.933,
        older: [40, 25, 48, 61, 37, 1],
        levels: &[[
            32, 70, 91, 57, 89, 126, 64, 80, 77, 97, 40, 55, 65, 86, 58, 15, 45, 86, 100, 77, 74, 97, 34, 59,
            45, 60, 45, 72, 71, 1, 55, 25, 82, 20, 71, 93, 32, 79, 103, 46, 42, 108, 54, 88, 54, 67, 64, 27,
            85, 66, 78, 50, 56, 43, 65, 76, 71, 59, 113, 48, 35, 52, 38, 65,
        ]],
    },
    Code {
        unit: 21.635,
        older: [41, 29, 53, 55, 51, 53],
        levels: &[[
            77, 69, 66, 61, 33, 93, 52, 56, 74, 82, 30, 22, 89, 44, 127, 56, 50, 32, 85, 114, 70, 65, 59, 40,
            25, 39, 79, 61, 2, 50, 71, 97, 85, 92, 15, 44, 49, 36, 66, 75, 69, 83, 76, 61, 54, 101, 107, 41,
            61, 44, 51, 93, 73, 46, 87, 82, 59, 52, 79, 101, 73, 58, 66, 67,
        ]],
    },
    Code {
        unit: 18.949,
        older: [51, 31, 59, 45, 43, 9],
        levels: &[[
            39, 84, 64, 68, 73, 103, 96, 62, 28, 57, 49, 69, 60, 80, 42, 53, 70, 66, 83, 59, 87, 63, 74, 50,
            81, 44, 53, 35, 57, 99, 76, 78, 125, 37, 50, 46, 42, 56, 65, 88, 12, 93, 72, 19, 69, 60, 75, 1,
            75, 64, 47, 85, 67, 60, 24, 78, 54, 80, 89, 72, 108, 92, 115, 32,
        ]],
    },
];

/// The level of every window, for weights at even and at odd positions. The newest bit of a window is its
/// lowest.
pub(crate) type Levels = [[u8; 1 << WINDOW]; 2];

/// The levels of a rate.
pub(crate) const fn levels(rate: TrellisRate) -> &'static Levels {
    static LEVELS: [Levels; CODES.len()] = {
        let mut all = [[[0; 1 << WINDOW]; 2]; CODES.len()];
        let mut at = 0;
        while at < 2 * all.len() {
            let code = &CODES[at / 2];
            let table = &code.levels[at % code.levels.len()];
            let mut window = 0;
            while window < 1 << WINDOW {
                all[at / 2][at % 2][window] = table[index(code, window)];
                window += 1;
            }
            at += 1;
        }
        all
    };
    &LEVELS[rate.index()]
}

/// The position of a window's level: its 6 newest bits, some of them flipped by the older ones.
const fn index(code: &Code, window: usize) -> usize {
    let mut index = window % (1 << INDEX);
    let mut bit = 0;
    while bit < code.older.len() {
        if window >> (INDEX + bit) & 1 == 1 {
            index ^= code.older[bit] as usize;
        }
        bit += 1;
    }
    index
}

/// The levels of a rate by index, for weights at even and at odd positions, and what each of the older bits
/// flips, for kernels that fold by themselves.
#[cfg(any(target_arch = "x86_64", feature = "gpu"))]
pub(crate) const fn folded(rate: TrellisRate) -> ([&'static Table; 2], &'static [u8; WINDOW - INDEX]) {
    let Code { levels, older, .. } = &CODES[rate.index()];
    ([&levels[0], &levels[levels.len() - 1]], older)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_spread_as_a_normal_distribution() {
        for rate in TrellisRate::ALL {
            for levels in levels(rate) {
                let values = || levels.iter().map(|&level| (f32::from(level) - 64.0) / rate.unit());
                let mean = values().sum::<f32>() / 4096.0;
                let square = values().map(|v| v * v).sum::<f32>() / 4096.0;
                assert!(mean.abs() < 0.1 && (0.6..1.6).contains(&square), "{rate}: {mean} {square}");
                assert!(levels.iter().all(|level| (1..128).contains(level)));
            }
        }
    }

    #[test]
    fn every_index_is_as_frequent() {
        for code in &CODES {
            let mut counts = [0; 1 << INDEX];
            (0..1 << WINDOW).for_each(|window| counts[index(code, window)] += 1);
            assert_eq!(counts, [1 << (WINDOW - INDEX); 1 << INDEX]);
        }
    }
}
