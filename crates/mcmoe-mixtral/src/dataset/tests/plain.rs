use super::{DataFormat, DataSource, DataSpec, DatasetError, gzip, read};
use crate::dataset::Place;

const TEXT: &str = "\u{feff} = Title = \r\n\r\n é x\u{0} \n\n";

#[test]
fn text_is_read_as_it_is() {
    for format in [DataFormat::WikiText2, DataFormat::Ptb, DataFormat::Text] {
        assert_eq!(read(format, TEXT.as_bytes(), None).unwrap(), [TEXT]);
        assert_eq!(read(format, &gzip(TEXT.as_bytes()), None).unwrap(), [TEXT]);
    }
}

#[test]
fn concatenated_gzip_members_are_one_text() {
    let bytes = [gzip(b"one "), gzip(b"two")].concat();
    assert_eq!(read(DataFormat::Text, &bytes, None).unwrap(), ["one two"]);
}

#[test]
fn a_limit_cuts_after_a_whole_character() {
    let text = "aé€😀b".repeat(3);
    for limit in 1..=text.len() + 5 {
        let cut = read(DataFormat::Text, text.as_bytes(), Some(limit)).unwrap().remove(0);
        assert!(text.starts_with(&cut));
        assert!(cut.len() >= limit.min(text.len()) && cut.len() < limit + 4, "limit {limit}: {}", cut.len());
    }
    assert_eq!(read(DataFormat::Text, b"abc", Some(usize::MAX)).unwrap(), ["abc"]);
}

#[test]
fn a_limit_of_nothing_is_refused() {
    let error = read(DataFormat::Text, b"abc", Some(0)).unwrap_err();
    assert!(matches!(error, DatasetError::LimitTooSmall { limit: 0, parts: 1 }));
}

#[test]
fn bytes_that_are_no_text_name_the_line() {
    for bytes in [&b"one\ntwo\xff\n"[..], b"one\ntwo\xe2\x82"] {
        let error = read(DataFormat::Text, bytes, None).unwrap_err();
        assert!(matches!(error, DatasetError::InvalidUtf8 { place: Place::Line(2), .. }), "{error}");
        assert!(error.to_string().ends_with("data, line 2: not valid UTF-8"), "{error}");
    }
    let error = read(DataFormat::Text, b"a\xffaaaaaaaaaaa", Some(4)).unwrap_err();
    assert!(matches!(error, DatasetError::InvalidUtf8 { place: Place::Line(1), .. }), "{error}");
}

#[test]
fn what_cannot_be_a_text_file_is_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let open = |path| DataSpec::from(DataSource::new(DataFormat::C4, path)).documents(None).unwrap_err();
    assert!(matches!(open(folder.path().join("none")), DatasetError::NotFound { .. }));
    assert!(matches!(open(folder.path().to_path_buf()), DatasetError::IsDirectory { .. }));
    for format in DataFormat::ALL {
        assert!(matches!(read(format, b"", None), Err(DatasetError::EmptyFile { .. })));
        assert!(matches!(read(format, b" \n\r\n", None), Err(DatasetError::NoText { .. })));
        assert!(matches!(read(format, &gzip(b""), None), Err(DatasetError::NoText { .. })));
    }
}

#[test]
fn a_damaged_gzip_file_is_an_error() {
    let bytes = gzip(&b"some text ".repeat(100));
    for format in [DataFormat::Text, DataFormat::C4] {
        let error = read(format, &bytes[..bytes.len() - 9], None).unwrap_err();
        assert!(matches!(error, DatasetError::Read { .. }), "{error}");
    }
}

#[test]
#[cfg(not(feature = "parquet"))]
fn parquet_without_the_feature_says_so() {
    let error = read(DataFormat::WikiText2, b"PAR1....PAR1", None).unwrap_err();
    assert!(matches!(error, DatasetError::ParquetDisabled { .. }), "{error}");
}
