//! `synthesize`: a dense folder that every other command takes.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::number;
use crate::common::{DEMO, Ended, Workplace, ask, files_of, mcmoe, names_in, read_json, run, write_json};

/// A place with `small.json`, the demo's config with `changes`.
fn with_config(changes: &Value) -> Workplace {
    let workplace = Workplace::empty();
    let mut config = read_json(&Path::new(DEMO).join("config.json"));
    for (field, value) in changes.as_object().unwrap() {
        config[field] = value.clone();
    }
    write_json(&workplace.root().join("small.json"), &config);
    workplace
}

/// `synthesize` to the model's folder of a place, run in it.
fn synthesize(workplace: &Workplace, args: &str) -> Ended {
    let mut command = mcmoe("synthesize");
    run(command.current_dir(workplace.root()).args(["-o", "model"]).args(args.split_whitespace()))
}

#[test]
fn the_folder_can_be_evaluated_and_compressed() {
    let workplace = with_config(&json!({"intermediate_size": 256}));
    let summary = synthesize(&workplace, "--shape small.json --layers 2 --json").json();
    let on_disk: usize = files_of(&workplace.model()).values().map(Vec::len).sum();
    assert_eq!(summary, json!({"total_bytes": on_disk, "layers": 2}));
    assert_eq!(names_in(workplace.root()), ["model", "small.json"]);
    let config = read_json(&workplace.model().join("config.json"));
    assert_eq!((&config["num_hidden_layers"], &config["intermediate_size"]), (&json!(2), &json!(256)));

    let args = format!("--dataset text:{DEMO}/evaluation.txt --seq-len 64 --windows 4 --json");
    let perplexity = number(&ask("eval", &workplace.model(), &args).json(), "perplexity");
    let vocabulary = 2048.0;
    assert!((vocabulary / 4.0..vocabulary * 4.0).contains(&perplexity), "nothing is learned: {perplexity}");

    let out = workplace.out();
    let args = format!("--mode uniform --method rtn -o {}", out.display());
    ask("compress", &workplace.model(), &args).done();
    let inspection = ask("inspect", &out, "--json").json();
    assert_eq!((number(&inspection, "layers"), number(&inspection, "expert_bits")), (2.0, 2.0));
}

#[test]
fn people_get_a_line_of_bytes_and_the_folder() {
    let workplace = with_config(&json!({}));
    let text = synthesize(&workplace, "--shape small.json").done();
    assert!(text.contains("MiB") && text.contains("3 layers") && text.ends_with(": model\n"), "{text}");
    assert_eq!(text.lines().count(), 1, "{text}");
}

#[test]
fn the_seed_decides() {
    let made = |args: &str| {
        let workplace = with_config(&json!({}));
        synthesize(&workplace, &format!("--shape small.json --layers 1 {args}")).done();
        files_of(&workplace.model())
    };
    let first = made("");
    assert!(first == made("--seed 0"));
    assert!(first != made("--seed 1"));
}

#[test]
fn what_is_no_shape_is_named() {
    let refuses = |changes: Value, args: &str, names: &[&str]| {
        let workplace = with_config(&changes);
        synthesize(&workplace, args).failed(names);
        assert_eq!(names_in(workplace.root()), ["small.json"]);
    };
    refuses(json!({}), "--shape nowhere.json", &["--shape", "nowhere.json", "No such file"]);
    let shape = "--shape small.json";
    refuses(json!({"vocab_size": 255}), shape, &["vocab_size", "255"]);
    refuses(json!({"hidden_act": "gelu"}), shape, &["--shape", "small.json", "hidden_act"]);
    refuses(json!({"hidden_size": 0}), shape, &["--shape", "small.json", "hidden_size"]);
}

#[test]
fn layers_that_a_config_lacks_are_named() {
    let workplace = with_config(&json!({}));
    synthesize(&workplace, "--shape small.json --layers 4").refused(2, &["--layers", "4", "3"]);
    assert_eq!(names_in(workplace.root()), ["small.json"]);
}

#[test]
fn what_is_there_stays() {
    let workplace = with_config(&json!({}));
    fs::create_dir(workplace.model()).unwrap();
    fs::write(workplace.model().join("precious"), "mine").unwrap();
    synthesize(&workplace, "--shape small.json").failed(&["model", "not empty"]);
    assert_eq!(names_in(&workplace.model()), ["precious"]);
    assert_eq!(names_in(workplace.root()), ["model", "small.json"]);
}
