//! Hostile factors, allocations and zoos: an error or an answer, never a panic, in memory that follows
//! from the file's size.
//!
//! `PROPTEST_CASES=100000 cargo test --workspace --test hostile` looks further, `PROPTEST_RNG_SEED=1`
//! elsewhere.

mod attack;
mod memory;

use std::fs;
use std::path::Path;

use attack::{answer, changed, changes, long_seeds, on_cases, seeds};
use mcmoe_allocator::zoo::Zoo;
use mcmoe_allocator::{
    Allocation, Allocator, AllocatorOptions, Budget, Exponents, Factors, Mode, Scope, Spread, Storage,
};
use proptest::prelude::*;
use proptest::sample::select;
use tempfile::TempDir;

/// Bytes that reading and allocating may take for any file.
const FIXED: usize = 8 << 20;

/// Numbers whose sums, products or quotients leave the range of `f64`.
const EXTREMES: &[f64] = &[0.0, 5e-324, 1e-308, 1e-150, 1.0, 1e150, 1e308, f64::MAX];

const ALLOCATION: &[u8] = br#"{"bits": [[3, 1, 2], [2, 1, 3]], "mode": {"manual": {"high": 1, "low": 1}},
    "budget": {"stored_bits": {"bits_per_weight": 2.25}}, "seed": 7, "objective": 0.5, "note": "by hand",
    "exponents": {"alpha": 1.0, "beta": 1.5, "gamma": 1.0}}"#;
const FACTORS: &[u8] = br#"{"model": "small", "num_layers": 2, "num_experts": 3, "bits": [1, 2, 3],
    "frequency": [[10, 40, 30], [5, 0, 75]], "weight": [[4.0, 25.0, 12.0], [1.5, 0.0, 60.0]],
    "quant_loss": [[[9.0, 3.0, 1.0], [8.0, 3.0, 1.0], [9.0, 4.0, 1.0]],
                   [[7.0, 2.0, 1.0], [6.0, 2.0, 0.5], [5.0, 1.0, 0.0]]],
    "ratio_median": [0.5, 0.25]}"#;
const ZOO: &[u8] = br#"{"model": "small", "note": "by hand", "bits": [1, 2, 3],
    "exponents": {"alpha": 1.0, "beta": 1.5, "gamma": 1.0},
    "allocation": {"4": [[2, 1, 1]], "6": [[3, 2, 1]]}}"#;

#[test]
fn seeds_are_survived() {
    let _alone = memory::alone();
    let kinds = ["allocation", "factors", "zoo"].map(seeds);
    for (name, file) in kinds.concat().into_iter().chain(long_seeds()) {
        println!("{name}");
        survive(&file);
    }
}

#[test]
fn the_files_to_be_changed_are_sound() {
    let _alone = memory::alone();
    let read = |file: &[u8]| String::from_utf8(file.to_vec()).unwrap();
    assert_eq!(Allocation::from_json(&read(ALLOCATION)).unwrap().average_bits(), 2.0);
    assert_eq!(Factors::from_json(&read(FACTORS)).unwrap().num_experts, 3);
    assert_eq!(Zoo::from_json(&read(ZOO)).unwrap().allocation.len(), 2);
}

#[test]
fn changed_files_are_survived() {
    let _alone = memory::alone();
    let files = [("allocation", ALLOCATION), ("factors", FACTORS), ("zoo", ZOO)];
    for (name, file) in files {
        println!("{name}");
        on_cases(1_000, &changes(), |changes| survive(&changed(file, &changes)));
    }
}

#[test]
fn numbers_of_any_size_are_survived() {
    let _alone = memory::alone();
    let number = || prop_oneof![select(EXTREMES), 0.0..100.0f64];
    let experts = prop::collection::vec((number(), number(), [number(), number(), number()]), 2..7);
    on_cases(300, &experts, |experts| {
        let factors = serde_json::json!({
            "num_layers": 1, "num_experts": experts.len(), "bits": [1, 2, 3],
            "frequency": [experts.iter().map(|expert| expert.0).collect::<Vec<_>>()],
            "weight": [experts.iter().map(|expert| expert.1).collect::<Vec<_>>()],
            "quant_loss": [experts.iter().map(|expert| expert.2).collect::<Vec<_>>()],
        });
        survive(factors.to_string().as_bytes());
    });
}

#[test]
fn any_bytes_are_survived() {
    let _alone = memory::alone();
    on_cases(500, &prop::collection::vec(any::<u8>(), 0..300), |file| survive(&file));
}

/// Reads `file` as everything that it could be, and uses it as that.
fn survive(file: &[u8]) {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("the.json");
    fs::write(&path, file).unwrap();
    memory::within(file.len(), FIXED, || {
        use_allocation(&path);
        use_factors(&path);
        if let Ok(json) = std::str::from_utf8(file) {
            use_zoo(json);
        }
    });
}

fn use_allocation(path: &Path) {
    let Some(allocation) = answer(Allocation::read(path)) else { return };
    let (layers, experts) = (allocation.bits.len(), allocation.bits[0].len());
    let widths: Vec<u8> = (1..=16).collect();
    allocation.validate(layers, experts, &widths).unwrap();
    answer(allocation.validate(experts, layers, &[1, 2, 3]));
    assert!((1.0..=16.0).contains(&allocation.average_bits()));
    allocation.average_stored_bits(&Storage::grouped(widths, 128, 32)).unwrap();
    let again = Allocation::from_json(&allocation.to_json().unwrap()).unwrap();
    assert_eq!(again, allocation);
    let factors = Factors::unmeasured(layers, experts, vec![1, 2, 3]);
    answer(allocation.objective_under(&factors, Exponents::default()));
}

fn use_factors(path: &Path) {
    let Some(factors) = answer(Factors::read(path)) else { return };
    assert_eq!(Factors::from_json(&factors.to_json().unwrap()).unwrap(), factors);
    let modes = [Mode::Mixed, Mode::Uniform, Mode::Random, Mode::Manual { high: 1, low: 2 }];
    let budgets = [
        Budget::ExpertBits(2.0),
        Budget::ExpertBits(1e-9),
        Budget::TotalBits(1),
        Budget::StoredBits { bits_per_weight: 2.3 },
        Budget::Bytes(4_000),
    ];
    for mode in modes {
        for budget in budgets {
            let storage = Storage::grouped(1..=16, 128, 32).weights_per_expert(4_096);
            allocate(&factors, AllocatorOptions::default().mode(mode).budget(budget).storage(storage));
        }
    }
    let options = AllocatorOptions::default().scope(Scope::Model).spread(Spread::Free);
    allocate(&factors, options.exponents(Exponents::paper()));
}

/// Allocates, and checks that an answer is one for these experts.
fn allocate(factors: &Factors, options: AllocatorOptions) {
    if let Some(allocation) = answer(Allocator::new(options).allocate(factors)) {
        allocation.validate(factors.num_layers, factors.num_experts, &factors.bits).unwrap();
    }
}

fn use_zoo(json: &str) {
    let Some(zoo) = answer(Zoo::from_json(json)) else { return };
    answer(zoo.to_json());
    for total in [0, 4, 6, u32::MAX] {
        answer(zoo.allocation(total));
    }
}
