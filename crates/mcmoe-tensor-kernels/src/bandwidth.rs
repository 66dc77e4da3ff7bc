//! How fast this machine reads memory: the measure of every kernel that streams weights.

use std::hint::black_box;
use std::time::Instant;

use rayon::prelude::*;

/// Bytes that a thread reads in one go: few enough that threads end together.
const CHUNK: usize = 256 << 10;
/// Sums side by side keep loads, not additions, the limit.
const SUMS: usize = 64;

/// A buffer far larger than caches, to measure reading with.
#[derive(Debug)]
pub struct Bandwidth {
    words: Vec<u64>,
}

impl Bandwidth {
    /// A buffer of `bytes` bytes, all of them touched.
    pub fn new(bytes: usize) -> Self {
        let count = bytes.div_ceil(size_of::<u64>());
        // By all threads: on some machines memory is near the processor that touched it first.
        Self { words: (0..count as u64).into_par_iter().collect() }
    }

    /// Reads the whole buffer with all threads of the current rayon pool; bytes a second.
    ///
    /// Machines are shared: take several readings, in turns with what they are compared with.
    pub fn read(&self) -> f64 {
        let start = Instant::now();
        let sum: u64 = self.words.par_chunks(CHUNK / size_of::<u64>()).with_max_len(1).map(sum).sum();
        black_box(sum);
        (self.words.len() * size_of::<u64>()) as f64 / start.elapsed().as_secs_f64()
    }
}

fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; SUMS];
    let (chunks, rest) = words.as_chunks::<SUMS>();
    for chunk in chunks {
        sums.iter_mut().zip(chunk).for_each(|(sum, word)| *sum ^= word);
    }
    sums.iter().chain(rest).fold(0, |sum, word| sum ^ word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..1000).map(|i| i * i).collect();
        assert_eq!(sum(&words), words.iter().fold(0, |a, b| a ^ b));
        assert!(Bandwidth::new(1 << 16).read() > 0.0);
    }
}
