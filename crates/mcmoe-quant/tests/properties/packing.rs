//! What comes out is a sound packed matrix, and the same one after any way through bytes.

use half::f16;
use mcmoe_quant::store::{StoredTensor, from_tensor, to_tensor};
use mcmoe_quant::{Fallback, Method, PackedMatrix};
use proptest::prelude::*;
use proptest::sample::select;
use safetensors::SafeTensors;
use safetensors::tensor::TensorView;

use crate::cases::{METHODS, any_inputs, cases, config, search};

/// Both are the same matrix, to the byte, and sound.
fn same(read: &PackedMatrix, packed: &PackedMatrix) -> Result<(), TestCaseError> {
    prop_assert_eq!(read.check_contents(), Ok(()));
    prop_assert!(read.unpack_codes() == packed.unpack_codes(), "other codes");
    prop_assert!(read.dequantize() == packed.dequantize(), "other weights");
    prop_assert!(read.bytes()[..] == packed.bytes()[..], "other bytes");
    Ok(())
}

/// Through the bytes of a safetensors file.
fn through_a_file(packed: &PackedMatrix) -> PackedMatrix {
    let tensor = to_tensor("layer.w1", packed);
    let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.data).unwrap();
    let file = safetensors::serialize([(tensor.name.as_str(), view)], None).unwrap();
    let file = SafeTensors::deserialize(&file).unwrap();
    let find = |name: &str| {
        let view = file.tensor(name).ok()?;
        let (dtype, shape, data) = (view.dtype(), view.shape().to_vec(), view.data().to_vec().into());
        Some(StoredTensor { name: name.to_owned(), dtype, shape, data })
    };
    from_tensor("layer.w1", *packed.shape(), find).unwrap()
}

proptest! {
    #![proptest_config(config(64))]

    /// Every code is a level of its width, everything is finite, nothing lies beyond the last row or column,
    /// and the report says what could not be done as asked.
    #[test]
    fn what_comes_out_is_sound(
        case in cases(1_usize..40, 1..321, any_inputs()),
        method in select(METHODS.to_vec()),
    ) {
        let (weights, hessian) = (case.weights(), case.hessian());
        let quantized = case.run(&weights, Some(&hessian), &case.shape.options(method));
        let (packed, report) = (quantized.packed, quantized.report);
        prop_assert_eq!(*packed.shape(), case.shape.packed());
        prop_assert_eq!(packed.check_contents(), Ok(()));
        let codes = packed.unpack_codes();
        prop_assert_eq!(codes.len(), weights.len());
        prop_assert!(codes.iter().all(|&code| code <= case.shape.bits.max_code()));
        prop_assert!(packed.dequantize().iter().all(|weight| weight.is_finite()));
        prop_assert!(report.weight_error.is_finite() && report.output_error.is_none_or(f64::is_finite));
        prop_assert_eq!(report.output_error.is_some(), hessian.tokens() > 0);
        let fallback = match (method, hessian.tokens()) {
            (Method::Gptq, 0) => Some(Fallback::NoTokens),
            (Method::Gptq, tokens) if tokens < hessian.features() => Some(Fallback::FewTokens { tokens }),
            _ => None,
        };
        prop_assert_eq!(report.fallback, fallback);
    }

    /// Bytes in memory, bytes of a file, and codes with their scales and zero points all hold the whole
    /// matrix.
    #[test]
    fn nothing_is_lost_on_the_way(
        case in cases(1_usize..40, 1..321, any_inputs()),
        method in select(METHODS.to_vec()),
    ) {
        let (weights, hessian) = (case.weights(), case.hessian());
        let packed = case.run(&weights, Some(&hessian), &case.shape.options(method)).packed;
        let bytes = packed.bytes().to_vec();
        same(&PackedMatrix::from_bytes(case.shape.packed(), bytes.into()).unwrap(), &packed)?;
        same(&through_a_file(&packed), &packed)?;

        let (codes, kept) = (packed.unpack_codes(), packed.dequantize());
        let (mut scales, mut zeros) = (Vec::new(), Vec::new());
        for (row, group, range) in case.shape.groups() {
            let (scale, zero) = packed.params(row, group);
            for (&code, &kept) in codes[range.clone()].iter().zip(&kept[range]) {
                prop_assert_eq!(kept, scale * (f32::from(code) - zero));
            }
            scales.push(f16::from_f32(scale));
            zeros.push(f16::from_f32(zero));
        }
        same(&PackedMatrix::pack(case.shape.packed(), &codes, &scales, &zeros).unwrap(), &packed)?;
    }

    /// Weights that rounding has left are left as they are by rounding again: the range of a group is that of
    /// its grid, so the second search tries the very grid of the first and finds no error.
    ///
    /// That takes searches that try a factor of exactly one and none above: a grid that is stretched beyond
    /// its group may not use its outer levels, and nobody can tell afterwards where they were. And it takes
    /// scales that `f16` holds with all its digits, or the outer levels may be missed by more than half a
    /// step.
    #[test]
    fn rounded_weights_stay(case in cases(1_usize..40, 1..321, any_inputs()), plain in any::<bool>()) {
        let weights = case.weights();
        let search = if plain { search(1.0, 1.0, 1) } else { search(0.5, 1.0, 33) };
        let options = case.shape.options(Method::Rtn).grid(search);
        let packed = case.run(&weights, None, &options).packed;
        let once = packed.dequantize();
        let twice = case.run(&once, None, &options).packed.dequantize();
        for (row, group, range) in case.shape.groups() {
            let (scale, _) = packed.params(row, group);
            let all_digits = scale == 0.0 || scale >= f16::MIN_POSITIVE.to_f32();
            if all_digits || case.shape.bits.bits() == 1 {
                prop_assert!(once[range.clone()] == twice[range], "row {row}, group {group}, scale {scale}");
            }
        }
    }
}
