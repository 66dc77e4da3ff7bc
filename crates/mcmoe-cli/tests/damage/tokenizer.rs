//! `tokenizer.json`: missing, broken, or of another model.

use std::fs;

use serde_json::json;

use crate::calibration;
use crate::common::{Workplace, ask, edit_json};

#[test]
fn missing_or_broken() {
    let workplace = Workplace::dense();
    let path = workplace.model().join("tokenizer.json");
    fs::remove_file(&path).unwrap();
    workplace.refuses(&["tokenizer.json", "No such file"]);
    for text in ["", "{", "{}", "[1, 2]", "\u{0}\u{1}"] {
        fs::write(&path, text).unwrap();
        workplace.refuses(&["tokenizer.json"]);
    }
}

#[test]
fn of_a_larger_vocabulary() {
    let workplace = Workplace::dense();
    edit_json(&workplace.model().join("tokenizer.json"), |tokenizer| {
        for id in tokenizer["model"]["vocab"].as_object_mut().unwrap().values_mut() {
            *id = json!(id.as_u64().unwrap() + 2000);
        }
    });
    let names = ["token id", "2048"];
    workplace.refuses_with(&format!("--mode uniform {}", calibration()), &names);
    let dataset = calibration().replace("--calibration", "--dataset").replace("--samples", "--windows");
    ask("eval", &workplace.model(), &dataset).failed(&names);
    ask("generate", &workplace.model(), "--prompt The").failed(&names);
}
