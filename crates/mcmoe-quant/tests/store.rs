//! Packed matrices through their tensors.

use mcmoe_quant::store::{from_tensors, to_tensors};
use mcmoe_quant::{KernelError, Matrix, Method, QuantError, QuantOptions, quantize};

fn tensors() -> (mcmoe_quant::PackedMatrix, Vec<mcmoe_quant::store::StoredTensor>) {
    let weights: Vec<f32> = (0..3 * 40).map(|i| ((i * 37 % 101) as f32 - 50.0) / 50.0).collect();
    let options = QuantOptions::new(3).unwrap().method(Method::Rtn).group_size(16);
    let packed = quantize(Matrix::new(3, 40, &weights).unwrap(), None, &options).unwrap().packed;
    let tensors = to_tensors("layer.w1", &packed).to_vec();
    (packed, tensors)
}

#[test]
fn round_trip() {
    let (packed, tensors) = tensors();
    let names: Vec<&str> = tensors.iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["layer.w1.codes", "layer.w1.scales", "layer.w1.zeros"]);
    let find = |name: &str| tensors.iter().find(|t| t.name == name).cloned();
    let back = from_tensors("layer.w1", *packed.shape(), find).unwrap();
    assert_eq!(back.code_bytes(), packed.code_bytes());
    assert_eq!(back.dequantize(), packed.dequantize());
}

#[test]
fn damage_is_named() {
    let (packed, tensors) = tensors();
    let read = |change: fn(&mut Vec<mcmoe_quant::store::StoredTensor>)| {
        let mut tensors = tensors.clone();
        change(&mut tensors);
        let find = |name: &str| tensors.iter().find(|t| t.name == name).cloned();
        from_tensors("layer.w1", *packed.shape(), find).unwrap_err()
    };
    let missing = read(|t| drop(t.remove(2)));
    assert_eq!(missing, QuantError::MissingTensor { name: "layer.w1.zeros".into() });
    assert!(matches!(read(|t| t[1].dtype = safetensors::Dtype::BF16), QuantError::TensorType { .. }));
    assert!(matches!(read(|t| t[0].shape = vec![3, 14]), QuantError::TensorShape { .. }));
    let cut = read(|t| t[0].data = t[0].data[1..].to_vec().into());
    let length = KernelError::Length { what: "packed codes", expected: 45, found: 44 };
    assert_eq!(cut, QuantError::TensorContent { name: "layer.w1".into(), source: length });
}
