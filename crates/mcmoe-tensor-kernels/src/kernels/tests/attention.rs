//! Attention of a decode step against its formula in `f64`.

use super::*;

/// Sizes of a case.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    batch: usize,
    kv_heads: usize,
    group: usize,
    width: usize,
    capacity: usize,
}

/// Row `row` of width `width`.
fn row(values: &[f32], row: usize, width: usize) -> &[f32] {
    &values[row * width..][..width]
}

fn oracle(step: &DecodeAttention<'_>, sizes: Sizes) -> Vec<f64> {
    let Sizes { batch, kv_heads, group, width, capacity } = sizes;
    let mut out = Vec::new();
    for head in 0..batch * kv_heads * group {
        let query = row(step.queries, head, width);
        let at = |position: usize| head / group * capacity + position;
        let dot =
            |key: &[f32]| query.iter().zip(key).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
        let weight = |p: usize| (dot(row(step.keys, at(p), width)) / (width as f64).sqrt()).exp();
        let weights: Vec<f64> = step.seen.clone().map(weight).collect();
        let total: f64 = weights.iter().sum();
        for feature in 0..width {
            let values = step.seen.clone().map(|p| f64::from(row(step.values, at(p), width)[feature]));
            out.push(values.zip(&weights).map(|(value, weight)| value * weight).sum::<f64>() / total);
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn equals_the_formula(
        batch in 1_usize..3, kv_heads in 1_usize..4, group in 1_usize..4, width in 1_usize..140,
        capacity in 1_usize..20, seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let sizes = Sizes { batch, kv_heads, group, width, capacity };
        let mut values = |count: usize| (0..count).map(|_| random.unit()).collect::<Vec<f32>>();
        let queries = values(batch * kv_heads * group * width);
        let [keys, values] = [values(batch * kv_heads * capacity * width), values(batch * kv_heads * capacity * width)];
        let end = 1 + seed as usize % capacity;
        let step = DecodeAttention {
            queries: &queries, keys: &keys, values: &values,
            head_dim: width, heads: kv_heads * group, kv_heads, capacity, seen: end / 2..end,
        };
        let expected = oracle(&step, sizes);
        let scalar = Backend::named("scalar").unwrap().decode_attention(&step).unwrap();
        for (found, expected) in scalar.iter().zip(expected) {
            prop_assert!((f64::from(*found) - expected).abs() < 1e-5, "{found} {expected}");
        }
        for backend in Backend::available() {
            prop_assert_eq!(bits(&backend.decode_attention(&step).unwrap()), bits(&scalar), "{}", backend);
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let step = DecodeAttention {
        queries: &[0.0; 16],
        keys: &[0.0; 24],
        values: &[0.0; 24],
        head_dim: 4,
        heads: 4,
        kv_heads: 2,
        capacity: 3,
        seen: 0..3,
    };
    let run = |step: DecodeAttention<'_>| Backend::current().unwrap().decode_attention(&step);
    assert_eq!(run(step.clone()).unwrap(), [0.0; 16]);
    for damaged in [
        DecodeAttention { queries: &[0.0; 15], ..step.clone() },
        DecodeAttention { keys: &[0.0; 23], ..step.clone() },
        DecodeAttention { kv_heads: 3, ..step.clone() },
        DecodeAttention { kv_heads: 0, ..step.clone() },
        DecodeAttention { values: &[0.0; 25], ..step.clone() },
        DecodeAttention { queries: &[], keys: &[], values: &[], head_dim: 0, ..step.clone() },
        DecodeAttention { heads: usize::MAX, kv_heads: 1, ..step.clone() },
        DecodeAttention { capacity: usize::MAX, ..step.clone() },
        DecodeAttention { seen: 1..1, ..step.clone() },
        DecodeAttention { seen: 0..4, ..step },
    ] {
        assert!(matches!(run(damaged), Err(KernelError::Length { .. })));
    }
}
