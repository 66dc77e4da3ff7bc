//! The default: trellis codes, one program over the matrices of all experts.

use mcmoe_mixtral::compress::{CompressOptions, SizeGoal};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;
use mcmoe_mixtral::{Method, Mode};

use super::common::compression::{calibration, run, try_run};
use super::common::json;
use super::{differing, small};

fn trellis(bits_per_weight: f64) -> CompressOptions {
    CompressOptions::default().size(SizeGoal::BitsPerWeight(bits_per_weight)).calibration(calibration())
}

#[test]
fn matrices_get_rates_of_their_own_within_the_budget() {
    let model = small(2);
    let (dir, report) = run(model.path(), &trellis(2.2));
    let sizes = inspect(dir.path()).unwrap();
    assert!(sizes.expert_bpw <= 2.2 && sizes.expert_bpw > 2.1, "{}", sizes.expert_bpw);
    let allocation = json(dir.path().join("allocation.json"));
    assert_eq!(allocation["mode"], "global");
    let config = json(dir.path().join("config.json"));
    assert_eq!(config["quantization_config"]["expert_codes"], "trellis");
    let mut rates = std::collections::BTreeSet::new();
    for (l, layer) in allocation["matrices"].as_array().unwrap().iter().enumerate() {
        for (e, expert) in layer.as_array().unwrap().iter().enumerate() {
            for (part, bits) in ["w1", "w2", "w3"].iter().zip(expert.as_array().unwrap()) {
                let name = format!("model.layers.{l}.block_sparse_moe.experts.{e}.{part}");
                let reported = report.matrices.iter().find(|matrix| matrix.name == name).unwrap();
                assert_eq!(Some(reported.bits), bits.as_f64(), "{name}");
                rates.insert((2.0 * reported.bits) as u32);
            }
        }
    }
    assert!(rates.len() > 1, "all matrices alike: {rates:?}");
    // The folder opens, and saving it again gives the same bytes.
    let again = tempfile::TempDir::new().unwrap();
    ModelFolder::open(dir.path()).unwrap().save(again.path()).unwrap();
    assert_eq!(differing(dir.path(), again.path()), Vec::<String>::new());
    let factors = json(dir.path().join("factors.json"));
    assert_eq!(factors["matrices"]["bits"], serde_json::json!([1.0, 1.5, 2.0, 2.5, 3.0, 4.0]));
}

#[test]
fn results_do_not_depend_on_threads() {
    let model = small(1);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(model.path(), &trellis(1.8)).0)
    };
    let one = on(1);
    for threads in [2, 3] {
        assert_eq!(differing(one.path(), on(threads).path()), Vec::<String>::new());
    }
}

#[test]
fn published_modes_work_with_the_trellis() {
    let model = small(1);
    for (mode, bits) in [(Mode::Uniform, 2.0), (Mode::Mixed, 2.0), (Mode::Random, 1.5)] {
        let options = CompressOptions::default().size(SizeGoal::ExpertBits(bits)).mode(mode);
        let (dir, _) = run(model.path(), &options.calibration(calibration()));
        assert!(inspect(dir.path()).unwrap().expert_bits <= bits, "{mode:?}");
    }
}

#[test]
fn impossible_wishes_are_refused_before_work() {
    let model = small(1);
    let out = tempfile::TempDir::new().unwrap();
    let refused = |options: CompressOptions| {
        let error = try_run(model.path(), &out.path().join("out"), &options).unwrap_err().to_string();
        assert!(!out.path().join("out").exists());
        error
    };
    let error = refused(trellis(0.9));
    assert!(error.contains("no allocation fits"), "{error}");
    let error = refused(trellis(2.0).method(Method::Gptq).mode(Mode::Global));
    assert!(error.contains("--mode"), "{error}");
    let error = refused(CompressOptions::default());
    assert!(error.contains("--calibration"), "{error}");
}
