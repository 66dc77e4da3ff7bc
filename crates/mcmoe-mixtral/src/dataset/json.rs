//! Reads documents from JSON lines and JSON arrays.

use std::io::BufRead;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::collect::{Appetite, Documents};
use super::error::{DatasetError, Place};
use super::format::{DataFormat, TextFields, describe};
use super::lines::Lines;
use super::plain;
use super::spec::DataSource;

/// What some editors put before the text; no part of JSON.
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// Reads JSON lines one at a time, no further than `documents` has room for. Blank lines are skipped.
pub(super) fn read_lines(
    stream: impl BufRead,
    source: &DataSource,
    documents: &mut Documents,
) -> Result<(), DatasetError> {
    let mut lines = Lines::new(stream, source.path().to_path_buf());
    while let Some((number, line)) = lines.next_line()? {
        let record = parse(line, number, source.path())?;
        if documents.push(text_of(record, source, Place::Line(number))?) == Appetite::Full {
            break;
        }
    }
    Ok(())
}

/// Reads a JSON array, or JSON lines where the file does not open with a bracket.
///
/// An array is parsed whole before the first document is taken.
pub(super) fn read(
    mut stream: impl BufRead,
    source: &DataSource,
    documents: &mut Documents,
) -> Result<(), DatasetError> {
    let start = stream.fill_buf().map_err(|e| DatasetError::from_io(source.path(), e))?;
    let start = start.strip_prefix(BYTE_ORDER_MARK.as_bytes()).unwrap_or(start);
    if start.trim_ascii_start().starts_with(b"[") {
        read_array(stream, source, documents)
    } else {
        read_lines(stream, source, documents)
    }
}

fn read_array(
    stream: impl BufRead,
    source: &DataSource,
    documents: &mut Documents,
) -> Result<(), DatasetError> {
    let text = plain::read(stream, source.path(), None)?;
    let records: Vec<Value> = parse(&text, 1, source.path())?;
    for (index, record) in records.into_iter().enumerate() {
        if documents.push(text_of(record, source, Place::Item(index + 1))?) == Appetite::Full {
            break;
        }
    }
    Ok(())
}

/// Parses `text`, which starts at line `first_line` of the file.
fn parse<T: DeserializeOwned>(text: &str, first_line: usize, path: &Path) -> Result<T, DatasetError> {
    let text = text.strip_prefix(BYTE_ORDER_MARK).unwrap_or(text);
    serde_json::from_str(text).map_err(|e| DatasetError::InvalidJson {
        path: path.to_path_buf(),
        line: first_line + e.line().saturating_sub(1),
        column: e.column(),
        reason: message_alone(&e),
    })
}

/// The message of `error` without its position, which counts from the start of the text that was parsed.
fn message_alone(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

fn text_of(record: Value, source: &DataSource, place: Place) -> Result<String, DatasetError> {
    let fields = source.format().text_fields();
    let bare = source.format() == DataFormat::Math;
    let text = match record {
        Value::String(text) if bare => Some(text),
        Value::Object(object) => text_in(&object, fields),
        _ => None,
    };
    text.ok_or_else(|| DatasetError::MissingText {
        path: source.path().to_path_buf(),
        place,
        expected: format!("{}an object with {}", if bare { "a string or " } else { "" }, describe(fields)),
    })
}

fn text_in(object: &Map<String, Value>, fields: TextFields) -> Option<String> {
    fields.iter().find_map(|names| {
        let values: Option<Vec<&str>> = names.iter().map(|name| object.get(*name)?.as_str()).collect();
        Some(values?.join("\n"))
    })
}
