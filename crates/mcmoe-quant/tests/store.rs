//! Packed matrices through their tensors.

use mcmoe_quant::store::{StoredTensor, from_tensor, to_tensor};
use mcmoe_quant::{KernelError, Matrix, Method, PackedMatrix, QuantError, QuantOptions, quantize};

fn stored() -> (PackedMatrix, StoredTensor) {
    let weights: Vec<f32> = (0..3 * 40).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let options = QuantOptions::new(3).unwrap().method(Method::Rtn).group_size(32);
    let packed = quantize(Matrix::new(3, 40, &weights).unwrap(), None, &options).unwrap().packed;
    let tensor = to_tensor("layer.w1", &packed);
    (packed, tensor)
}

#[test]
fn round_trip() {
    let (packed, tensor) = stored();
    // One tile: two groups with a head each, 64 columns with padding.
    assert_eq!((tensor.name.as_str(), &tensor.shape[..]), ("layer.w1.packed", &[1, 2 * 64 + 2 * 3 * 64][..]));
    let find = |name: &str| (name == tensor.name).then(|| tensor.clone());
    let back = from_tensor("layer.w1", *packed.shape(), find).unwrap();
    assert_eq!(back.bytes()[..], packed.bytes()[..]);
    assert_eq!(back.dequantize(), packed.dequantize());
}

#[test]
fn damage_is_named() {
    let (packed, tensor) = stored();
    let read = |change: fn(&mut StoredTensor)| {
        let mut tensor = tensor.clone();
        change(&mut tensor);
        from_tensor("layer.w1", *packed.shape(), |_| Some(tensor)).unwrap_err()
    };
    let missing = from_tensor("layer.w1", *packed.shape(), |_| None).unwrap_err();
    assert_eq!(missing, QuantError::MissingTensor { name: "layer.w1.packed".into() });
    assert!(matches!(read(|t| t.dtype = safetensors::Dtype::BF16), QuantError::TensorType { .. }));
    assert!(matches!(read(|t| t.shape = vec![2, 256]), QuantError::TensorShape { .. }));
    let cut = read(|t| t.data = t.data[1..].to_vec().into());
    let length = KernelError::Length { what: "packed bytes", expected: 512, found: 511 };
    assert_eq!(cut, QuantError::TensorContent { name: "layer.w1.packed".into(), source: length });
}
