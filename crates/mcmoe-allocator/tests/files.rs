//! JSON in and out, in memory and on disk.

mod common;

use std::fs;
use std::path::PathBuf;
use std::process;

use mcmoe_allocator::{
    Allocation, Allocator, AllocatorError, AllocatorOptions, Budget, Exponents, Factors, Mode, Storage,
};

/// A folder of this test's own, removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mcmoe-allocator-{name}-{}", process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().file_name());
        let mut names: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn published_factors_parse() {
    let Some(folder) = common::published("published_factors_parse") else { return };
    let factors = Factors::read(folder.join("factors.json")).unwrap();
    assert_eq!((factors.num_layers, factors.num_experts, factors.bits.as_slice()), (32, 8, &[1, 2, 3][..]));
    assert_eq!(factors.model.as_deref(), Some("mistralai/Mixtral-8x7B-v0.1"));
    assert_eq!((factors.frequency[0][1], factors.ratio_median.as_ref()), (63387.0, None));
    assert_eq!(Factors::from_json(&factors.to_json().unwrap()).unwrap(), factors);
}

#[test]
fn factors_survive_their_own_json() {
    let mut factors = common::made_up();
    factors.quant_loss[1][2][0] = 0.1 + 0.2;
    for ratio_median in [None, Some(vec![0.5, 0.25, 1.0])] {
        factors.ratio_median = ratio_median;
        factors.note = Some("a \"note\"".to_owned());
        assert_eq!(Factors::from_json(&factors.to_json().unwrap()).unwrap(), factors);
    }
}

#[test]
fn absent_optional_fields_are_not_written() {
    let factors = common::made_up().to_json().unwrap();
    assert!(!factors.contains("ratio_median") && !factors.contains("null"), "{factors}");
    let allocation = Allocation::new(vec![vec![1, 2]]).to_json().unwrap();
    assert_eq!(allocation, r#"{"bits":[[1,2]]}"#);
}

#[test]
fn factors_that_json_cannot_hold_are_not_written() {
    let mut factors = common::made_up();
    factors.weight[2][1] = f64::NAN;
    let error = factors.to_json().unwrap_err();
    let expected =
        matches!(error, AllocatorError::Value { field: "weight", layer: Some(2), expert: Some(1), .. });
    assert!(expected, "{error}");
}

#[test]
fn allocations_of_every_kind_survive_their_own_json() {
    let storage = || Storage::grouped([1, 2, 3], 128, 32).weights_per_expert(1000);
    let options = || AllocatorOptions::default().storage(storage());
    let all = [
        options().exponents(Exponents::paper()),
        options().mode(Mode::Uniform).budget(Budget::StoredBits { bits_per_weight: 2.3 }),
        options().mode(Mode::Random).seed(u64::MAX).budget(Budget::Bytes(6000)),
        options().mode(Mode::Manual { high: 1, low: 2 }).budget(Budget::TotalBits(12)),
    ];
    for options in all {
        let allocation = Allocator::new(options).allocate(&common::made_up()).unwrap();
        assert_eq!(Allocation::from_json(&allocation.to_json().unwrap()).unwrap(), allocation);
    }
}

#[test]
fn the_written_form_is_the_documented_one() {
    let options = AllocatorOptions::default().mode(Mode::Random).seed(3).budget(Budget::TotalBits(2));
    let factors = Factors::unmeasured(1, 2, vec![1, 2, 3]);
    let json = Allocator::new(options).allocate(&factors).unwrap().to_json().unwrap();
    assert_eq!(json, r#"{"bits":[[1,1]],"mode":"random","budget":{"total_bits":2},"seed":3}"#);
}

#[test]
fn a_hand_written_allocation_loads_from_a_file() {
    let folder = Folder::new("by-hand");
    let path = folder.0.join("allocation.json");
    fs::write(&path, "{\"bits\": [[1, 2], [3, 4]], \"remark\": \"unknown fields are fine\"}\n").unwrap();
    assert_eq!(Allocation::read(&path).unwrap(), Allocation::new(vec![vec![1, 2], vec![3, 4]]));
}

#[test]
fn files_are_replaced_and_nothing_is_left_beside_them() {
    let folder = Folder::new("replace");
    let (factors, allocation) = (folder.0.join("factors.json"), folder.0.join("allocation.json"));
    fs::write(&allocation, "something older and longer than what comes").unwrap();
    let written = Allocation::new(vec![vec![1, 2]]);
    written.write(&allocation).unwrap();
    common::made_up().write(&factors).unwrap();
    assert_eq!(Allocation::read(&allocation).unwrap(), written);
    assert_eq!(Factors::read(&factors).unwrap(), common::made_up());
    assert_eq!(folder.names(), ["allocation.json", "factors.json"]);
}

#[test]
fn a_failed_write_leaves_nothing_behind_and_names_the_file() {
    let folder = Folder::new("failed");
    fs::create_dir(folder.0.join("taken")).unwrap();
    fs::write(folder.0.join("taken/inside"), "x").unwrap();
    let error = common::made_up().write(folder.0.join("taken")).unwrap_err();
    assert!(matches!(&error, AllocatorError::Io { action: "write", .. }), "{error}");
    assert!(error.to_string().contains("taken"), "{error}");
    assert_eq!(folder.names(), ["taken"]);
}

#[test]
fn a_missing_file_is_named() {
    let error = Factors::read("no/such/factors.json").unwrap_err();
    assert!(matches!(&error, AllocatorError::Io { action: "read", .. }), "{error}");
    assert!(error.to_string().contains("no/such/factors.json"), "{error}");
}

#[test]
fn folders_and_endless_files_are_not_read() {
    let folder = Folder::new("no-file");
    let long = folder.0.join("long.json");
    fs::File::create(&long).unwrap().set_len(65 << 20).unwrap();
    for path in [&folder.0, &long] {
        let error = Factors::read(path).unwrap_err();
        assert!(matches!(&error, AllocatorError::Io { action: "read", .. }), "{error}");
    }
}

#[test]
fn broken_and_invalid_files_are_named() {
    let folder = Folder::new("broken");
    let path = folder.0.join("allocation.json");
    for (text, detail) in [("{\"bits\": [[1,", "line 1"), ("{\"bits\": [[1, 99]]}", "expert 1")] {
        fs::write(&path, text).unwrap();
        let error = Allocation::read(&path).unwrap_err().to_string();
        assert!(error.contains("allocation.json") && error.contains(detail), "{error}");
    }
}

#[test]
#[cfg(unix)]
fn links_are_followed_and_devices_are_not_replaced() {
    use std::os::unix::fs::{FileTypeExt, symlink};
    let folder = Folder::new("links");
    let (file, link) = (folder.0.join("a.json"), folder.0.join("b.json"));
    let allocation = Allocation::new(vec![vec![1, 2], vec![3, 1]]);
    fs::write(&file, "old").unwrap();
    symlink(&file, &link).unwrap();
    allocation.write(&link).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(Allocation::read(&file).unwrap(), allocation);
    assert_eq!(folder.names(), ["a.json", "b.json"]);

    // Through a link of our own: were it replaced, only the link would be gone.
    let null = folder.0.join("null");
    symlink("/dev/null", &null).unwrap();
    allocation.write(&null).unwrap();
    assert!(fs::metadata(&null).unwrap().file_type().is_char_device());
}
