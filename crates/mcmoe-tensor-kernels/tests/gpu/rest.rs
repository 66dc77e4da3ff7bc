//! Attention, norms and positions, against burn's own operators on the CPU; and all of it through fusion.

use burn::tensor::Tensor;
use burn_flex::Flex;
use mcmoe_tensor_kernels::{
    BitWidth, PackedOps, Precision, RouteRule, TrellisRate, decode_attention, packed_experts, packed_linear,
    plain, rms_norm, rotate_heads, route, write_positions,
};

use crate::cases::{assert_close, packed, random, tensor, values};

pub(crate) fn attention<B: PackedOps>(device: &B::Device) {
    for ([batch, heads, kv_heads, width], capacity, seen) in [
        ([1, 4, 2, 16], 40, 0..33),
        ([2, 6, 2, 24], 700, 0..700),
        ([3, 2, 2, 128], 300, 40..297),
        ([1, 2, 1, 300], 9, 0..1),
    ] {
        let queries = random(batch * heads * width, 1);
        let [keys, values_] = [2, 3].map(|seed| random(batch * kv_heads * capacity * width, seed));
        let run = |found: bool| {
            let (q, kv) = ([batch, heads, 1, width], [batch, kv_heads, capacity, width]);
            if found {
                let [k, v] = [&keys, &values_].map(|values| tensor::<B, 4>(values.clone(), kv, device));
                values(decode_attention::<B>(tensor(queries.clone(), q, device), [k, v], seen.clone()))
            } else {
                let here = Default::default();
                let [k, v] = [&keys, &values_].map(|values| tensor::<Flex, 4>(values.clone(), kv, &here));
                values(decode_attention::<Flex>(tensor(queries.clone(), q, &here), [k, v], seen.clone()))
            }
        };
        assert_close(&format!("{heads} heads of {width}"), &run(true), &run(false), 1e-5);
    }
}

pub(crate) fn positions<B: PackedOps>(device: &B::Device) {
    let (buffer, new) = (random(2 * 3 * 10 * 8, 1), random(2 * 3 * 4 * 8, 2));
    let on_device = tensor::<B, 4>(buffer.clone(), [2, 3, 10, 8], device);
    let kept = on_device.clone();
    let written = write_positions(on_device, 5, tensor(new.clone(), [2, 3, 4, 8], device));
    let mut expected = buffer.clone();
    for row in 0..6 {
        expected[(row * 10 + 5) * 8..][..32].copy_from_slice(&new[row * 32..][..32]);
    }
    assert_close("written", &values(written.clone()), &expected, 0.0);
    assert_close("kept", &values(kept), &buffer, 0.0);
    // Nobody else holds it now.
    let again = write_positions(written, 0, tensor(new.clone(), [2, 3, 4, 8], device));
    for row in 0..6 {
        expected[row * 80..][..32].copy_from_slice(&new[row * 32..][..32]);
    }
    assert_close("written in place", &values(again), &expected, 0.0);
}

pub(crate) fn norms_and_heads<B: PackedOps>(device: &B::Device) {
    let here = Default::default();
    for (rows, cols) in [(1, 4096), (3, 300), (70, 64)] {
        let (x, weight) = (random(rows * cols, 1), random(cols, 2));
        let found = rms_norm::<B>(
            tensor(x.clone(), [rows, cols], device),
            tensor(weight.clone(), [cols], device),
            1e-5,
        );
        let expected =
            plain::rms_norm::<Flex>(tensor(x, [rows, cols], &here), tensor(weight, [cols], &here), 1e-5);
        assert_close("norm", &values(found), &values(expected), 1e-6);
    }
    let (batch, len, heads, width) = (2, 5, 3, 16);
    let x = random(batch * len * heads * width, 3);
    let angles = [4, 5].map(|seed| random(len * width, seed));
    let shape = [batch * len, heads * width];
    let on_device = angles.clone().map(|angles| tensor(angles, [1, len * width], device));
    let found = rotate_heads::<B>(tensor(x.clone(), shape, device), on_device, [batch, heads]);
    assert_eq!(found.dims(), [batch, heads, len, width]);
    let [cos, sin] = angles.map(|angles| tensor::<Flex, 2>(angles, [1, len * width], &here));
    let split = plain::split_heads(tensor::<Flex, 2>(x, shape, &here), batch, heads);
    assert_close("heads", &values(found), &values(plain::rotate_heads(split, &cos, &sin)), 1e-6);
}

/// Kernels between operators that are fused, against the CPU.
pub(crate) fn fused<B: PackedOps>(device: &B::Device) {
    let found = chain::<B>(device);
    let expected = chain::<Flex>(&Default::default());
    assert_close("a chain of operators", &found, &expected, 1e-5);
}

/// Something like a layer, with a loss of what is not used at the end.
fn chain<B: PackedOps>(device: &B::Device) -> Vec<f32> {
    let (tokens, hidden, inner, experts) = (3, 64, 128, 4);
    let on_device =
        |rows, cols, bits, seed| B::packed_from(packed(rows, cols, bits, 64, seed), Precision::F32, device);
    let x = tensor::<B, 2>(random(tokens * hidden, 1), [tokens, hidden], device) * 2.0 + 0.1;
    let normed = rms_norm::<B>(x.clone(), Tensor::ones([hidden], device), 1e-5);
    let rate = TrellisRate::new(2.0).unwrap();
    let [up, gate] =
        [on_device(hidden, hidden, BitWidth::B4.into(), 1), on_device(experts, hidden, rate.into(), 2)];
    let [y, logits] = packed_linear::<B>(normed, &[&up, &gate]).try_into().unwrap();
    let hidden_states = x + y.tanh();
    let mut tally = B::Tally::default();
    let routes = route::<B>(logits * 3.0, RouteRule::new(2), None, &mut tally);
    let mut parts: Vec<[B::Packed; 3]> = (0..experts as u64)
        .map(|e| {
            let matrix = |rows, cols, i| on_device(rows, cols, BitWidth::B2.into(), 10 + 3 * e + i);
            [matrix(inner, hidden, 0), matrix(inner, hidden, 1), matrix(hidden, inner, 2)]
        })
        .collect();
    let mut parts: Vec<[&mut B::Packed; 3]> = parts.iter_mut().map(<[B::Packed; 3]>::each_mut).collect();
    let together = B::experts_from(&mut parts, device).unwrap();
    let output = hidden_states.clone() + packed_experts::<B>(hidden_states, &together, &routes);
    assert_eq!(B::counts(&tally).activations, 6);
    let buffer = Tensor::zeros([1, 1, 8, hidden], device);
    let written = write_positions::<B>(buffer, 2, (output * 0.5).reshape([1, 1, tokens, hidden]));
    values(written.sum_dim(2))
}
