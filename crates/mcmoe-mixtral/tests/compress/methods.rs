//! Every quantizer with every way to choose widths.

use mcmoe_mixtral::compress::{CompressOptions, SizeGoal};
use mcmoe_mixtral::{Allocation, Method, Mode};

use super::common::compression::{run, try_run};
use super::common::{demo_tokens, load, logits};
use super::{allocated_bits, calibrated, small};

const METHODS: [Method; 3] = [Method::Rtn, Method::Gptq, Method::Hqq];

#[test]
fn mixed() {
    each_method(Mode::Mixed, |bits| {
        assert_eq!(bits.iter().sum::<u32>(), 16);
        assert!(bits.contains(&2) && bits.contains(&3), "{bits:?}");
    });
}

#[test]
fn uniform() {
    each_method(Mode::Uniform, |bits| assert_eq!(bits, [2; 8]));
}

#[test]
fn random() {
    each_method(Mode::Random, |bits| {
        assert_eq!(bits.iter().sum::<u32>(), 16);
        assert!(bits.iter().all(|bits| (1..=3).contains(bits)), "{bits:?}");
    });
}

#[test]
fn manual() {
    each_method(Mode::Manual { high: 1, low: 2 }, |bits| {
        let count = |width: u32| bits.iter().filter(|&&bits| bits == width).count();
        assert_eq!([1, 2, 3].map(count), [2, 5, 1]);
    });
}

#[test]
fn a_given_allocation() {
    let model = small(1);
    let bits = vec![vec![1, 2, 3, 4, 8, 1, 2, 3]];
    for method in METHODS {
        let options = calibrated().method(method).allocation(Allocation::new(bits.clone()));
        let (dir, report) = run(model.path(), &options);
        assert_eq!(allocated_bits(dir.path()), [[1, 2, 3, 4, 8, 1, 2, 3]]);
        let error = |expert: &str| {
            let matrices = report.matrices.iter().filter(|matrix| matrix.name.contains(expert));
            matrices.map(|matrix| matrix.errors.weight_error).fold(0.0, f64::max)
        };
        let errors = [0, 1, 2, 3, 4].map(|e| error(&format!("experts.{e}.")));
        assert!(errors.is_sorted_by(|narrow, wide| narrow > wide), "{method:?}: {errors:?}");
        assert!(errors[4] < 1e-3, "{method:?}: {errors:?}");
    }
}

#[test]
fn data_free_methods_need_no_calibration() {
    let model = small(1);
    let uniform = |bits| {
        let options = CompressOptions::default().mode(Mode::Uniform);
        options.size(SizeGoal::ExpertBits(bits))
    };
    for method in [Method::Rtn, Method::Hqq] {
        let (dir, report) = run(model.path(), &uniform(3.0).method(method));
        assert_eq!(allocated_bits(dir.path()), [[3; 8]]);
        assert!(report.calibration.is_none() && report.matrices.iter().all(|matrix| matrix.tokens.is_none()));
        assert!(finite(dir.path()));
        for name in ["pruning.json", "factors.json"] {
            assert!(!dir.path().join(name).exists(), "{name} without calibration");
        }
    }
    let out = tempfile::TempDir::new().unwrap();
    for options in [uniform(3.0), CompressOptions::default().method(Method::Rtn)] {
        let error = try_run(model.path(), out.path(), &options).unwrap_err().to_string();
        assert!(error.starts_with("--calibration"), "{error}");
    }
}

fn each_method(mode: Mode, check: impl Fn(&[u32])) {
    let model = small(1);
    for method in METHODS {
        let (dir, report) = run(model.path(), &calibrated().mode(mode).method(method));
        check(&allocated_bits(dir.path())[0]);
        assert_eq!(report.matrices.len(), 4 + 3 * 8);
        assert!(finite(dir.path()), "{mode:?} with {method:?}");
        let name = format!("{method:?}").to_lowercase();
        assert_eq!(report.quantizer, name);
    }
}

fn finite(dir: &std::path::Path) -> bool {
    logits(&load(dir), &[&demo_tokens(0, 20)]).iter().all(|logit| logit.is_finite())
}
