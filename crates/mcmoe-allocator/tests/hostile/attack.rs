//! What an attacker, a bad disk or a broken download does to a file.

use std::fmt::Display;
use std::fs;
use std::ops::Range;
use std::path::Path;

use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// What comes in the place of a number.
const NUMBERS: &[&str] = &[
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "7",
    "33",
    "255",
    "256",
    "65536",
    "2147483648",
    "4294967295",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551584",
    "18446744073709551615",
    "18446744073709551616",
    "0.5",
    "5e-324",
    "1e308",
    "-1e308",
    "1e309",
    "NaN",
    "-Infinity",
    "null",
    "true",
    "\"1\"",
    "[]",
    "{}",
];

/// What comes in the place of a text.
const TEXTS: &[&str] = &[
    "\"\"",
    "\".\"",
    "\"..\"",
    "\"../config.json\"",
    "\"/etc/passwd\"",
    "\"sub/model.safetensors\"",
    "\"config.json/\"",
    "\"config.json\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\\u001b[2J\"",
    "\"U8\"",
    "\"F4\"",
    "\"F16\"",
    "\"F32\"",
    "\"F64\"",
    "\"I64\"",
    "\"__metadata__\"",
    "\"(a*)*b\"",
    "0",
    "null",
    "[]",
    "{}",
];

/// One change of a file. Places are shares of what is there, so they fit any file.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// Bits of a byte turn over.
    Flip(Index, u8),
    /// The file ends here.
    Cut(Index),
    /// Bytes come in between.
    Insert(Index, Vec<u8>),
    /// The bytes between two places go.
    Remove(Index, Index),
    /// The bytes between two places come twice.
    Repeat(Index, Index),
    /// Another value in the place of a JSON number.
    Number(Index, &'static str),
    /// Another value in the place of a JSON string, name or value.
    Text(Index, &'static str),
    /// Two JSON strings, names or values, change places.
    Swap(Index, Index),
    /// A JSON number goes into so many lists, each in the other.
    Nest(Index, usize),
}

/// One to four changes.
pub(crate) fn changes() -> impl Strategy<Value = Vec<Change>> {
    let place = any::<Index>;
    let bytes = prop::collection::vec(any::<u8>(), 1..9);
    let change = prop_oneof![
        2 => (place(), 1..=u8::MAX).prop_map(|(at, bits)| Change::Flip(at, bits)),
        1 => place().prop_map(Change::Cut),
        1 => (place(), bytes).prop_map(|(at, bytes)| Change::Insert(at, bytes)),
        1 => (place(), place()).prop_map(|(from, to)| Change::Remove(from, to)),
        1 => (place(), place()).prop_map(|(from, to)| Change::Repeat(from, to)),
        6 => (place(), select(NUMBERS)).prop_map(|(which, value)| Change::Number(which, value)),
        4 => (place(), select(TEXTS)).prop_map(|(which, value)| Change::Text(which, value)),
        2 => (place(), place()).prop_map(|(one, other)| Change::Swap(one, other)),
        1 => (place(), 1usize..200).prop_map(|(which, depth)| Change::Nest(which, depth)),
    ];
    prop::collection::vec(change, 1..=4)
}

/// `file` after `changes`.
pub(crate) fn changed(file: &[u8], changes: &[Change]) -> Vec<u8> {
    changes.iter().fold(file.to_vec(), |file, change| change.of(&file))
}

impl Change {
    fn of(&self, file: &[u8]) -> Vec<u8> {
        match self {
            Self::Flip(at, bits) => {
                let mut file = file.to_vec();
                if !file.is_empty() {
                    *at.get_mut(&mut file) ^= bits;
                }
                file
            }
            Self::Cut(at) => file[..at.index(file.len() + 1)].to_vec(),
            Self::Insert(at, bytes) => {
                let (before, after) = file.split_at(at.index(file.len() + 1));
                [before, &bytes[..], after].concat()
            }
            Self::Remove(from, to) => {
                let range = range(*from, *to, file.len());
                [&file[..range.start], &file[range.end..]].concat()
            }
            Self::Repeat(from, to) => {
                let range = range(*from, *to, file.len());
                [&file[..range.end], &file[range.start..]].concat()
            }
            Self::Number(which, value) => replaced(file, &nth(&numbers(file), *which), value),
            Self::Text(which, value) => replaced(file, &nth(&texts(file), *which), value),
            Self::Swap(one, other) => swapped(file, *one, *other),
            Self::Nest(which, depth) => {
                let number = nth(&numbers(file), *which);
                replaced(file, &number, &["[".repeat(*depth), "]".repeat(*depth)].join("0"))
            }
        }
    }
}

fn range(from: Index, to: Index, len: usize) -> Range<usize> {
    let (from, to) = (from.index(len + 1), to.index(len + 1));
    from.min(to)..from.max(to)
}

fn nth(places: &[Range<usize>], which: Index) -> Range<usize> {
    if places.is_empty() { 0..0 } else { which.get(places).clone() }
}

fn replaced(file: &[u8], place: &Range<usize>, value: &str) -> Vec<u8> {
    [&file[..place.start], value.as_bytes(), &file[place.end..]].concat()
}

fn swapped(file: &[u8], one: Index, other: Index) -> Vec<u8> {
    let texts = texts(file);
    let (a, b) = (nth(&texts, one), nth(&texts, other));
    let (a, b) = if a.start <= b.start { (a, b) } else { (b, a) };
    if a.end > b.start {
        return file.to_vec();
    }
    let (before, between, after) = (&file[..a.start], &file[a.end..b.start], &file[b.end..]);
    [before, &file[b], between, &file[a], after].concat()
}

/// Where the numbers of a JSON text are.
fn numbers(json: &[u8]) -> Vec<Range<usize>> {
    tokens(json).into_iter().filter(|place| json[place.start] != b'"').collect()
}

/// Where the strings of a JSON text are, quotes included.
fn texts(json: &[u8]) -> Vec<Range<usize>> {
    tokens(json).into_iter().filter(|place| json[place.start] == b'"').collect()
}

/// Where numbers and strings are, in whatever looks a little like JSON.
fn tokens(json: &[u8]) -> Vec<Range<usize>> {
    let (mut found, mut at) = (Vec::new(), 0);
    while at < json.len() {
        let length = match json[at] {
            b'"' => text_length(&json[at..]),
            b'-' | b'0'..=b'9' => {
                json[at..].iter().take_while(|byte| b"+-.eE0123456789".contains(byte)).count()
            }
            _ => {
                at += 1;
                continue;
            }
        };
        found.push(at..at + length);
        at += length;
    }
    found
}

/// Bytes of the string that `json` starts with.
fn text_length(json: &[u8]) -> usize {
    let mut at = 1;
    while at < json.len() {
        match json[at] {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    json.len()
}

/// Runs `check` on `cases` values, the same ones every time; `PROPTEST_CASES` and `PROPTEST_RNG_SEED` in
/// the environment change how many and which.
pub(crate) fn on_cases<S: Strategy>(cases: u32, strategy: &S, check: impl Fn(S::Value)) {
    let default = Config::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { default.cases } else { cases };
    let rng_seed = if default.rng_seed == RngSeed::Random { RngSeed::Fixed(0) } else { default.rng_seed };
    let config = Config { cases, rng_seed, failure_persistence: None, ..default };
    let result = TestRunner::new(config).run(strategy, |value| {
        check(value);
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// The attacks in `tests/hostile_seeds/KIND` of this crate, by name.
pub(crate) fn seeds(kind: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/hostile_seeds")).join(kind);
    let read = |entry: fs::DirEntry| {
        let name = format!("{kind}/{}", entry.file_name().to_string_lossy());
        (name, fs::read(entry.path()).unwrap())
    };
    let mut seeds: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| read(entry.unwrap())).collect();
    seeds.sort();
    assert!(!seeds.is_empty(), "no seeds of {kind}");
    seeds
}

/// Attacks that are too long for files of their own.
pub(crate) fn long_seeds() -> Vec<(String, Vec<u8>)> {
    const LENGTH: usize = 100_000;
    let lists = format!("[{}0]", "0,".repeat(LENGTH / 2));
    let seeds = [
        ("lists in lists", "[".repeat(LENGTH)),
        ("objects in objects", "{\"a\":".repeat(LENGTH / 5)),
        ("a list in an object", format!("{{\"bits\": [{lists}], \"weight_map\": {lists}}}")),
        ("a long list", lists),
        ("a long number", "9".repeat(LENGTH)),
        ("a long text", format!("\"{}\"", "a".repeat(LENGTH))),
        ("an object with a long name", format!("{{\"{}\": 0}}", "a".repeat(LENGTH))),
        ("zeros", "\0".repeat(LENGTH)),
    ];
    seeds.map(|(name, text)| (name.to_owned(), text.into_bytes())).into()
}

/// The value of a result, if it has one; an error must be able to say what it is.
pub(crate) fn answer<T, E: Display>(result: Result<T, E>) -> Option<T> {
    result.inspect_err(|error| assert!(!error.to_string().is_empty())).ok()
}
