use std::fs;

use super::{DataFormat, DataSource, DataSpec, DatasetError, Scratch};
use crate::dataset::SpecProblem;

fn problem(spec: &str) -> SpecProblem {
    match spec.parse::<DataSpec>() {
        Err(error @ DatasetError::InvalidSpec { .. }) => {
            assert!(error.to_string().contains("accepted: wikitext2:PATH"), "{error}");
            let DatasetError::InvalidSpec { problem, .. } = error else { unreachable!() };
            problem
        }
        other => panic!("{spec}: {other:?}"),
    }
}

#[test]
fn specs_display_as_they_were_written() {
    for spec in [
        "wikitext2:a.txt",
        "ptb:/x/y.gz",
        "text:C:\\texts\\a, b.txt",
        "c4:c4-train.00000-of-01024.json.gz",
        "math:m.json",
        "mix:wikitext2:a.txt,c4:b.json.gz,math:c.json",
        "mix:text:a,text:a",
    ] {
        let parsed: DataSpec = spec.parse().unwrap();
        assert_eq!(parsed.to_string(), spec);
        assert_eq!(parsed.is_mix(), spec.starts_with("mix:"));
        let json = serde_json::to_string(&parsed).unwrap();
        assert_eq!(serde_json::from_str::<DataSpec>(&json).unwrap(), parsed);
    }
}

#[test]
fn a_spec_names_its_parts_in_order() {
    let spec: DataSpec = "mix:wikitext2:a,c4:b:c".parse().unwrap();
    let expected = [DataSource::new(DataFormat::WikiText2, "a"), DataSource::new(DataFormat::C4, "b:c")];
    assert_eq!(spec.parts(), expected);
}

#[test]
fn wrong_specs_say_what_is_wrong() {
    assert_eq!(problem(""), SpecProblem::NoKind);
    assert_eq!(problem("a.txt"), SpecProblem::NoKind);
    assert_eq!(problem("c5:a"), SpecProblem::UnknownKind { kind: "c5".into() });
    assert_eq!(problem("C4:a"), SpecProblem::UnknownKind { kind: "C4".into() });
    assert_eq!(problem("c4:"), SpecProblem::NoPath);
    assert_eq!(problem("mix:"), SpecProblem::TooFewParts);
    assert_eq!(problem("mix:c4:a"), SpecProblem::TooFewParts);
    assert_eq!(problem("mix:c4:a,"), SpecProblem::NoKind);
    assert_eq!(problem("mix:c4:a,mix:text:b,text:c"), SpecProblem::NestedMix);
    let comma = vec![DataSource::new(DataFormat::Text, "a,b"), DataSource::new(DataFormat::Text, "c")];
    let error = DataSpec::mix(comma).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidSpec { problem: SpecProblem::CommaInPath, .. }));
}

#[test]
fn a_mix_shares_its_limit() {
    let scratch = Scratch::with("a.txt", b"aaaaaaaaaa");
    fs::write(scratch.folder.path().join("b.json"), "{\"text\":\"bbb\"}\n{\"text\":\"BBBBBB\"}\n").unwrap();
    let folder = scratch.folder.path().display();
    let spec: DataSpec = format!("mix:text:{folder}/a.txt,c4:{folder}/b.json").parse().unwrap();
    assert_eq!(spec.documents(Some(9)).unwrap(), ["aaaaa", "bbb", "B"]);
    assert_eq!(spec.part_texts(Some(9)).unwrap(), ["aaaaa", "bbb\n\nB"]);
    assert_eq!(spec.text(Some(9)).unwrap(), "aaaaa\n\nbbb\n\nB");
    assert_eq!(spec.text(None).unwrap(), "aaaaaaaaaa\n\nbbb\n\nBBBBBB");
    let error = spec.documents(Some(1)).unwrap_err();
    assert!(matches!(error, DatasetError::LimitTooSmall { limit: 1, parts: 2 }));
}
