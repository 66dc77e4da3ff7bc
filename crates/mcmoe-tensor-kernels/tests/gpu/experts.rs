//! Routing and blocks of experts.

use burn_flex::Flex;
use mcmoe_tensor_kernels::{
    Backend, BitWidth, Coding, ExpertWork, PackedMatrix, PackedOps, Precision, RouteRule, Routing,
    TrellisRate, packed_experts, protect, route,
};

use crate::cases::{assert_close, packed, random, tensor, values};

const EXPERTS: usize = 8;

/// Logits of which none are equal but where `ties` asks for it.
fn logits(tokens: usize, ties: bool) -> Vec<f32> {
    let values = random(tokens * EXPERTS, 11 + tokens as u64);
    values.into_iter().map(|v| if ties { (v * 2.0).round() + 0.0 } else { 3.0 * v }).collect()
}

/// Choices, shares, pruning and counts, against the CPU's.
pub(crate) fn routes<B: PackedOps>(device: &B::Device) {
    for (tokens, top_k, threshold, ties) in
        [(1, 2, 0.0, false), (5, 2, 0.6, true), (300, 2, 0.5, false), (300, 3, 0.4, true), (2, 8, 0.1, false)]
    {
        let logits = logits(tokens, ties);
        let keeps: Vec<f32> = (0..tokens).map(|token| f32::from(u8::from(token % 3 == 0))).collect();
        let rule = RouteRule::new(top_k).threshold(threshold);
        let mut tally = B::Tally::default();
        for pass in 1..=2 {
            let protected = (pass == 2).then(|| tensor(keeps.clone(), [tokens], device));
            let on_device = tensor(logits.clone(), [tokens, EXPERTS], device);
            let found = B::assigned(&route::<B>(on_device, rule, protected, &mut tally), EXPERTS);
            let mut expected = Routing::from_logits(&logits, EXPERTS, top_k);
            let keeps: Vec<bool> = keeps.iter().map(|&keeps| pass == 2 && keeps > 0.0).collect();
            expected.prune(threshold, &keeps);
            for (expert, (tokens, weights)) in found.iter().enumerate() {
                let (expected_tokens, expected_weights) = expected.assigned(expert);
                assert_eq!(*tokens, expected_tokens, "expert {expert} in pass {pass}");
                assert_close("weights", weights, &expected_weights, 1e-5);
            }
        }
        let mut expected = Default::default();
        let host = |values: Vec<f32>| tensor::<Flex, 2>(values, [tokens, EXPERTS], &Default::default());
        for pass in 1..=2 {
            let protected = (pass == 2).then(|| tensor(keeps.clone(), [tokens], &Default::default()));
            route::<Flex>(host(logits.clone()), rule, protected, &mut expected);
        }
        assert_eq!(B::counts(&tally), expected, "{tokens} tokens");
    }
    assert_eq!(B::counts(&B::Tally::default()), Default::default());
}

pub(crate) fn protected_tokens<B: PackedOps>(device: &B::Device) {
    for (sequences, len, count) in [(1, 7, 1), (3, 50, 2), (2, 300, 100), (1, 5, 5), (2, 6, 0)] {
        let x = random(sequences * len * 24, 3);
        let received: Vec<f32> = random(sequences * len, 4).into_iter().map(f32::abs).collect();
        let found = protect::<B>(
            tensor(x.clone(), [sequences * len, 24], device),
            tensor(received.clone(), [sequences, len], device),
            count,
        );
        let here = Default::default();
        let expected = protect::<Flex>(
            tensor(x, [sequences * len, 24], &here),
            tensor(received, [sequences, len], &here),
            count,
        );
        assert_eq!(values(found), values(expected), "{sequences} of {len}, {count}");
    }
}

/// Blocks of experts of different codes, and what pruning leaves of them, against the CPU's.
pub(crate) fn blocks<B: PackedOps>(device: &B::Device) {
    let grids = [BitWidth::B1, BitWidth::B2, BitWidth::B3].map(Coding::Grid);
    let trellises = [1.5, 3.0].map(|rate| Coding::Trellis(TrellisRate::new(rate).unwrap()));
    // Sides that are whole pieces and some that are not.
    for (codings, [hidden, inner]) in
        [(&grids[..], [128, 320]), (&trellises, [128, 192]), (&grids[1..2], [72, 40])]
    {
        let matrices: Vec<[PackedMatrix; 3]> = (0..EXPERTS)
            .map(|e| {
                let matrix = |i: usize, rows, cols| {
                    packed(rows, cols, codings[(e + i) % codings.len()], 64, (3 * e + i) as u64)
                };
                [matrix(0, inner, hidden), matrix(1, inner, hidden), matrix(2, hidden, inner)]
            })
            .collect();
        let on_device = |matrix: &PackedMatrix| B::packed_from(matrix.clone(), Precision::F32, device);
        let mut parts: Vec<[B::Packed; 3]> =
            matrices.iter().map(|expert| expert.each_ref().map(on_device)).collect();
        let mut parts: Vec<[&mut B::Packed; 3]> = parts.iter_mut().map(<[B::Packed; 3]>::each_mut).collect();
        let together = B::experts_from(&mut parts, device).expect("codes of one kind");
        for tokens in [1, 2, 7, 64] {
            let (x, logits) = (random(tokens * hidden, 6), logits(tokens, false));
            let rule = RouteRule::new(2).threshold(0.5);
            let mut tally = B::Tally::default();
            let routes =
                route::<B>(tensor(logits.clone(), [tokens, EXPERTS], device), rule, None, &mut tally);
            let y = packed_experts::<B>(tensor(x.clone(), [tokens, hidden], device), &together, &routes);
            let mut routing = Routing::from_logits(&logits, EXPERTS, 2);
            routing.prune(0.5, &[]);
            let assigned: Vec<_> = (0..EXPERTS).map(|expert| routing.assigned(expert)).collect();
            let work: Vec<ExpertWork<'_>> = matrices
                .iter()
                .zip(&assigned)
                .filter(|(_, (tokens, _))| !tokens.is_empty())
                .map(|([gate, up, down], (tokens, weights))| ExpertWork { gate, up, down, tokens, weights })
                .collect();
            let expected = Backend::current().unwrap().experts(&work, &x, hidden, Precision::F32).unwrap();
            assert_close(&format!("{codings:?}, {tokens} tokens"), &values(y), &expected, 1e-5);
        }
    }
    mixed::<B>(device);
}

/// Grids and trellises need other inputs: they are not put together.
fn mixed<B: PackedOps>(device: &B::Device) {
    let rate = Coding::Trellis(TrellisRate::new(2.0).unwrap());
    let of = |coding| B::packed_from(packed(64, 64, coding, 64, 1), Precision::F32, device);
    let mut matrices = [of(BitWidth::B2.into()), of(rate), of(rate)];
    assert!(B::experts_from(&mut [matrices.each_mut()], device).is_none());
}
