//! `compress`: the folder it makes and what it says about it.

use serde_json::json;

use super::{bits_in, compressed, number};
use crate::common::{DEMO, Workplace, ask, mcmoe, names_in, read_json, run, write_json};

#[test]
fn the_folder_is_complete() {
    let names = names_in(compressed());
    let expected = [
        "allocation.json",
        "config.json",
        "factors.json",
        "model-00001-of-00004.safetensors",
        "model-00004-of-00004.safetensors",
        "model.safetensors.index.json",
        "pruning.json",
        "report.json",
        "tokenizer.json",
        "tokenizer_config.json",
    ];
    for name in expected {
        assert!(names.iter().any(|found| found == name), "{name} in {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with('.')), "{names:?}");
}

#[test]
fn the_config_is_the_models_own_and_says_how_it_was_compressed() {
    let mut config = read_json(&compressed().join("config.json"));
    let quantization = config.as_object_mut().unwrap().remove("quantization_config").unwrap();
    assert_eq!(config, read_json(&std::path::Path::new(DEMO).join("config.json")));
    assert_eq!(quantization["quant_method"], "mcmoe");
    assert_eq!(
        (&quantization["group_size"], &quantization["attention_bits"], &quantization["version"]),
        (&json!(128), &json!(4), &json!(3))
    );
}

#[test]
fn the_allocation_covers_every_expert_and_keeps_the_average() {
    let bits = bits_in(&compressed().join("allocation.json"));
    assert_eq!(bits.len(), 3);
    for layer in &bits {
        assert_eq!(layer.len(), 8);
        assert!(layer.iter().all(|bits| (1..=3).contains(bits)), "{layer:?}");
        assert!(layer.iter().sum::<u64>() <= 16, "2.0 bits on average: {layer:?}");
    }
}

#[test]
fn an_allocation_made_beforehand_is_used_as_it_is() {
    let workplace = Workplace::empty();
    let file = workplace.root().join("mine.json");
    let bits = json!([[1, 2, 3, 4, 8, 1, 2, 3], [2, 2, 2, 2, 2, 2, 2, 2], [3, 1, 3, 1, 3, 1, 3, 1]]);
    write_json(&file, &json!({ "bits": bits }));
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).arg("--allocation").arg(&file);
    let summary = run(command.args(["--method", "rtn", "--attention-bits", "8", "--json"])).json();
    let inspection = ask("inspect", &workplace.out(), "--json").json();
    for (i, expert) in inspection["experts"].as_array().unwrap().iter().enumerate() {
        assert_eq!(expert["bits"], bits[i / 8][i % 8], "{expert}");
    }
    assert_eq!(read_json(&workplace.out().join("allocation.json"))["bits"], bits);
    for field in ["expert_bits", "expert_bpw", "attention_bpw", "total_bytes"] {
        assert_eq!(summary[field], inspection[field], "{field}");
    }
    assert!(number(&summary, "attention_bpw") > 8.0);
}
