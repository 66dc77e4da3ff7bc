//! Reads documents from JSON lines and JSON arrays.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read};
use std::path::Path;

use serde::Deserializer;
use serde::de::{DeserializeSeed, Error, SeqAccess, Visitor};

use super::collect::{Appetite, Documents};
use super::error::{DatasetError, Place};
use super::format::{DataFormat, TextFields, describe};
use super::lines::{Lines, MAX_LINE_BYTES};
use super::record::{Record, RecordOf};
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
        let record = parse(line, number, source)?;
        if documents.push(text_of(record, source, Place::Line(number))?) == Appetite::Full {
            break;
        }
    }
    Ok(())
}

/// Reads a JSON array, or JSON lines where the file does not open with a bracket.
pub(super) fn read(
    mut stream: impl BufRead,
    source: &DataSource,
    documents: &mut Documents,
) -> Result<(), DatasetError> {
    let start = stream.fill_buf().map_err(|e| DatasetError::from_io(source.path(), e))?;
    let mark = if start.starts_with(BYTE_ORDER_MARK.as_bytes()) { BYTE_ORDER_MARK.len() } else { 0 };
    if !start[mark..].trim_ascii_start().starts_with(b"[") {
        return read_lines(stream, source, documents);
    }
    stream.consume(mark);
    read_array(stream, source, documents)
}

/// Reads the items of an array one at a time, no further than `documents` has room for.
fn read_array(
    stream: impl BufRead,
    source: &DataSource,
    documents: &mut Documents,
) -> Result<(), DatasetError> {
    let (room, mut end) = (Cell::new(MAX_LINE_BYTES), None);
    let mut json = serde_json::Deserializer::from_reader(Metered { stream, room: &room });
    let items = Items { source, documents, room: &room, end: &mut end };
    let read = Deserializer::deserialize_seq(&mut json, items).and_then(|()| json.end());
    end.unwrap_or_else(|| {
        read.map_err(|e| {
            if e.is_io() {
                DatasetError::from_io(source.path(), e.into())
            } else {
                invalid(&e, 1, source.path())
            }
        })
    })
}

/// Takes documents from the items of an array.
struct Items<'a> {
    source: &'a DataSource,
    documents: &'a mut Documents,
    /// Bytes that the next item may have.
    room: &'a Cell<usize>,
    /// How reading ended, if the array did not.
    end: &'a mut Option<Result<(), DatasetError>>,
}

impl<'de> Visitor<'de> for Items<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let Self { source, documents, room, end } = self;
        let mut number = 0;
        while let Some(record) = items.next_element_seed(RecordOf(source.format().text_fields()))? {
            number += 1;
            room.set(MAX_LINE_BYTES);
            *end = match text_of(record, source, Place::Item(number)) {
                Err(e) => Some(Err(e)),
                Ok(text) => (documents.push(text) == Appetite::Full).then_some(Ok(())),
            };
            if end.is_some() {
                return Err(A::Error::custom("the rest is not wanted"));
            }
        }
        Ok(())
    }
}

/// A stream that fails when it is out of room, so that one item cannot fill the memory.
struct Metered<'a, R> {
    stream: R,
    room: &'a Cell<usize>,
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let room = self.room.get();
        if room == 0 {
            let reason = format!("an item is longer than {MAX_LINE_BYTES} bytes");
            return Err(io::Error::new(ErrorKind::InvalidData, reason));
        }
        let most = buffer.len().min(room);
        let read = self.stream.read(&mut buffer[..most])?;
        self.room.set(room - read);
        Ok(read)
    }
}

/// Parses `line`, which is line `number` of the file.
fn parse(line: &str, number: usize, source: &DataSource) -> Result<Record, DatasetError> {
    let mut json = serde_json::Deserializer::from_str(line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line));
    let record = RecordOf(source.format().text_fields()).deserialize(&mut json);
    let whole = record.and_then(|record| json.end().map(|()| record));
    whole.map_err(|e| invalid(&e, number, source.path()))
}

/// The `error` of a text that starts at line `first_line` of the file.
fn invalid(error: &serde_json::Error, first_line: usize, path: &Path) -> DatasetError {
    DatasetError::InvalidJson {
        path: path.to_path_buf(),
        line: first_line + error.line().saturating_sub(1),
        column: error.column(),
        reason: message_alone(error),
    }
}

/// The message of `error` without its position, which counts from the start of the text that was parsed.
fn message_alone(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let position = format!(" at line {} column {}", error.line(), error.column());
    message.strip_suffix(&position).unwrap_or(&message).to_owned()
}

fn text_of(record: Record, source: &DataSource, place: Place) -> Result<String, DatasetError> {
    let fields = source.format().text_fields();
    let bare = source.format() == DataFormat::Math;
    let text = match record {
        Record::Text(text) if bare => Some(text),
        Record::Object(texts) => text_in(&texts, fields),
        _ => None,
    };
    text.ok_or_else(|| DatasetError::MissingText {
        path: source.path().to_path_buf(),
        place,
        expected: format!("{}an object with {}", if bare { "a string or " } else { "" }, describe(fields)),
    })
}

fn text_in(texts: &BTreeMap<&str, String>, fields: TextFields) -> Option<String> {
    fields.iter().find_map(|names| {
        let values: Option<Vec<&str>> =
            names.iter().map(|name| texts.get(name).map(String::as_str)).collect();
        Some(values?.join("\n"))
    })
}
