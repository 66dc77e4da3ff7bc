//! Reads documents from the string columns of a parquet file, as Hugging Face publishes data sets.

use std::fs::File;
use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::vec;

use ::parquet::basic::Type as PhysicalType;
use ::parquet::column::reader::{ColumnReaderImpl, get_typed_column_reader};
use ::parquet::data_type::{ByteArray, ByteArrayType};
use ::parquet::errors::ParquetError;
use ::parquet::file::reader::{FileReader, RowGroupReader, SerializedFileReader};
use ::parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::collect::{Appetite, Documents};
use super::error::{DatasetError, Place};
use super::format::describe;
use super::spec::DataSource;

/// Rows decoded at a time, so that a limit is not preceded by a whole row group.
const BATCH_ROWS: usize = 256;

/// Reads the rows of `file` into `documents`, joined or one by one as the format of `source` wants it.
pub(super) fn read(file: File, source: &DataSource, documents: &mut Documents) -> Result<(), DatasetError> {
    // The parquet crate panics on some damaged files. What it was filling is dropped with the error.
    let rows = AssertUnwindSafe(|| read_rows(file, source, documents));
    panic::catch_unwind(rows).unwrap_or_else(|_| {
        let reason = "the file is damaged".to_owned();
        Err(DatasetError::Parquet { path: source.path().to_path_buf(), reason })
    })
}

fn read_rows(file: File, source: &DataSource, documents: &mut Documents) -> Result<(), DatasetError> {
    let reader = SerializedFileReader::new(file).map_err(|e| broken(source.path(), &e))?;
    match source.format().row_separator() {
        None => for_each_row(&reader, source, |row| documents.push(row)),
        Some(separator) => {
            let joined = join_rows(&reader, source, separator, documents.remaining())?;
            documents.push(joined);
            Ok(())
        }
    }
}

fn join_rows(
    reader: &dyn FileReader,
    source: &DataSource,
    separator: &str,
    limit: Option<usize>,
) -> Result<String, DatasetError> {
    let mut rows = Vec::new();
    let mut bytes = 0;
    for_each_row(reader, source, |row| {
        bytes += row.len() + separator.len();
        rows.push(row);
        // The last row's separator is not written, so it does not count toward the limit.
        let enough = limit.is_some_and(|limit| bytes - separator.len() >= limit);
        if enough { Appetite::Full } else { Appetite::More }
    })?;
    Ok(rows.join(separator))
}

/// Hands every row's text to `take` until that has enough.
fn for_each_row(
    reader: &dyn FileReader,
    source: &DataSource,
    mut take: impl FnMut(String) -> Appetite,
) -> Result<(), DatasetError> {
    let columns = text_columns(reader.metadata().file_metadata().schema_descr(), source)?;
    let mut row = 0;
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group).map_err(|e| broken(source.path(), &e))?;
        let mut rows = Rows::open(group.as_ref(), &columns).map_err(|e| broken(source.path(), &e))?;
        while let Some(cells) = rows.next_row().map_err(|e| broken(source.path(), &e))? {
            row += 1;
            if take(text_of(&cells, source, Place::Row(row))?) == Appetite::Full {
                return Ok(());
            }
        }
    }
    Ok(())
}

/// The indices of the columns that hold the text: the first way of the format that the file has.
fn text_columns(schema: &SchemaDescriptor, source: &DataSource) -> Result<Vec<usize>, DatasetError> {
    let fields = source.format().text_fields();
    let position = |name: &str| schema.columns().iter().position(|column| is_text_column(column, name));
    fields.iter().find_map(|names| names.iter().map(|name| position(name)).collect()).ok_or_else(|| {
        DatasetError::MissingColumn {
            path: source.path().to_path_buf(),
            expected: format!("{} (byte arrays)", describe(fields)),
            found: schema.columns().iter().map(|column| column.path().string()).collect(),
        }
    })
}

/// Whether `column` is a top-level string column called `name`, not one inside a list or struct.
fn is_text_column(column: &ColumnDescriptor, name: &str) -> bool {
    column.path().parts() == [name]
        && column.physical_type() == PhysicalType::BYTE_ARRAY
        && column.max_rep_level() == 0
}

fn text_of(cells: &[Option<ByteArray>], source: &DataSource, place: Place) -> Result<String, DatasetError> {
    let path = || source.path().to_path_buf();
    let mut text = String::new();
    for (index, cell) in cells.iter().enumerate() {
        let bytes = cell.as_ref().ok_or_else(|| DatasetError::MissingText {
            path: path(),
            place,
            expected: "a value that is not null".to_owned(),
        })?;
        let value = std::str::from_utf8(bytes.data())
            .map_err(|_| DatasetError::InvalidUtf8 { path: path(), place })?;
        if index > 0 {
            text.push('\n');
        }
        text.push_str(value);
    }
    Ok(text)
}

fn broken(path: &Path, error: &ParquetError) -> DatasetError {
    DatasetError::Parquet { path: path.to_path_buf(), reason: error.to_string() }
}

/// The rows of one row group, over the columns of interest.
struct Rows {
    columns: Vec<Cells>,
}

impl Rows {
    fn open(group: &dyn RowGroupReader, columns: &[usize]) -> Result<Self, ParquetError> {
        let columns = columns.iter().map(|&index| Cells::open(group, index)).collect::<Result<_, _>>()?;
        Ok(Self { columns })
    }

    /// One cell a column, `None` for null; no row where the shortest column ends.
    fn next_row(&mut self) -> Result<Option<Vec<Option<ByteArray>>>, ParquetError> {
        self.columns.iter_mut().map(Cells::next_cell).collect()
    }
}

/// The cells of one column of one row group.
struct Cells {
    reader: ColumnReaderImpl<ByteArrayType>,
    // The definition level of a value that is there; a lower one is a null.
    defined: i16,
    batch: vec::IntoIter<Option<ByteArray>>,
}

impl Cells {
    fn open(group: &dyn RowGroupReader, index: usize) -> Result<Self, ParquetError> {
        let defined = group.metadata().column(index).column_descr().max_def_level();
        let reader = get_typed_column_reader(group.get_column_reader(index)?);
        Ok(Self { reader, defined, batch: Vec::new().into_iter() })
    }

    fn next_cell(&mut self) -> Result<Option<Option<ByteArray>>, ParquetError> {
        if self.batch.len() == 0 {
            self.batch = self.read_batch()?.into_iter();
        }
        Ok(self.batch.next())
    }

    fn read_batch(&mut self) -> Result<Vec<Option<ByteArray>>, ParquetError> {
        let (mut levels, mut values) = (Vec::new(), Vec::new());
        self.reader.read_records(BATCH_ROWS, Some(&mut levels), None, &mut values)?;
        if self.defined == 0 {
            // A required column stores no levels.
            return Ok(values.into_iter().map(Some).collect());
        }
        let mut values = values.into_iter();
        Ok(levels.into_iter().map(|level| if level == self.defined { values.next() } else { None }).collect())
    }
}
