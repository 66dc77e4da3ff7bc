//! Folders of which one file is not what it should be.

use std::path::Path;

use mcmoe_mixtral::checkpoint::Checkpoint;
use mcmoe_mixtral::folder::ModelFolder;
use mcmoe_mixtral::inspect::inspect;
use mcmoe_mixtral::model::Mixtral;
use mcmoe_mixtral::{CpuBackend, MixtralConfig, Silent};
use proptest::sample::select;

use super::attack::{answer, on_cases};
use super::folder::Folder;
use super::shard::attacks;
use super::{every_seed, memory};

/// Bytes that opening and loading any folder may take: enough for the names of the matrices of a layer with
/// as many experts as `config.json` may claim.
const FIXED: usize = 16 << 20;
/// Bytes that checking every file may take: a buffer of a MiB for each line of `checksums.sha256`.
const FIXED_FOR_CHECKS: usize = 256 << 20;

#[test]
fn sound_folders_load() {
    let _alone = memory::alone();
    for folder in [Folder::dense(), Folder::packed()] {
        let dir = folder.write();
        assert!(load(dir.path()).is_some());
        ModelFolder::open(dir.path()).unwrap().verify(&Silent).unwrap();
        survive(&folder);
    }
}

#[test]
fn seeds_in_the_place_of_every_file_are_survived() {
    let _alone = memory::alone();
    let seeds = every_seed();
    for folder in [Folder::dense(), Folder::packed()] {
        for name in read_by_loading(&folder) {
            for (seed, bytes) in &seeds {
                println!("{seed} as {name}");
                survive(&folder.with(&name, bytes));
            }
        }
    }
}

#[test]
fn attacked_packed_folders_are_survived() {
    let _alone = memory::alone();
    attacked(1_000, &Folder::packed());
}

#[test]
fn attacked_dense_folders_are_survived() {
    let _alone = memory::alone();
    attacked(400, &Folder::dense());
}

fn attacked(cases: u32, folder: &Folder) {
    let attack = (select(read_by_loading(folder)), attacks());
    on_cases(cases, &attack, |(name, attack)| {
        survive(&folder.with(&name, &attack.on(folder.file(&name))));
    });
}

/// The files that matter for loading.
fn read_by_loading(folder: &Folder) -> Vec<String> {
    let mut names = folder.names();
    names.retain(|name| !["tokenizer.json", "report.json"].contains(&name.as_str()));
    names
}

/// Does with `folder` what a user would.
fn survive(folder: &Folder) {
    let dir = folder.write();
    if let Some(model) = memory::within(folder.bytes(), FIXED, || load(dir.path())) {
        run(&model);
    }
    memory::within(folder.bytes(), FIXED_FOR_CHECKS, || {
        answer(ModelFolder::open(dir.path()).and_then(|folder| folder.verify(&Silent)))
    });
}

/// Looks at everything in `dir`, whatever has failed before, and loads the model.
fn load(dir: &Path) -> Option<Mixtral<CpuBackend>> {
    answer(MixtralConfig::read(dir));
    if let Some(checkpoint) = answer(Checkpoint::open(dir)) {
        look_at(&checkpoint);
    }
    answer(inspect(dir));
    let folder = answer(ModelFolder::open(dir))?;
    answer(folder.check_contents());
    for l in [0, 1, usize::MAX] {
        answer(folder.layer_matrices(l));
    }
    let mut model = answer(folder.model::<CpuBackend>(&Default::default()))?;
    if let Some(pruning) = answer(folder.pruning(0.5)) {
        answer(model.set_pruning(Some(pruning)));
    }
    Some(model)
}

/// Reads every tensor, as what it is and as what it is not.
fn look_at(checkpoint: &Checkpoint) {
    for name in checkpoint.names() {
        let tensor = checkpoint.get(name).unwrap();
        answer(checkpoint.read_f32(name, &tensor.shape));
        answer(checkpoint.weights(name, &[usize::MAX, 2]));
        if let [rows, cols] = tensor.shape[..] {
            answer(checkpoint.matrix(name, [rows, cols]));
            answer(checkpoint.matrix(name, [cols, rows]));
        }
    }
    answer(checkpoint.tensor("no such tensor"));
}

/// A prompt and a token after it: weights of any bytes may give any numbers.
fn run(model: &Mixtral<CpuBackend>) {
    let mut cache = model.new_cache();
    let rows: [&[u32]; 2] = [&[0, 1, 2], &[3]];
    for row in rows {
        answer(model.forward(&[row], &mut cache));
    }
}
