//! The tables of the codes.

use super::WINDOW;

/// Bits of an index into the levels.
const INDEX: usize = 6;

/// The code of a rate.
pub(super) struct Code {
    /// Levels that a standard deviation spans.
    pub(super) unit: f32,
    /// What each of the 6 older bits of the window, the newest of them first, flips in the index.
    older: [u8; WINDOW - INDEX],
    /// The levels, from 1 to 127; 64 is zero.
    levels: [u8; 1 << INDEX],
}

/// By [`super::TrellisRate::index`].
pub(super) static CODES: [Code; 5] = [
    Code {
        unit: 29.395,
        older: [52, 33, 45, 50, 4, 31],
        levels: [
            42, 83, 85, 49, 67, 30, 85, 49, 76, 54, 66, 31, 41, 77, 109, 88, 54, 93, 69, 44, 15, 70, 72, 51,
            44, 107, 76, 70, 73, 18, 47, 93, 49, 72, 76, 46, 87, 40, 68, 22, 48, 92, 125, 59, 32, 84, 58, 1,
            53, 90, 61, 116, 48, 72, 37, 88, 59, 108, 98, 38, 65, 71, 22, 83,
        ],
    },
    Code {
        unit: 25.818,
        older: [40, 17, 33, 21, 31, 39],
        levels: [
            82, 42, 63, 106, 72, 89, 48, 44, 57, 31, 92, 72, 91, 113, 62, 21, 84, 55, 65, 38, 50, 62, 1, 25,
            93, 68, 45, 78, 42, 64, 106, 73, 69, 104, 65, 42, 85, 52, 16, 57, 42, 37, 87, 69, 91, 61, 54, 80,
            48, 65, 72, 32, 57, 81, 95, 127, 45, 59, 23, 91, 31, 70, 80, 70,
        ],
    },
    Code {
        unit: 24.047,
        older: [37, 32, 23, 12, 49, 33],
        levels: [
            66, 44, 91, 21, 47, 57, 69, 93, 99, 87, 60, 67, 38, 76, 66, 55, 82, 58, 39, 69, 31, 91, 106, 50,
            74, 72, 55, 46, 69, 88, 103, 35, 111, 79, 73, 57, 61, 53, 82, 31, 64, 44, 127, 77, 18, 92, 61,
            77, 46, 106, 90, 75, 80, 31, 62, 46, 49, 19, 1, 80, 62, 33, 58, 47,
        ],
    },
    Code {
        unit: 22.933,
        older: [40, 25, 48, 61, 37, 1],
        levels: [
            32, 70, 91, 57, 89, 126, 64, 80, 77, 97, 40, 55, 65, 86, 58, 15, 45, 86, 100, 77, 74, 97, 34, 59,
            45, 60, 45, 72, 71, 1, 55, 25, 82, 20, 71, 93, 32, 79, 103, 46, 42, 108, 54, 88, 54, 67, 64, 27,
            85, 66, 78, 50, 56, 43, 65, 76, 71, 59, 113, 48, 35, 52, 38, 65,
        ],
    },
    Code {
        unit: 21.635,
        older: [41, 29, 53, 55, 51, 53],
        levels: [
            77, 69, 66, 61, 33, 93, 52, 56, 74, 82, 30, 22, 89, 44, 127, 56, 50, 32, 85, 114, 70, 65, 59, 40,
            25, 39, 79, 61, 2, 50, 71, 97, 85, 92, 15, 44, 49, 36, 66, 75, 69, 83, 76, 61, 54, 101, 107, 41,
            61, 44, 51, 93, 73, 46, 87, 82, 59, 52, 79, 101, 73, 58, 66, 67,
        ],
    },
];

/// The level of every window, by rate. The newest bit of a window is its lowest.
pub(crate) static LEVELS: [[u8; 1 << WINDOW]; 5] = {
    let mut all = [[0; 1 << WINDOW]; 5];
    let mut rate = 0;
    while rate < all.len() {
        let mut window = 0;
        while window < all[rate].len() {
            all[rate][window] = CODES[rate].levels[index(&CODES[rate], window)];
            window += 1;
        }
        rate += 1;
    }
    all
};

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

/// The levels of a rate by index, and what each of the older bits flips, for kernels that fold by
/// themselves.
#[cfg(target_arch = "x86_64")]
pub(crate) const fn folded(rate: usize) -> (&'static [u8; 1 << INDEX], &'static [u8; WINDOW - INDEX]) {
    (&CODES[rate].levels, &CODES[rate].older)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_spread_as_a_normal_distribution() {
        for (code, levels) in CODES.iter().zip(&LEVELS) {
            let values = || levels.iter().map(|&level| (f32::from(level) - 64.0) / code.unit);
            let mean = values().sum::<f32>() / 4096.0;
            let square = values().map(|v| v * v).sum::<f32>() / 4096.0;
            assert!(mean.abs() < 0.05 && (0.7..1.3).contains(&square), "{mean} {square}");
            assert!(levels.iter().all(|level| (1..128).contains(level)));
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
