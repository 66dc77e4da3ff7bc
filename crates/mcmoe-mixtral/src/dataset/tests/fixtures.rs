use std::path::PathBuf;

use super::{DataFormat, DataSource, DataSpec};

/// A file of the shared test data, or `None` with a notice where this checkout has none.
fn fixture(name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/fixtures")).join(name);
    if !path.exists() {
        eprintln!("SKIPPED: the test data {} is missing", path.display());
        return None;
    }
    Some(path)
}

#[test]
fn a_book_in_the_form_of_c4() {
    let Some(path) = fixture("other-text/rust-book.jsonl.gz") else { return };
    let spec = DataSpec::from(DataSource::new(DataFormat::C4, path));
    let documents = spec.documents(None).unwrap();
    assert_eq!(documents.len(), 95);
    assert!(documents[0].starts_with("Note: This edition of the book is the same"));
    let all: usize = documents.iter().map(String::len).sum();
    assert_eq!(spec.text(None).unwrap().len(), all + 94 * 2);
    let some = spec.documents(Some(100_000)).unwrap();
    assert!(some.len() < 95);
    assert!((100_000..100_004).contains(&some.iter().map(String::len).sum::<usize>()));
    assert_eq!(some[..some.len() - 1], documents[..some.len() - 1]);
}
