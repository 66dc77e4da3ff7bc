//! Files between the steps: factors for `allocate`, allocations for `compress`.

use std::fs;

use serde_json::{Value, json};

use crate::common::{Ended, Workplace, ask, names_in, write_json};

/// Made-up factors of a layer of 4 experts.
fn factors() -> Value {
    json!({
        "num_layers": 1, "num_experts": 4, "bits": [1, 2, 3],
        "frequency": [[10.0, 20.0, 15.0, 5.0]], "weight": [[4.0, 6.0, 5.0, 2.0]],
        "quant_loss": [[[9.0, 4.0, 1.0], [8.0, 4.0, 2.0], [9.0, 5.0, 2.0], [7.0, 3.0, 1.0]]],
    })
}

/// `allocate` on these factors.
fn allocate(text: &str, args: &str) -> Ended {
    let workplace = Workplace::empty();
    let file = workplace.root().join("factors.json");
    fs::write(&file, text).unwrap();
    let ended = ask("allocate", &file, &format!("-o {} {args}", workplace.out().display()));
    let expected = if ended.code == Some(0) { &["factors.json", "out"][..] } else { &["factors.json"] };
    assert_eq!(names_in(workplace.root()), expected);
    ended
}

#[test]
fn sound_factors_are_accepted() {
    allocate(&factors().to_string(), "").done();
}

#[test]
fn factors_that_are_none() {
    for text in ["", "{", "[]", "{}", "\u{0}"] {
        allocate(text, "").failed(&["factors.json"]);
    }
    ask("allocate", std::path::Path::new("nowhere.json"), "-o unused.json").failed(&["nowhere.json"]);
}

#[test]
fn factors_that_cannot_be() {
    let wrong = [
        ("num_layers", json!(2)),
        ("num_experts", json!(0)),
        ("frequency", json!([[1.0, 2.0]])),
        ("frequency", json!([[1.0, -2.0, 1.0, 1.0]])),
        ("weight", json!([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, 1.0, 1.0]])),
        ("quant_loss", json!([[[1.0], [1.0], [1.0], [1.0]]])),
        ("bits", json!([3, 2, 1])),
    ];
    for (field, value) in wrong {
        let mut factors = factors();
        factors[field] = value;
        allocate(&factors.to_string(), "").failed(&["factors.json"]);
    }
}

#[test]
fn budgets_and_exponents_that_cannot_be() {
    let refused = |args: &str, names: &[&str]| allocate(&factors().to_string(), args).failed(names);
    refused("--expert-bits 0.5", &["smallest possible"]);
    let nonsense = |args: &str, name: &str| allocate(&factors().to_string(), args).refused(2, &[name]);
    nonsense("--expert-bits nan", "--expert-bits");
    nonsense("--expert-bits=-2", "--expert-bits");
    nonsense("--alpha nan", "--alpha");
    nonsense("--gamma=-1", "--gamma");
    refused("--mode manual --high 3 --low 2", &["cannot raise 3 and lower 2"]);
}

#[test]
fn a_place_that_cannot_be_written() {
    let workplace = Workplace::empty();
    let file = workplace.root().join("factors.json");
    write_json(&file, &factors());
    let out = workplace.root().join("no-such-folder/allocation.json");
    ask("allocate", &file, &format!("-o {}", out.display())).failed(&["cannot write", "no-such-folder"]);
    assert_eq!(names_in(workplace.root()), ["factors.json"]);
}

/// Checks that `compress --allocation` refuses a file of this text.
#[track_caller]
fn refuses_allocation(text: &str, names: &[&str]) {
    let workplace = Workplace::dense();
    let file = workplace.root().join("mine.json");
    fs::write(&file, text).unwrap();
    let args = format!("--allocation {} --method rtn", file.display());
    workplace.refuses_with(&args, &[&["mine.json"], names].concat());
}

#[test]
fn allocations_that_are_none() {
    for text in ["", "{", "{}", "[]", r#"{"bits": 2}"#, r#"{"bits": []}"#, r#"{"bits": [[-1]]}"#] {
        refuses_allocation(text, &[]);
    }
}

#[test]
fn allocations_for_another_model() {
    let refused = |bits: Vec<Vec<u8>>, names: &[&str]| {
        refuses_allocation(&json!({ "bits": bits }).to_string(), names);
    };
    refused(vec![vec![2; 8]; 2], &["2 entries, expected 3"]);
    refused(vec![vec![2; 4]; 3], &["4 entries, expected 8"]);
    let mut bits = vec![vec![2; 8]; 3];
    bits[2][3] = 5;
    refused(bits, &["layer 2, expert 3", "5 bits"]);
}
