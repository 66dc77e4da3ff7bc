//! Wrong usage, help and versions.

mod common;

use std::process::Command;

use common::{DEMO, Workplace, mcmoe, names_in, run};

/// What the command line promises.
const SUBCOMMANDS: [&str; 9] =
    ["compress", "factors", "allocate", "eval", "generate", "inspect", "verify", "bench", "synthesize"];

/// Runs `mcmoe LINE`, words separated by spaces; `MODEL` is the demo's folder, `OUT` one that is not there.
#[track_caller]
fn wrong(line: &str, names: &[&str]) {
    let workplace = Workplace::empty();
    let out = workplace.out();
    let mut words = line.split_whitespace().map(|word| match word {
        "MODEL" => DEMO.as_ref(),
        "OUT" => out.as_os_str(),
        word => word.as_ref(),
    });
    let subcommand = words.next().unwrap().to_str().unwrap().to_owned();
    run(mcmoe(&subcommand).args(words)).refused(2, names);
    assert!(names_in(workplace.root()).is_empty(), "nothing is made");
}

#[test]
fn unknown_words_are_named() {
    wrong("compres MODEL -o OUT", &["compres", "compress"]);
    wrong("compress MODEL -o OUT --bitz 2", &["--bitz"]);
    wrong("inspect MODEL --jsn", &["--jsn", "--json"]);
    wrong("inspect MODEL another", &["another"]);
    wrong("compress MODEL -o OUT --method gtpq", &["gtpq", "--method", "gptq, hqq, rtn"]);
    wrong("compress MODEL -o OUT --mode best", &["best", "--mode", "mixed, uniform, random, manual"]);
}

#[test]
fn what_is_missing_is_named() {
    wrong("compress MODEL", &["--output"]);
    wrong("compress -o OUT", &["<MODEL_DIR>"]);
    wrong("compress MODEL -o", &["--output"]);
    wrong("compress MODEL -o OUT", &["--calibration", "wikitext2:"]);
    wrong("compress MODEL -o OUT --method rtn", &["--calibration", "wikitext2:"]);
    wrong("factors MODEL -o OUT", &["--calibration", "wikitext2:"]);
    wrong("allocate -o OUT", &["<FACTORS>"]);
    wrong("eval MODEL", &["--dataset"]);
    wrong("generate MODEL", &["--prompt"]);
    wrong("inspect", &["<DIR>"]);
    wrong("bench", &["DIR", "--synthetic"]);
    wrong("bench MODEL --synthetic mixtral-8x7b", &["--synthetic"]);
    wrong("bench MODEL --layers 2", &["--layers"]);
    wrong("bench MODEL --expert-bits 2", &["--expert-bits"]);
    wrong("synthesize -o OUT", &["--shape"]);
    wrong("synthesize --shape mixtral-8x7b", &["--output"]);
}

#[test]
fn values_of_the_wrong_kind_are_named() {
    wrong("compress MODEL -o OUT --repair gates", &["gates", "--repair", "routers, norms, scales"]);
    wrong("compress MODEL -o OUT --repair none,norms", &["--repair none"]);
    wrong("compress MODEL -o OUT --samples many", &["many", "--samples"]);
    wrong("compress MODEL -o OUT --seed -1", &["-1"]);
    wrong("compress MODEL -o OUT --expert-bits two", &["two", "--expert-bits"]);
    wrong("compress MODEL -o OUT --attention-bits 300", &["300", "--attention-bits"]);
    wrong("eval MODEL --dataset text:a --windows 1.5", &["1.5", "--windows"]);
    wrong("eval MODEL --dataset text:a --activations int4", &["int4", "--activations", "int8 or f32"]);
    wrong("bench --synthetic mixtral-9x9b", &["mixtral-9x9b", "--synthetic", "mixtral-8x22b"]);
    wrong(
        "synthesize --shape mixtral-9x9b -o OUT",
        &["mixtral-9x9b", "--shape", "mixtral-8x22b", "config.json"],
    );
    wrong("synthesize --shape mixtral-8x7b -o OUT --layers 0", &["--layers"]);
    wrong("synthesize --shape mixtral-8x7b -o OUT --layers 33", &["--layers", "33", "32"]);
    wrong("bench MODEL --context 0", &["--context"]);
    wrong("bench MODEL --threads 0", &["--threads"]);
    for size in ["big", "GiB", "-3GiB", "3XB", "0", "nan", "inf"] {
        wrong(&format!("compress MODEL -o OUT --size={size}"), &[size, "--size", "14GiB"]);
    }
}

#[test]
fn data_sets_say_what_is_accepted() {
    for spec in
        ["calibration.txt", "wiki:a.txt", "text:", "mix:text:a", "mix:text:a,b", "mix:mix:text:a,text:b"]
    {
        let names = [spec, "--calibration", "wikitext2:PATH"];
        wrong(&format!("compress MODEL -o OUT --calibration {spec}"), &names);
        wrong(&format!("eval MODEL --dataset {spec}"), &[spec, "--dataset", "wikitext2:PATH"]);
    }
}

#[test]
fn one_size_is_enough() {
    wrong("compress MODEL -o OUT --bpw 2.3 --expert-bits 2", &["--bpw", "--expert-bits"]);
    wrong("compress MODEL -o OUT --bpw 2.3 --size 3MB", &["--bpw", "--size"]);
    wrong("compress MODEL -o OUT --size 3MB --expert-bits 2", &["--size", "--expert-bits"]);
    wrong("compress MODEL -o OUT --allocation a.json --bpw 2.3", &["--allocation", "--bpw"]);
    wrong("compress MODEL -o OUT --allocation a.json --mode random", &["--allocation", "--mode"]);
}

#[test]
fn devices_that_are_none_are_named() {
    for device in ["gpu", "cpu:1", "CPU", "cuda-0"] {
        wrong(&format!("compress MODEL -o OUT --device {device}"), &[device, "--device", "cpu"]);
        wrong(&format!("generate MODEL --prompt a --device {device}"), &[device, "--device", "cpu"]);
    }
}

/// Where a build or a machine has no GPU, the message has to say which of the two it is.
#[test]
fn a_device_that_is_not_there_says_what_is_missing() {
    for device in ["cuda:4095", "wgpu:4095"] {
        let ended = run(mcmoe("generate").args([DEMO, "--prompt", "a", "--device", device]));
        assert!(matches!(ended.code, Some(1 | 2)), "{ended:?}");
        assert!(!ended.stderr.contains("panicked") && ended.stdout.is_empty(), "{ended:?}");
        let reasons = ["backend", "feature", "driver", "device 4095", "adapter"];
        let said = reasons.iter().any(|reason| ended.stderr.contains(reason));
        assert!(ended.stderr.contains(device) && said, "{}", ended.stderr);
    }
}

#[test]
fn numbers_out_of_range_are_named() {
    let compress = |rest: &str| format!("compress MODEL -o OUT --mode uniform --method rtn {rest}");
    wrong(&compress("--attention-bits 5"), &["--attention-bits", "1, 2, 3, 4 or 8"]);
    wrong(&compress("--group-size 12"), &["--group-size", "multiple of 32"]);
    wrong(&compress("--expert-bits 0"), &["--expert-bits", "above 0"]);
    let generate = |rest: &str| format!("generate MODEL --prompt a {rest}");
    wrong(&generate("--temperature=-1"), &["--temperature", "0 or more"]);
    wrong(&generate("--top-p 2"), &["--top-p", "at most 1"]);
    wrong(&generate("--repetition-penalty 0"), &["--repetition-penalty", "above 0"]);
    wrong(&generate("--protect 2"), &["--protect", "from 0 to 1"]);
    wrong("allocate MODEL -o OUT --gamma nan", &["--gamma", "0 or more"]);
}

#[test]
fn help_and_version_are_not_errors() {
    let list = run(&mut mcmoe("--help")).done();
    let version = format!("{}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(run(&mut mcmoe("--version")).done(), format!("mcmoe {version}"));
    for subcommand in SUBCOMMANDS {
        assert!(list.lines().any(|line| line.trim_start().starts_with(subcommand)), "{list}");
        let help = run(mcmoe(subcommand).arg("--help")).done();
        assert!(help.contains(&format!("Usage: mcmoe {subcommand}")), "{help}");
        let told = run(mcmoe(subcommand).arg("--version")).done();
        assert!(told.ends_with(&version), "{told}");
    }
}

#[test]
fn no_words_at_all_get_the_help() {
    let ended = run(&mut Command::new(env!("CARGO_BIN_EXE_mcmoe")));
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("Usage: mcmoe"), "{}", ended.stderr);
}
