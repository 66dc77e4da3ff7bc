//! Choosing a token from logits.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::MixtralError;

/// How a token is chosen.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sampling {
    /// Divides the logits; 0 takes the best token every time.
    pub temperature: f32,
    /// Only the best so many tokens; 0 for all.
    pub top_k: usize,
    /// Only the best tokens whose probabilities reach this sum; 1 for all.
    pub top_p: f32,
    /// Divides positive and multiplies negative logits of tokens seen before (Keskar et al. 2019);
    /// 1 for none.
    pub repetition_penalty: f32,
    /// Seed of the choice.
    pub seed: u64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, repetition_penalty: 1.0, seed: 0 }
    }
}

impl Sampling {
    /// Sets the temperature.
    #[must_use]
    pub const fn temperature(mut self, temperature: f32) -> Self {
        self.temperature = temperature;
        self
    }

    /// Sets the number of best tokens.
    #[must_use]
    pub const fn top_k(mut self, top_k: usize) -> Self {
        self.top_k = top_k;
        self
    }

    /// Sets the sum of probabilities.
    #[must_use]
    pub const fn top_p(mut self, top_p: f32) -> Self {
        self.top_p = top_p;
        self
    }

    /// Sets the repetition penalty.
    #[must_use]
    pub const fn repetition_penalty(mut self, penalty: f32) -> Self {
        self.repetition_penalty = penalty;
        self
    }

    /// Sets the seed.
    #[must_use]
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    fn check(&self) -> Result<(), MixtralError> {
        let refuse = |option, reason: &str| Err(MixtralError::option(option, reason));
        if !(self.temperature.is_finite() && self.temperature >= 0.0) {
            return refuse("--temperature", "must be 0 or more");
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return refuse("--top-p", "must be above 0 and at most 1");
        }
        if !(self.repetition_penalty.is_finite() && self.repetition_penalty > 0.0) {
            return refuse("--repetition-penalty", "must be above 0");
        }
        Ok(())
    }
}

/// Chooses tokens; the same seed and logits give the same tokens.
#[derive(Debug)]
pub struct Sampler {
    sampling: Sampling,
    rng: ChaCha8Rng,
}

impl Sampler {
    /// A sampler at the start of its random stream.
    ///
    /// # Errors
    /// [`MixtralError::Option`] for a value out of range.
    pub fn new(sampling: Sampling) -> Result<Self, MixtralError> {
        sampling.check()?;
        let rng = ChaCha8Rng::seed_from_u64(sampling.seed);
        Ok(Self { sampling, rng })
    }

    /// The next token; `seen` are the tokens so far, prompt included. `logits` is changed.
    pub fn choose(&mut self, logits: &mut [f32], seen: &[u32]) -> u32 {
        self.penalize(logits, seen);
        let best = |logits: &[f32]| {
            let better = |a: usize, b: usize| if logits[b] > logits[a] { b } else { a };
            (0..logits.len()).reduce(better).unwrap_or_default() as u32
        };
        if self.sampling.temperature == 0.0 {
            return best(logits);
        }
        let candidates = self.candidates(logits);
        let total: f64 = candidates.iter().map(|(_, weight)| weight).sum();
        let mut left = self.uniform() * total;
        for &(token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return token;
            }
        }
        candidates.last().map_or_else(|| best(logits), |&(token, _)| token)
    }

    fn penalize(&self, logits: &mut [f32], seen: &[u32]) {
        let penalty = self.sampling.repetition_penalty;
        if penalty == 1.0 {
            return;
        }
        let mut seen = seen.to_vec();
        seen.sort_unstable();
        seen.dedup();
        for token in seen {
            if let Some(logit) = logits.get_mut(token as usize) {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
        }
    }

    /// Tokens that may be chosen with their unnormalised probabilities, best first.
    fn candidates(&self, logits: &[f32]) -> Vec<(u32, f64)> {
        let mut order: Vec<u32> = (0..logits.len() as u32).collect();
        order.sort_by(|&a, &b| logits[b as usize].total_cmp(&logits[a as usize]));
        if self.sampling.top_k > 0 {
            order.truncate(self.sampling.top_k);
        }
        let Some(&first) = order.first() else { return Vec::new() };
        let weight = |token: u32| {
            let distance = logits[token as usize] - logits[first as usize];
            f64::from(distance / self.sampling.temperature).exp()
        };
        let mut candidates: Vec<(u32, f64)> = order.iter().map(|&token| (token, weight(token))).collect();
        let enough = f64::from(self.sampling.top_p) * candidates.iter().map(|(_, w)| w).sum::<f64>();
        let mut sum = 0.0;
        // The token that crosses the line is still in.
        let kept = candidates.iter().take_while(|(_, weight)| {
            let before = sum;
            sum += weight;
            before < enough
        });
        let kept = kept.count().max(1);
        candidates.truncate(kept);
        candidates
    }

    /// A number from 0 to below 1, in steps of 2⁻⁵³.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 4] = [1.0, 3.0, 2.0, -1.0];

    fn shares(sampling: Sampling) -> [f64; 4] {
        let mut sampler = Sampler::new(sampling).unwrap();
        let mut counts = [0.0; 4];
        (0..20_000).for_each(|_| counts[sampler.choose(&mut LOGITS.clone(), &[]) as usize] += 1.0 / 20_000.0);
        counts
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let temperature = 1.5;
        let weights = LOGITS.map(|logit| f64::from(logit / temperature).exp());
        let total: f64 = weights.iter().sum();
        let found = shares(Sampling::default().temperature(temperature));
        for (share, weight) in found.iter().zip(weights) {
            assert!((share - weight / total).abs() < 0.015, "{found:?}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let base = Sampling::default().temperature(1.0);
        let top_k = shares(base.clone().top_k(2));
        assert!(top_k[0] == 0.0 && top_k[3] == 0.0 && top_k[2] > 0.2);
        // Probabilities: 0.66 (1), 0.24 (2), 0.09 (0), 0.01 (3).
        let top_p = shares(base.clone().top_p(0.7));
        assert!(top_p[0] == 0.0 && top_p[3] == 0.0 && top_p[2] > 0.2);
        assert_eq!(shares(base.top_p(0.1))[1].round(), 1.0);
    }

    #[test]
    fn greedy_takes_the_first_best_and_penalties_push_back() {
        let mut greedy = Sampler::new(Sampling::default()).unwrap();
        assert_eq!(greedy.choose(&mut [1.0, 2.0, 2.0], &[]), 1);
        let mut penalised = Sampler::new(Sampling::default().repetition_penalty(2.0)).unwrap();
        assert_eq!(penalised.choose(&mut LOGITS.clone(), &[1, 1]), 2);
        let mut negative = [-1.0, -1.5];
        assert_eq!(penalised.choose(&mut negative, &[0]), 1);
        assert_eq!(negative, [-2.0, -1.5]);
    }

    #[test]
    fn the_same_seed_gives_the_same_tokens() {
        let run = |seed| {
            let mut sampler = Sampler::new(Sampling::default().temperature(2.0).seed(seed)).unwrap();
            (0..50).map(|_| sampler.choose(&mut LOGITS.clone(), &[])).collect::<Vec<u32>>()
        };
        assert_eq!(run(3), run(3));
        assert_ne!(run(3), run(4));
    }

    #[test]
    fn values_out_of_range_are_named() {
        let error = |sampling| Sampler::new(sampling).unwrap_err().to_string();
        assert!(error(Sampling::default().temperature(-1.0)).contains("--temperature"));
        assert!(error(Sampling::default().top_p(0.0)).contains("--top-p"));
        assert!(error(Sampling::default().repetition_penalty(f32::NAN)).contains("--repetition-penalty"));
    }
}
