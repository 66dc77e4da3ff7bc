//! The bit-widths published for Mixtral 8x7B, and the zoo that ships with the crate.

mod common;

use std::collections::BTreeMap;
use std::fs;

use mcmoe_allocator::zoo::{self, Zoo};
use mcmoe_allocator::{Allocator, AllocatorError, AllocatorOptions, Budget, Exponents, Factors};
use serde::Deserialize;

type Bits = Vec<Vec<u8>>;

#[derive(Deserialize)]
struct Published {
    allocation: BTreeMap<u32, Bits>,
}

#[test]
fn every_published_width_is_reproduced() {
    let Some(folder) = common::published("every_published_width_is_reproduced") else { return };
    let factors = Factors::read(folder.join("factors.json")).unwrap();
    let text = fs::read_to_string(folder.join("zoo.json")).unwrap();
    let published: Published = serde_json::from_str(&text).unwrap();
    assert_eq!(published.allocation.keys().copied().collect::<Vec<_>>(), [12, 14, 16, 18, 20]);
    for (total, expected) in &published.allocation {
        let average = f64::from(*total) / 8.0;
        for budget in [Budget::TotalBits(*total), Budget::ExpertBits(average)] {
            let options = AllocatorOptions::default().budget(budget);
            let allocation = Allocator::new(options).allocate(&factors).unwrap();
            assert_eq!(&allocation.bits, expected, "{budget:?}");
        }
    }
}

#[test]
fn the_squared_loss_of_the_paper_is_another_allocation() {
    let Some(folder) = common::published("the_squared_loss_of_the_paper") else { return };
    let factors = Factors::read(folder.join("factors.json")).unwrap();
    let solve = |exponents| {
        let options = AllocatorOptions::default().budget(Budget::TotalBits(16)).exponents(exponents);
        Allocator::new(options).allocate(&factors).unwrap()
    };
    let (released, paper) = (solve(Exponents::default()), solve(Exponents::paper()));
    assert_ne!(released.bits, paper.bits);
    assert!(paper.objective < paper_objective(&factors, &released.bits));
}

fn paper_objective(factors: &Factors, bits: &Bits) -> Option<f64> {
    let allocation = mcmoe_allocator::Allocation::new(bits.clone());
    Some(allocation.objective_under(factors, Exponents::paper()).unwrap())
}

#[test]
fn the_embedded_zoo_is_what_the_solver_answers() {
    let Some(folder) = common::published("the_embedded_zoo_is_what_the_solver_answers") else { return };
    let factors = Factors::read(folder.join("factors.json")).unwrap();
    let solved = Zoo::compute(&factors, 12..=20, Exponents::default(), "").unwrap();
    for (total, bits) in solved.allocation {
        assert_eq!(zoo::mixtral_8x7b(total).unwrap().bits, bits, "{total} bits");
    }
}

#[test]
fn the_embedded_zoo_has_nine_budgets_and_uses_each_up() {
    for total in 12..=20 {
        let allocation = zoo::mixtral_8x7b(total).unwrap();
        allocation.validate(32, 8, &[1, 2, 3]).unwrap();
        for (layer, row) in allocation.bits.iter().enumerate() {
            let used: u32 = row.iter().copied().map(u32::from).sum();
            assert_eq!(used, total, "layer {layer}");
            assert!(row.contains(&3) && row.contains(&2), "layer {layer}: {row:?}");
        }
    }
}

#[test]
fn a_budget_outside_the_zoo_is_an_error_that_lists_the_others() {
    let error = zoo::mixtral_8x7b(21).unwrap_err();
    let AllocatorError::NotInZoo { total_bits, available } = error else { panic!("{error}") };
    assert_eq!((total_bits, available), (21, (12..=20).collect()));
}

#[test]
fn a_zoo_survives_its_own_json() {
    let made = Zoo::compute(&common::made_up(), 9..=12, Exponents::default(), "a [[1],[2]] note").unwrap();
    assert_eq!(Zoo::from_json(&made.to_json().unwrap()).unwrap(), made);
}

#[test]
fn a_zoo_with_a_wrong_width_is_refused() {
    let zoo = r#"{"model":"m","note":"n","exponents":{"alpha":1,"beta":1,"gamma":1},"bits":[1,2],
        "allocation":{"3":[[1,2],[1,3]]}}"#;
    let error = Zoo::from_json(zoo).unwrap_err();
    assert!(matches!(error, AllocatorError::Width { layer: 1, expert: 1, width: 3, .. }), "{error}");
}
