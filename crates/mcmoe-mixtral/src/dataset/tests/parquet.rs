use std::sync::Arc;

use ::parquet::basic::Compression;
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::file::properties::WriterProperties;
use ::parquet::file::writer::SerializedFileWriter;
use ::parquet::schema::parser::parse_message_type;

use super::{DataFormat, DatasetError, read};
use crate::dataset::Place;

type Column<'a> = &'a [Option<&'a [u8]>];

/// A snappy-compressed parquet file with the columns of `schema`, the same rows in each of two row groups.
fn file(schema: &str, columns: &[Column<'_>]) -> Vec<u8> {
    let schema = Arc::new(parse_message_type(schema).unwrap());
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut bytes = Vec::new();
    let mut writer = SerializedFileWriter::new(&mut bytes, schema, Arc::new(properties)).unwrap();
    for _ in 0..2 {
        let mut group = writer.next_row_group().unwrap();
        for cells in columns {
            let mut column = group.next_column().unwrap().unwrap();
            let values: Vec<ByteArray> = cells.iter().flatten().map(|cell| cell.to_vec().into()).collect();
            let levels: Vec<i16> = cells.iter().map(|cell| cell.is_some().into()).collect();
            column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None).unwrap();
            column.close().unwrap();
        }
        group.close().unwrap();
    }
    writer.close().unwrap();
    bytes
}

fn one_column(name: &str, rows: &[&str]) -> Vec<u8> {
    let cells: Vec<Option<&[u8]>> = rows.iter().map(|row| Some(row.as_bytes())).collect();
    file(&format!("message m {{ optional binary {name} (UTF8); }}"), &[&cells])
}

#[test]
fn rows_are_joined_as_the_format_wants() {
    let bytes = one_column("text", &["", " = é = \n"]);
    let joined = "\n\n = é = \n\n\n\n\n = é = \n";
    assert_eq!(read(DataFormat::WikiText2, &bytes, None).unwrap(), [joined]);
    assert_eq!(read(DataFormat::WikiText2, &bytes, Some(6)).unwrap(), [&joined[..7]]);
    assert_eq!(read(DataFormat::Ptb, &bytes, None).unwrap(), ["  = é = \n   = é = \n"]);
    for format in [DataFormat::Text, DataFormat::C4, DataFormat::Math] {
        assert_eq!(read(format, &bytes, None).unwrap(), [" = é = \n"; 2]);
    }
    assert_eq!(read(DataFormat::C4, &bytes, Some(12)).unwrap(), [" = é = \n", " = "]);
    let ptb = one_column("sentence", &["a", "b"]);
    assert_eq!(read(DataFormat::Ptb, &ptb, None).unwrap(), ["a b a b"]);
}

#[test]
fn every_limit_is_a_start_of_the_whole() {
    let rows: Vec<String> = (0..600).map(|row| format!("row {row}")).collect();
    let rows: Vec<&str> = rows.iter().map(String::as_str).collect();
    let bytes = one_column("text", &rows);
    let whole = read(DataFormat::WikiText2, &bytes, None).unwrap().remove(0);
    assert_eq!(whole, [rows.clone(), rows].concat().join("\n\n"));
    for limit in [1, 5, 6, 7, 8, 2999, whole.len() - 1, whole.len(), whole.len() + 1] {
        let part = read(DataFormat::WikiText2, &bytes, Some(limit)).unwrap();
        assert_eq!(part, [&whole[..limit.min(whole.len())]]);
    }
}

#[test]
fn pairs_of_columns_are_joined_by_a_newline() {
    let schema = "message m { required binary answer; optional binary question (UTF8); }";
    let bytes = file(schema, &[&[Some(b"4"), Some(b"6")], &[Some(b"2+2"), Some(b"3+3")]]);
    assert_eq!(read(DataFormat::Math, &bytes, None).unwrap(), ["2+2\n4", "3+3\n6", "2+2\n4", "3+3\n6"]);
}

#[test]
fn a_row_without_text_is_named() {
    let schema = "message m { optional binary text (UTF8); }";
    let error = read(DataFormat::C4, &file(schema, &[&[Some(b"a"), None]]), None).unwrap_err();
    assert!(matches!(error, DatasetError::MissingText { place: Place::Row(2), .. }), "{error}");
    let bytes = file(schema, &[&[Some(b"a"), Some(b"b"), Some(b"\xff")]]);
    let error = read(DataFormat::C4, &bytes, None).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidUtf8 { place: Place::Row(3), .. }), "{error}");
    assert!(matches!(read(DataFormat::C4, &one_column("text", &[]), None), Err(DatasetError::NoText { .. })));
}

#[test]
fn a_file_without_a_text_column_lists_its_columns() {
    let error = read(DataFormat::Math, &one_column("question", &["a"]), None).unwrap_err();
    assert!(matches!(error, DatasetError::MissingColumn { .. }), "{error}");
    assert!(error.to_string().contains("`question` + `answer` (byte arrays), found question"), "{error}");
    let list = "message m { repeated binary text (UTF8); }";
    let empty = file(list, &[&[]]);
    assert!(matches!(read(DataFormat::C4, &empty, None), Err(DatasetError::MissingColumn { .. })));
}

#[test]
fn a_damaged_file_is_an_error() {
    let bytes = one_column("text", &["some text", "more text"]);
    for length in 4..bytes.len() {
        let error = read(DataFormat::C4, &bytes[..length], None).unwrap_err();
        assert!(matches!(error, DatasetError::Parquet { .. }), "{error}");
    }
    for position in 4..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[position] ^= 0xff;
        if let Err(error) = read(DataFormat::C4, &damaged, None) {
            assert!(error.to_string().contains("data"), "{error}");
        }
    }
}
