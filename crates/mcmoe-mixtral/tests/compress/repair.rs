//! Repair after rounding, from the outside.

use mcmoe_mixtral::Method;
use mcmoe_mixtral::compress::{CompressOptions, Repair};
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;

use super::common::compression::{calibration, run, try_run};
use super::common::weights::headers;
use super::{differing, small};

const ALL: Repair = Repair { routers: true, norms: true, scales: true };

/// With samples enough to tune on.
fn options() -> CompressOptions {
    CompressOptions::default().calibration(calibration().samples(40)).repair(ALL)
}

#[test]
fn layers_come_nearer_and_sizes_stay() {
    let model = small(2);
    let (plain, report) = run(model.path(), &options().repair(Repair::default()));
    assert!(report.repairs.is_empty());
    let (repaired, report) = run(model.path(), &options());
    assert_eq!(report.repairs.iter().map(|repair| repair.layer).collect::<Vec<_>>(), [0, 1]);
    for repair in &report.repairs {
        let (router, output) = (repair.router.unwrap(), repair.output.unwrap());
        assert!(output.after < 0.95 * output.before, "{repair:?}");
        assert!(router.after.is_finite() && router.before > 0.0, "{repair:?}");
    }
    let sizes = [&plain, &repaired].map(|dir| inspect(dir.path()).unwrap());
    assert_eq!(sizes[0].expert_bpw, sizes[1].expert_bpw);
    assert_eq!(headers(plain.path()), headers(repaired.path()));
    // Norms, gate and scales differ, and the folder is a sound one.
    let shards = ["model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"];
    let changed = differing(plain.path(), repaired.path());
    assert!(shards.iter().all(|shard| changed.iter().any(|name| name == shard)), "{changed:?}");
    let again = tempfile::TempDir::new().unwrap();
    let folder = ModelFolder::open(repaired.path()).unwrap();
    folder.save(again.path()).unwrap();
    assert_eq!(differing(repaired.path(), again.path()), [""; 0]);
    for name in ["input_layernorm", "post_attention_layernorm", "block_sparse_moe.gate"] {
        let name = format!("model.layers.1.{name}.weight");
        let tensor = |dir: &tempfile::TempDir| {
            let folder = ModelFolder::open(dir.path()).unwrap();
            folder.checkpoint().tensor(&name).unwrap().bytes.to_vec()
        };
        assert_ne!(tensor(&plain), tensor(&repaired), "{name}");
    }
}

#[test]
fn results_do_not_depend_on_threads() {
    let model = small(1);
    let on = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| run(model.path(), &options()).0)
    };
    let one = on(1);
    for threads in [2, 3] {
        assert_eq!(differing(one.path(), on(threads).path()), [""; 0], "{threads} threads");
    }
}

#[test]
fn grids_are_repaired_where_text_passes_through_layers() {
    let model = small(1);
    let gptq = options().method(Method::Gptq);
    let (_, report) = run(model.path(), &gptq);
    assert!(report.repairs[0].output.unwrap().after < report.repairs[0].output.unwrap().before);
    let out = tempfile::TempDir::new().unwrap();
    for method in [Method::Hqq, Method::Rtn] {
        let refused = try_run(model.path(), &out.path().join("out"), &options().method(method));
        let error = refused.unwrap_err().to_string();
        assert!(error.contains("--repair") && error.contains("trellis"), "{error}");
    }
}
