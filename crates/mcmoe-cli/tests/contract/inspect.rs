//! `inspect`: bits and bytes, compared with the files themselves.

use std::path::Path;

use super::{assert_close, bits_in, compressed, number};
use crate::common::{DEMO, Workplace, ask, files_of, names_in, stored_bytes};

/// Weights of an expert of the demo model.
const EXPERT_WEIGHTS: usize = 3 * 128 * 384;
/// Weights of the attention projections of one of its layers: q and o, k and v.
const ATTENTION_WEIGHTS: usize = 2 * 128 * 128 + 2 * 64 * 128;

#[test]
fn every_expert_is_listed_with_its_bits_and_bytes() {
    let inspection = ask("inspect", compressed(), "--json").json();
    let bits = bits_in(&compressed().join("allocation.json"));
    let experts = inspection["experts"].as_array().unwrap();
    assert_eq!(experts.len(), 24);
    let mut total = 0;
    for (i, expert) in experts.iter().enumerate() {
        let (l, e) = (i / 8, i % 8);
        let prefix = format!("model.layers.{l}.block_sparse_moe.experts.{e}.");
        let bytes = stored_bytes(compressed(), &prefix);
        total += bytes;
        assert_eq!((&expert["layer"], &expert["expert"]), (&l.into(), &e.into()));
        assert_eq!((&expert["bits"], &expert["bytes"]), (&bits[l][e].into(), &bytes.into()));
        assert_close(number(expert, "bpw"), 8.0 * bytes as f64 / EXPERT_WEIGHTS as f64);
    }
    let weights = (24 * EXPERT_WEIGHTS) as f64;
    assert_close(number(&inspection, "expert_bpw"), 8.0 * total as f64 / weights);
}

#[test]
fn attention_is_counted_alone() {
    let inspection = ask("inspect", compressed(), "--json").json();
    let prefix = |l: usize| format!("model.layers.{l}.self_attn.");
    let bytes: usize = (0..3).map(|l| stored_bytes(compressed(), &prefix(l))).sum();
    let weights = (3 * ATTENTION_WEIGHTS) as f64;
    assert_close(number(&inspection, "attention_bpw"), 8.0 * bytes as f64 / weights);
}

#[test]
fn total_bytes_is_what_lies_on_disk() {
    for dir in [compressed(), Path::new(DEMO)] {
        let on_disk: usize = files_of(dir).values().map(Vec::len).sum();
        let inspection = ask("inspect", dir, "--json").json();
        assert_eq!(inspection["total_bytes"], on_disk, "{}", dir.display());
    }
}

/// Hugging Face's download cache is a folder of links.
#[test]
#[cfg(unix)]
fn files_behind_links_are_counted() {
    let workplace = Workplace::empty();
    std::fs::create_dir(workplace.model()).unwrap();
    for name in names_in(Path::new(DEMO)) {
        std::os::unix::fs::symlink(Path::new(DEMO).join(&name), workplace.model().join(&name)).unwrap();
    }
    let total = |dir: &Path| number(&ask("inspect", dir, "--json").json(), "total_bytes");
    assert_eq!(total(&workplace.model()), total(Path::new(DEMO)));
}

#[test]
fn a_dense_model_has_the_bits_of_its_type() {
    let inspection = ask("inspect", Path::new(DEMO), "--json").json();
    for field in ["expert_bpw", "attention_bpw"] {
        assert_close(number(&inspection, field), 16.0);
    }
    let experts = inspection["experts"].as_array().unwrap();
    assert!(experts.len() == 24 && experts.iter().all(|expert| expert["bits"] == 16), "{inspection}");
}

#[test]
fn people_get_a_line_of_bits_a_layer() {
    let text = ask("inspect", compressed(), "").done();
    for (l, row) in bits_in(&compressed().join("allocation.json")).iter().enumerate() {
        let row: Vec<String> = row.iter().map(ToString::to_string).collect();
        let line = format!("{l}  {}", row.join(" "));
        assert!(text.lines().any(|found| found.trim() == line), "{line:?} in:\n{text}");
    }
}
