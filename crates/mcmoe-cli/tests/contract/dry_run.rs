//! `compress --dry-run`: what it would take, and nothing done.

use super::{calibration, number};
use crate::common::{DEMO, Workplace, files_of, mcmoe, names_in, run};

fn dry_run(workplace: &Workplace, args: &str) -> String {
    let mut command = mcmoe("compress");
    command.arg(DEMO).arg("-o").arg(workplace.out()).arg("--dry-run").args(args.split_whitespace());
    let text = run(&mut command).done();
    assert_eq!(names_in(workplace.root()), [""; 0], "nothing is made");
    text
}

#[test]
fn the_size_is_that_of_the_result() {
    for args in [String::from("--mode uniform --method rtn --expert-bits 3"), calibration()] {
        let workplace = Workplace::empty();
        let plan: serde_json::Value =
            serde_json::from_str(&dry_run(&workplace, &format!("{args} --json"))).unwrap();
        let mut command = mcmoe("compress");
        command.arg(DEMO).arg("-o").arg(workplace.out()).args(args.split_whitespace());
        run(&mut command).done();
        let bytes: usize = files_of(&workplace.out()).values().map(Vec::len).sum();
        let ratio = number(&plan, "result_bytes") / bytes as f64;
        assert!((0.98..1.1).contains(&ratio), "{args}: {ratio}");
        assert!(number(&plan, "disk_bytes") >= number(&plan, "result_bytes"));
        for field in ["memory_bytes", "seconds", "flops"] {
            assert!(number(&plan, field) > 0.0, "{field}");
        }
    }
}

#[test]
fn people_get_size_memory_disk_and_time() {
    let text = dry_run(&Workplace::empty(), &calibration());
    for line in ["3 layers, 512 calibration tokens", "result ", "memory ", "disk ", "time "] {
        assert!(text.lines().any(|text| text.starts_with(line)), "{line}: {text}");
    }
}
