use std::io::{BufReader, Cursor, Read};
use std::path::PathBuf;

use super::{DataFormat, DataSource, DatasetError, gzip, read};
use crate::dataset::Place;
use crate::dataset::collect::Documents;
use crate::dataset::json::read as read_json;
use crate::dataset::lines::{Lines, MAX_LINE_BYTES};

const C4: &str = "{\"text\":\"one\\n\",\"url\":\"u\"}\n\n{\"timestamp\":0,\"text\":\"zwei é\"}\r\n{\"text\":\"\"}\n{\"text\":\"3\"}";

#[test]
fn c4_is_an_object_a_line() {
    for bytes in [C4.as_bytes().to_vec(), gzip(C4.as_bytes())] {
        assert_eq!(read(DataFormat::C4, &bytes, None).unwrap(), ["one\n", "zwei é", "3"]);
        assert_eq!(read(DataFormat::C4, &bytes, Some(4)).unwrap(), ["one\n"]);
        assert_eq!(read(DataFormat::C4, &bytes, Some(6)).unwrap(), ["one\n", "zw"]);
    }
}

#[test]
fn a_limit_leaves_the_rest_unread() {
    let lines = b"{\"text\":\"one\"}\n not json \n";
    assert_eq!(read(DataFormat::C4, lines, Some(3)).unwrap(), ["one"]);
    assert_eq!(read(DataFormat::Math, lines, Some(3)).unwrap(), ["one"]);
    // Stopping before the damage shows that a gzipped file is streamed.
    let mut bytes = gzip(C4.as_bytes());
    bytes.truncate(bytes.len() - 8);
    assert_eq!(read(DataFormat::C4, &bytes, Some(2)).unwrap(), ["on"]);
}

#[test]
fn arrays_are_read_no_further_than_lines() {
    let array = b"[\"one\", \"two\", not json";
    assert_eq!(read(DataFormat::Math, array, Some(4)).unwrap(), ["one", "t"]);
    let mut bytes = gzip(b"[\"one\", \"two\"]");
    bytes.truncate(bytes.len() - 8);
    assert_eq!(read(DataFormat::Math, &bytes, Some(3)).unwrap(), ["one"]);
    let error = read(DataFormat::Math, &bytes, None).unwrap_err();
    assert!(matches!(error, DatasetError::Read { .. }), "{error}");
}

#[test]
fn the_last_value_of_a_name_counts() {
    let lines = b"{\"text\":\"a\",\"other\":[{}],\"text\":\"b\"}\n{\"text\":\"a\",\"text\":0}\n";
    assert_eq!(read(DataFormat::C4, lines, Some(1)).unwrap(), ["b"]);
    let error = read(DataFormat::C4, lines, None).unwrap_err();
    assert!(matches!(error, DatasetError::MissingText { place: Place::Line(2), .. }), "{error}");
}

#[test]
fn math_is_an_array_or_lines_of_texts() {
    let expected = ["a", "b", "c\nd", "e\nf"];
    let records = [
        r#""a""#,
        r#"{"text":"b","question":"no"}"#,
        r#"{"problem":"c","solution":"d"}"#,
        r#"{"answer":"f","question":"e"}"#,
    ];
    let array = format!("\u{feff}\n [{}]\n", records.join(",\n"));
    let lines = format!("\u{feff}{}", records.join("\n\n"));
    for text in [&array, &lines] {
        assert_eq!(read(DataFormat::Math, text.as_bytes(), None).unwrap(), expected);
        assert_eq!(read(DataFormat::Math, &gzip(text.as_bytes()), Some(2)).unwrap(), expected[..2]);
    }
    assert!(matches!(read(DataFormat::Math, b"[]", None), Err(DatasetError::NoText { .. })));
}

#[test]
fn a_line_that_is_not_json_is_named() {
    let error = read(DataFormat::C4, b"{\"text\":\"a\"}\n\n{\"text\": }\n", None).unwrap_err();
    let DatasetError::InvalidJson { line: 3, column: 10, .. } = error else { panic!("{error}") };
    assert!(
        error.to_string().ends_with("data, line 3, column 10: not valid JSON: expected value"),
        "{error}"
    );
    let error = read(DataFormat::Math, b"[\"a\",\n\"b\",\n c]", None).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidJson { line: 3, .. }), "{error}");
    let error = read(DataFormat::C4, b"{\"text\":\"a\"}\n{\"text\":\"\xff\"}\n", None).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidUtf8 { place: Place::Line(2), .. }), "{error}");
}

#[test]
fn a_record_without_text_is_named() {
    for record in ["{\"content\":\"a\"}", "{\"text\":null}", "{\"text\":[1]}", "[\"a\"]", "\"a\"", "1"] {
        let lines = format!("{{\"text\":\"a\"}}\n{record}\n");
        let error = read(DataFormat::C4, lines.as_bytes(), None).unwrap_err();
        assert!(matches!(error, DatasetError::MissingText { place: Place::Line(2), .. }), "{error}");
        assert!(error.to_string().ends_with("line 2: no text; expected an object with `text`"), "{error}");
    }
    let error = read(DataFormat::Math, b"[\"a\",{\"question\":\"b\"}]", None).unwrap_err();
    assert!(matches!(error, DatasetError::MissingText { place: Place::Item(2), .. }), "{error}");
    assert!(
        error.to_string().contains("a string or an object with `text` or `problem` + `solution`"),
        "{error}"
    );
}

#[test]
fn deep_nesting_is_an_error() {
    let error = read(DataFormat::Math, "[".repeat(100_000).as_bytes(), None).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidJson { line: 1, .. }), "{error}");
}

#[test]
fn a_line_without_end_is_an_error() {
    let endless = BufReader::new(std::io::repeat(b'x'));
    let error = Lines::new(endless, PathBuf::from("endless")).next_line().unwrap_err();
    assert!(matches!(error, DatasetError::LineTooLong { line: 1, max_bytes: MAX_LINE_BYTES, .. }));
}

#[test]
fn an_item_without_end_is_an_error() {
    let endless = BufReader::new(Cursor::new("[\"").chain(std::io::repeat(b'x')));
    let source = DataSource::new(DataFormat::Math, PathBuf::from("endless"));
    let error = read_json(endless, &source, &mut Documents::new(None)).unwrap_err();
    assert!(error.to_string().contains("an item is longer than"), "{error}");
}

#[test]
fn lines_are_numbered_with_the_blank_ones() {
    let mut lines = Lines::new(Cursor::new(b"\n a\r\n\t\nb"), PathBuf::new());
    assert_eq!(lines.next_line().unwrap(), Some((2, " a\r\n")));
    assert_eq!(lines.next_line().unwrap(), Some((4, "b")));
    assert_eq!(lines.next_line().unwrap(), None);
}
