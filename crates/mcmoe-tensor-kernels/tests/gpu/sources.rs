//! Every kernel once, whatever it computes: its source has to pass the compiler. Where there is no NVIDIA card,
//! a driver that computes nothing (`stub_cuda.c`) leads the kernels to the real compiler all the same.

use burn::tensor::Tensor;
use mcmoe_tensor_kernels::{
    BitWidth, Coding, DenseMatrix, DenseType, PackedOps, Precision, RouteRule, TrellisRate, decode_attention,
    dense_linear, dense_rows, packed_experts, packed_linear, packed_weights, protect, rms_norm, rotate_heads,
    route, write_positions,
};

use crate::cases::{packed, values};

pub(crate) fn all<B: PackedOps>(device: &B::Device) {
    products::<B>(device);
    experts::<B>(device);
    rest::<B>(device);
}

/// Reads a tensor: errors of kernels come to light then.
fn read<B: PackedOps, const D: usize>(tensor: Tensor<B, D>) {
    assert!(!values(tensor).is_empty());
}

fn products<B: PackedOps>(device: &B::Device) {
    let grids = BitWidth::ALL.map(Coding::Grid).into_iter();
    for coding in grids.chain(TrellisRate::ALL.map(Coding::Trellis)) {
        for cols in [128, 100, 8192] {
            let matrix = packed(32, cols, coding, 128, 1);
            let weight = B::packed_from(matrix, Precision::Int8, device);
            read(packed_weights::<B>(&weight, device));
            for tokens in if cols == 128 { &[1, 2, 4, 8, 64][..] } else { &[1] } {
                let x = Tensor::<B, 2>::zeros([*tokens, cols], device);
                packed_linear::<B>(x, &[&weight]).into_iter().for_each(read);
            }
        }
    }
    for dtype in [DenseType::F32, DenseType::F16, DenseType::Bf16] {
        let bytes = vec![0; 16 * 32 * if dtype == DenseType::F32 { 4 } else { 2 }];
        let weight = B::dense_from(DenseMatrix::new(16, 32, dtype, bytes.into()).unwrap(), device);
        for tokens in [1, 2, 4, 8] {
            read(dense_linear::<B>(Tensor::zeros([tokens, 32], device), &weight));
        }
        read(dense_rows::<B>(&weight, &[3, 1], device));
    }
}

fn experts<B: PackedOps>(device: &B::Device) {
    let grids = [1, 2, 3].map(|bits| Coding::Grid(BitWidth::new(bits).unwrap()));
    let trellises = TrellisRate::ALL.map(Coding::Trellis);
    for codings in [&grids[..], &trellises] {
        let of = |coding: &Coding, rows, cols| {
            B::packed_from(packed(rows, cols, *coding, 64, 1), Precision::Int8, device)
        };
        let mut experts: Vec<[B::Packed; 3]> = codings
            .iter()
            .map(|coding| [of(coding, 128, 64), of(coding, 128, 64), of(coding, 64, 128)])
            .collect();
        let mut experts: Vec<[&mut B::Packed; 3]> =
            experts.iter_mut().map(<[B::Packed; 3]>::each_mut).collect();
        let together = B::experts_from(&mut experts, device).expect("codes of one kind");
        for tokens in [1, 2, 4, 8] {
            let x = Tensor::<B, 2>::zeros([tokens, 64], device);
            let logits = Tensor::<B, 2>::zeros([tokens, codings.len()], device);
            let protected = protect::<B>(x.clone(), Tensor::zeros([1, tokens], device), 1);
            let mut tally = B::Tally::default();
            let rule = RouteRule::new(2).threshold(0.5);
            route::<B>(logits.clone(), rule, None, &mut tally);
            let routes = route::<B>(logits, rule, Some(protected), &mut tally);
            read(packed_experts::<B>(x, &together, &routes));
        }
    }
}

fn rest<B: PackedOps>(device: &B::Device) {
    for width in [16, 64, 128] {
        let cache = || Tensor::<B, 4>::zeros([1, 2, 9, width], device);
        let written = write_positions::<B>(cache(), 3, Tensor::zeros([1, 2, 1, width], device));
        read(decode_attention::<B>(Tensor::zeros([1, 4, 1, width], device), [cache(), written], 0..4));
        let angles = || Tensor::<B, 2>::zeros([1, width], device);
        read(rotate_heads::<B>(Tensor::zeros([1, 2 * width], device), [angles(), angles()], [1, 2]));
    }
    read(rms_norm::<B>(Tensor::zeros([2, 64], device), Tensor::zeros([64], device), 1e-5));
}
