//! HQQ against the package of its authors, whose results `scripts/hqq-golden.py` wrote down.

use std::fs;
use std::path::Path;

use mcmoe_quant::{Matrix, Method, QuantOptions, quantize};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

/// Largest difference of a scale, of itself, and of a zero point, of itself if that is above one. Rounding
/// to `f16` takes half of it.
const TOLERANCE: f32 = 1e-3;
/// Share of codes that must be equal.
const EQUAL: f64 = 0.999;

/// One matrix at one width and group size, as the reference quantizes it.
struct Case<'a> {
    name: &'a str,
    bits: u8,
    group_size: usize,
    shape: [usize; 2],
    weights: Vec<f32>,
    codes: &'a [u8],
    scales: Vec<f32>,
    zeros: Vec<f32>,
}

impl<'a> Case<'a> {
    /// The case with the codes `NAME.codes`, where the name is `MATRIX.bBITS.gGROUP`.
    fn read(file: &SafeTensors<'a>, name: &'a str) -> Self {
        let tensor = |name: String| file.tensor(&name).unwrap();
        let mut parts = name.split('.');
        let mut part = |prefix: &str| parts.next().unwrap().strip_prefix(prefix).unwrap();
        let (matrix, bits, group_size) = (part(""), part("b"), part("g"));
        let (weights, codes) = (tensor(format!("{matrix}.weights")), tensor(format!("{name}.codes")));
        assert_eq!((weights.shape(), codes.dtype()), (codes.shape(), Dtype::U8), "{name}");
        Self {
            name,
            bits: bits.parse().unwrap(),
            group_size: group_size.parse().unwrap(),
            shape: codes.shape().try_into().unwrap(),
            weights: floats(&weights),
            codes: codes.data(),
            scales: floats(&tensor(format!("{name}.scales"))),
            zeros: floats(&tensor(format!("{name}.zeros"))),
        }
    }

    /// Checks scales and zero points; returns how many codes differ.
    fn compare(&self) -> usize {
        let Self { name, shape: [rows, cols], .. } = *self;
        let options = QuantOptions::new(self.bits).unwrap().method(Method::Hqq).group_size(self.group_size);
        let weights = Matrix::new(rows, cols, &self.weights).unwrap();
        let packed = quantize(weights, None, &options).unwrap().packed;
        let groups = packed.shape().groups();
        assert_eq!([self.scales.len(), self.zeros.len()], [rows * groups; 2], "{name}");
        for (at, (&scale, &zero)) in self.scales.iter().zip(&self.zeros).enumerate() {
            let (row, group) = (at / groups, at % groups);
            let found = packed.params(row, group);
            let place = format!("{name}, row {row}, group {group}");
            assert!((found.0 - scale).abs() <= TOLERANCE * scale, "{place}: scale {}, not {scale}", found.0);
            let bound = TOLERANCE * zero.abs().max(1.0);
            assert!((found.1 - zero).abs() <= bound, "{place}: zero point {}, not {zero}", found.1);
        }
        let codes = packed.unpack_codes();
        assert_eq!(codes.len(), self.codes.len(), "{name}");
        codes.iter().zip(self.codes).filter(|(found, expected)| found != expected).count()
    }
}

#[test]
fn codes_scales_and_zero_points_are_those_of_the_reference() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hqq.safetensors");
    let bytes = fs::read(path).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut names: Vec<&str> = file.names().into_iter().filter_map(|n| n.strip_suffix(".codes")).collect();
    names.sort_unstable();
    let (mut widths, mut total, mut different) = (Vec::new(), 0, 0);
    for name in names {
        let case = Case::read(&file, name);
        let found = case.compare();
        if found > 0 {
            println!("{name}: {found} of {} codes differ", case.codes.len());
        }
        widths.push(case.bits);
        total += case.codes.len();
        different += found;
    }
    widths.sort_unstable();
    widths.dedup();
    assert_eq!(widths, [1, 2, 3, 4, 8]);
    println!("{different} of {total} codes differ");
    assert!(different as f64 <= (1.0 - EQUAL) * total as f64, "{different} of {total} codes differ");
}

fn floats(tensor: &TensorView<'_>) -> Vec<f32> {
    assert_eq!(tensor.dtype(), Dtype::F32);
    tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}
