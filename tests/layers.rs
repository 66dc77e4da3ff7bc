//! The floors of the house: a crate names only crates on lower floors.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// Every crate of the workspace with the crates of the workspace that it may name.
const ALLOWED: [(&str, &[&str]); 6] = [
    ("mcmoe-tensor-kernels", &[]),
    ("mcmoe-quant", &["mcmoe-tensor-kernels"]),
    ("mcmoe-allocator", &[]),
    ("mcmoe-mixtral", &["mcmoe-tensor-kernels", "mcmoe-quant", "mcmoe-allocator"]),
    ("mcmoe-cli", &["mcmoe-mixtral"]),
    ("mcmoe", &["mcmoe-tensor-kernels", "mcmoe-quant", "mcmoe-allocator", "mcmoe-mixtral"]),
];

/// Packages that people who use these crates alone must not have to build.
const KEPT_OUT: [(&str, &[&str]); 3] = [
    ("mcmoe-tensor-kernels", &["faer", "safetensors", "tokenizers", "highs-sys"]),
    ("mcmoe-quant", &["burn", "tokenizers", "highs-sys"]),
    ("mcmoe-allocator", &["burn", "faer", "tokenizers", "safetensors"]),
];

fn metadata() -> cargo_metadata::Metadata {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    MetadataCommand::new().manifest_path(manifest).exec().expect("cargo metadata runs")
}

#[test]
fn crates_name_only_lower_floors() {
    let allowed: BTreeMap<&str, &[&str]> = ALLOWED.into_iter().collect();
    let metadata = metadata();
    let members = metadata.workspace_packages();
    let names: BTreeSet<&str> = members.iter().map(|package| package.name.as_str()).collect();
    assert_eq!(names, allowed.keys().copied().collect(), "a crate was added or removed: give it a floor");
    for package in members {
        let own = package.dependencies.iter().map(|d| d.name.as_str()).filter(|name| names.contains(name));
        for dependency in own {
            assert!(
                allowed[package.name.as_str()].contains(&dependency),
                "{} must not depend on {dependency}",
                package.name
            );
        }
    }
}

#[test]
fn libraries_for_other_people_stay_light() {
    let metadata = metadata();
    let packages: BTreeMap<&str, &cargo_metadata::Package> =
        metadata.workspace_packages().into_iter().map(|package| (package.name.as_str(), package)).collect();
    for (name, kept_out) in KEPT_OUT {
        let (mut reached, mut todo) = (BTreeSet::new(), vec![name]);
        while let Some(name) = todo.pop() {
            let Some(package) = packages.get(name) else { continue };
            let required =
                package.dependencies.iter().filter(|d| d.kind == DependencyKind::Normal && !d.optional);
            for dependency in required {
                if reached.insert(dependency.name.as_str()) {
                    todo.push(&dependency.name);
                }
            }
        }
        assert!(!reached.is_empty(), "{name} has dependencies");
        for package in kept_out {
            assert!(!reached.contains(package), "{name} must not need {package}");
        }
    }
}
