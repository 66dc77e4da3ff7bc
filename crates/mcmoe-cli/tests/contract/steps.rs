//! `factors` and `allocate`: the steps of `compress`, one by one.

use std::path::Path;

use super::{bits_in, calibration, compressed};
use crate::common::{DEMO, Workplace, ask, names_in, read_json};

#[test]
fn steps_taken_by_hand_lead_to_the_same_bits() {
    let workplace = Workplace::empty();
    let path = |name: &str| workplace.root().join(name).to_str().unwrap().to_owned();
    let (factors, allocation) = (path("factors.json"), path("allocation.json"));
    let told = ask("factors", Path::new(DEMO), &format!("{} -o {factors} --json", calibration())).json();
    assert_eq!(told, read_json(Path::new(&factors)));
    let told = ask("allocate", Path::new(&factors), &format!("-o {allocation}")).done();
    assert!(told.contains("2.000 bits"), "{told}");
    assert_eq!(names_in(workplace.root()), ["allocation.json", "factors.json"]);
    let of_compress = |name: &str| compressed().join(name);
    assert_eq!(read_json(Path::new(&factors)), read_json(&of_compress("factors.json")));
    assert_eq!(bits_in(Path::new(&allocation)), bits_in(&of_compress("allocation.json")));
}

/// Bits that `allocate` gives for the measured factors.
fn allocate(args: &str) -> Vec<Vec<u64>> {
    let workplace = Workplace::empty();
    let file = workplace.root().join("allocation.json");
    let args = format!("{args} -o {}", file.display());
    ask("allocate", &compressed().join("factors.json"), &args).done();
    bits_in(&file)
}

#[test]
fn budgets_and_modes_shape_the_allocation() {
    let total = |bits: &[Vec<u64>]| bits.iter().flatten().sum::<u64>();
    let small = allocate("--expert-bits 1.5");
    assert!(total(&small) <= 36 && total(&small) < total(&allocate("--expert-bits 2.5")), "{small:?}");
    assert_eq!(allocate("--mode uniform"), vec![vec![2; 8]; 3]);
    let manual = allocate("--mode manual --high 2 --low 1");
    for row in manual {
        let count = |bits: u64| row.iter().filter(|&&b| b == bits).count();
        assert_eq!((count(1), count(2), count(3)), (1, 5, 2), "{row:?}");
    }
    assert_eq!(allocate("--mode random --seed 1"), allocate("--mode random --seed 1"));
    assert_ne!(allocate("--mode random --seed 1"), allocate("--mode random --seed 2"));
}

#[test]
fn exponents_matter() {
    assert_ne!(allocate(""), allocate("--alpha 0 --beta 0 --gamma 3"));
}
