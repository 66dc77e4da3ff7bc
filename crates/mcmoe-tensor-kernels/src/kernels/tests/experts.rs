//! The fused block of experts against its parts.

use super::*;

/// Matrices of some experts: gate, up, down.
fn experts(count: usize, hidden: usize, inner: usize, random: &mut Random) -> Vec<[PackedMatrix; 3]> {
    let widths = [BitWidth::B1, BitWidth::B2, BitWidth::B3];
    let of = |e: usize, rows, cols, random: &mut Random| {
        let shape = PackedShape::new(rows, cols, widths[e % 3], 32).unwrap();
        matrix(shape, Flavour::Usual, random)
    };
    (0..count)
        .map(|e| [of(e, inner, hidden, random), of(e, inner, hidden, random), of(e, hidden, inner, random)])
        .collect()
}

/// The block one expert, one token and one matrix at a time.
fn parts(work: &[ExpertWork<'_>], x: &[f32], hidden: usize, precision: Precision) -> Vec<f32> {
    let backend = Backend::current().unwrap();
    let apply = |matrix: &PackedMatrix, x: &[f32]| backend.matmul(&[matrix], x, precision).unwrap().remove(0);
    let mut y = vec![0.0; x.len()];
    for expert in work {
        for (&token, weight) in expert.tokens.iter().zip(expert.weights) {
            let x = &x[token * hidden..][..hidden];
            let (gate, up) = (apply(expert.gate, x), apply(expert.up, x));
            let gated: Vec<f32> = gate.iter().zip(&up).map(|(g, u)| g / (1.0 + (-g).exp()) * u).collect();
            let out = apply(expert.down, &gated);
            y[token * hidden..].iter_mut().zip(out).for_each(|(y, out)| *y += weight * out);
        }
    }
    y
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_block_equals_its_parts(
        tokens in 1_usize..20,
        hidden in 1_usize..70,
        inner in 1_usize..100,
        precision in prop::sample::select(Precision::ALL.to_vec()),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let experts = experts(4, hidden, inner, &mut random);
        let x = activations(tokens, hidden, Flavour::Usual, &mut random);
        let routes: Vec<(Vec<usize>, Vec<f32>)> = experts
            .iter()
            .map(|_| (0..tokens).filter(|_| random.below(2) == 0).collect::<Vec<usize>>())
            .map(|tokens| (tokens.clone(), tokens.iter().map(|&t| (t + 1) as f32 / 32.0).collect()))
            .collect();
        let work: Vec<ExpertWork<'_>> = experts
            .iter()
            .zip(&routes)
            .map(|([gate, up, down], (tokens, weights))| ExpertWork { gate, up, down, tokens, weights })
            .collect();
        let expected = bits(&parts(&work, &x, hidden, precision));
        for backend in Backend::available() {
            let found = backend.experts(&work, &x, hidden, precision).unwrap();
            prop_assert_eq!(bits(&found), expected.clone(), "{}", backend);
        }
    }
}

#[test]
fn no_expert_gives_zeros() {
    let y = Backend::current().unwrap().experts(&[], &[1.0; 6], 3, Precision::Int8).unwrap();
    assert_eq!(y, [0.0; 6]);
    assert!(Backend::current().unwrap().experts(&[], &[], 0, Precision::Int8).unwrap().is_empty());
}

#[test]
fn what_does_not_fit_is_refused() {
    let experts = experts(2, 32, 48, &mut Random::new(5));
    let [gate, up, down] = &experts[0];
    let run = |work: ExpertWork<'_>, hidden| {
        Backend::current().unwrap().experts(&[work], &[0.0; 64], hidden, Precision::Int8).unwrap_err()
    };
    let work = ExpertWork { gate, up, down, tokens: &[0, 1], weights: &[1.0, 1.0] };
    let swapped = ExpertWork { up: down, ..work };
    assert!(matches!(run(swapped, 32), KernelError::Length { .. }));
    assert!(matches!(run(work, 16), KernelError::Length { .. }));
    assert!(matches!(run(work, 0), KernelError::Length { .. }));
    assert!(matches!(run(ExpertWork { weights: &[1.0], ..work }, 32), KernelError::Length { .. }));
    let absent = ExpertWork { tokens: &[0, 2], ..work };
    assert_eq!(run(absent, 32), KernelError::NoToken { token: 2, tokens: 2 });
}
