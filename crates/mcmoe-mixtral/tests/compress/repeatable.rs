//! The same seed and inputs give the same bytes, whatever the number of threads.

use std::path::Path;

use mcmoe_mixtral::compress::{CompressOptions, CompressReport};
use mcmoe_mixtral::folder::ModelFolder;
use rayon::ThreadPoolBuilder;
use tempfile::TempDir;

use super::common::compression::{calibration, run};
use super::common::demo;
use super::{calibrated, compressed, differing, files, small};

#[test]
fn saving_a_folder_again_changes_no_byte() {
    let (dir, _) = compressed();
    let again = TempDir::new().unwrap();
    ModelFolder::open(dir).unwrap().save(again.path()).unwrap();
    assert_eq!(differing(dir, again.path()), [""; 0]);
    assert!(files(dir).len() > 10, "{:?}", files(dir).keys());
}

#[test]
fn one_thread_gives_the_same_bytes_as_all() {
    let (dir, _) = on_threads(1, &demo());
    assert_eq!(differing(compressed().0, dir.path()), [""; 0]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
    let model = small(2);
    let (expected, _) = on_threads(2, model.path());
    for threads in [1, 2, 3] {
        let (dir, _) = on_threads(threads, model.path());
        assert_eq!(differing(expected.path(), dir.path()), [""; 0], "{threads} threads");
    }
}

#[test]
fn another_seed_gives_other_bytes() {
    let model = small(1);
    let seeded = |seed| CompressOptions::default().calibration(calibration().seed(seed));
    let [(zero, _), (one, _)] = [0, 1].map(|seed| run(model.path(), &seeded(seed)));
    let changed = differing(zero.path(), one.path());
    // The embedding's shard holds nothing that was calibrated; the layer's does.
    assert!(changed.contains(&"model-00002-of-00002.safetensors".to_owned()), "{changed:?}");
    assert!(!changed.contains(&"model-00001-of-00002.safetensors".to_owned()), "{changed:?}");
}

fn on_threads(threads: usize, model: &Path) -> (TempDir, CompressReport) {
    let pool = ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| run(model, &calibrated()))
}
