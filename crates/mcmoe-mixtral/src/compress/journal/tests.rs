use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

fn record(name: &str) -> MatrixRecord {
    let errors = serde_json::from_str(
        r#"{"weight_error":0.25,"output_error":0.125,"fallback":{"few_tokens":{"tokens":3}}}"#,
    );
    MatrixRecord { name: name.to_owned(), bits: 2.0, tokens: Some(3), errors: errors.unwrap() }
}

fn state() -> State {
    let digest = Digest::of(b"x");
    let fingerprint = Fingerprint::sample();
    let mut state = Journal::new(Path::new("unused"), fingerprint).state;
    state.quantized = vec![vec![record("a"), record("b")], vec![]];
    state.shards = vec![digest; 3];
    state.activations = Some(digest);
    state.finished = Some(vec![("config.json".to_owned(), digest)]);
    state
}

#[test]
fn what_is_recorded_is_read() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("journal.bin");
    let journal = Journal { path: path.clone(), state: state() };
    journal.record().unwrap();
    let read = Journal::read(&path).unwrap();
    assert_eq!(format!("{:?}", read.state), format!("{:?}", journal.state));
    assert_eq!(read.layers_done(), 2);
}

#[test]
fn every_change_is_found() {
    let bytes = encode(&state()).unwrap();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        assert!(decode(&damaged).is_err(), "byte {at}");
        assert!(decode(&bytes[..at]).is_err(), "cut at {at}");
    }
    assert!(decode(&[&bytes[..], &[0]].concat()).is_err());
}

#[test]
fn damage_is_told_with_the_file() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("journal.bin");
    fs::write(&path, "something else").unwrap();
    let error = Journal::read(&path).unwrap_err().to_string();
    assert!(error.contains("journal.bin"), "{error}");
}

/// A body with a digest that fits, so that the decoder itself meets it.
fn sealed(body: &[u8]) -> Vec<u8> {
    [&MAGIC[..], &VERSION.to_le_bytes(), Digest::of(body).as_bytes(), body].concat()
}

/// Lengths that reach beyond the end, in each place of a valid body.
#[test]
fn lengths_are_not_trusted() {
    let bytes = encode(&state()).unwrap();
    let body = &bytes[HEADER_BYTES..];
    for at in 0..body.len().saturating_sub(8) {
        for length in [u64::MAX, 1 << 62, 1 << 40, MAX_BYTES as u64] {
            let mut hostile = body.to_vec();
            hostile[at..at + 8].copy_from_slice(&length.to_le_bytes());
            let _ = decode(&sealed(&hostile));
        }
    }
}

proptest! {
    #[test]
    fn no_body_is_too_strange(body in prop::collection::vec(any::<u8>(), 0..600)) {
        let _ = decode(&sealed(&body));
        let _ = decode(&body);
    }

    #[test]
    fn changed_bodies_are_read_or_refused(changes in prop::collection::vec((any::<usize>(), any::<u8>()), 1..8)) {
        let mut bytes = encode(&state()).unwrap().split_off(HEADER_BYTES);
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = decode(&sealed(&bytes));
    }
}
