//! The default of `compress`: a trellis, and bits for every matrix of its own; step by step, too.

use std::path::Path;

use super::{calibration, number};
use crate::common::{DEMO, Workplace, ask, mcmoe, read_json, run};

/// Code bits of every matrix of an allocation file.
fn matrices(path: &Path) -> Vec<f64> {
    let layers: Vec<Vec<Vec<f64>>> = serde_json::from_value(read_json(path)["matrices"].take()).unwrap();
    layers.into_iter().flatten().flatten().collect()
}

#[test]
fn matrices_share_the_budget_and_steps_lead_to_the_same_bits() {
    let workplace = Workplace::empty();
    let mut command = mcmoe("compress");
    let args = format!("{} --expert-bits 2 --json", calibration());
    let summary = run(command.arg(DEMO).arg("-o").arg(workplace.out()).args(args.split_whitespace())).json();
    let allocation = workplace.out().join("allocation.json");
    let bits = matrices(&allocation);
    assert!(
        bits.len() == 72 && bits.iter().all(|bits| [1.0, 1.5, 2.0, 2.5, 3.0, 4.0].contains(bits)),
        "{bits:?}"
    );
    let average = bits.iter().sum::<f64>() / 72.0;
    assert!(average <= 2.0 && average > 1.97, "{average}");
    // A scale of 16 bits for 128 or 256 columns at most comes on top.
    let stored = number(&summary, "expert_bpw");
    assert!(stored > average && stored < average + 0.13, "{stored}");

    // `bits` has the exact averages.
    let listed = ask("inspect", &workplace.out(), "--json").json();
    let mut averages = read_json(&allocation)["bits"].take();
    for (i, expert) in listed["experts"].as_array().unwrap().iter().enumerate() {
        let average = averages[i / 8][i % 8].take().as_f64().unwrap();
        assert!((number(expert, "bits") - average).abs() < 1e-9, "{expert} {average}");
    }

    let path = |name: &str| workplace.root().join(name);
    let args = format!("{} --matrices -o {}", calibration(), path("factors.json").display());
    ask("factors", Path::new(DEMO), &args).done();
    for factors in [path("factors.json"), workplace.out().join("factors.json")] {
        let args = format!("--mode global --expert-bits 2 -o {}", path("by-hand.json").display());
        ask("allocate", &factors, &args).done();
        assert_eq!(matrices(&path("by-hand.json")), bits);
    }
}

#[test]
fn evaluation_and_generation_read_the_result() {
    let workplace = Workplace::empty();
    let mut command = mcmoe("compress");
    let args = format!("{} --bpw 2.2", calibration());
    run(command.arg(DEMO).arg("-o").arg(workplace.out()).args(args.split_whitespace())).done();
    let text = Path::new(DEMO).join("evaluation.txt");
    let args = format!("--dataset text:{} --seq-len 64 --windows 8 --json --prune", text.display());
    let result = ask("eval", &workplace.out(), &args).json();
    let perplexity = number(&result, "perplexity");
    assert!(perplexity > 10.0 && perplexity < 80.0, "{perplexity}");
    let text = ask("generate", &workplace.out(), "--prompt The --max-new-tokens 8 --prune").done();
    assert!(!text.trim().is_empty(), "{text}");
}
