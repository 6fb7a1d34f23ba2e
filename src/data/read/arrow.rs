//! Reads parquet files, and Arrow files and streams (the shards of `save_to_disk`).
//!
//! Leaves to others: single values (`arrow_value.rs`).

use super::arrow_value::{value, Unreadable};
use super::collector::RowCollector;
use crate::data::dataset::Row;
use crate::error::{Error, Kind, Result};
use crate::{fence, files, interrupt};
use arrow_array::cast::AsArray;
use arrow_array::types::TimestampMicrosecondType;
use arrow_array::RecordBatch;
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType, Field, Schema, TimeUnit};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type;
use parquet::errors::ParquetError;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

/// The container of the columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Parquet,
    Arrow,
}

pub fn read(path: &Path, container: Container, collector: &mut RowCollector) -> Result<()> {
    // The crates can panic on damaged files, which their authors consider a bug.
    let before = collector.len();
    let batches = || match container {
        Container::Parquet => parquet_batches(path, collector),
        Container::Arrow => arrow_batches(path, collector),
    };
    match fence::catch(batches) {
        Ok(result) => result,
        Err(_) => Err(damaged(path, container, collector.len() - before, "the reader panicked on it")),
    }
}

fn damaged(path: &Path, container: Container, row: usize, detail: impl std::fmt::Display) -> Error {
    let name = if container == Container::Parquet { "parquet" } else { "arrow" };
    Error::new(Kind::File, format!("`{}` row {row}: not readable as {name}: {detail}", path.display()))
        .with_hint("fetch or write the file again")
}

fn open(path: &Path) -> Result<File> {
    files::open(path)
}

fn parquet_batches(path: &Path, collector: &mut RowCollector) -> Result<()> {
    let failed = |error: ParquetError| damaged(path, Container::Parquet, 0, error);
    let builder = |options| ParquetRecordBatchReaderBuilder::try_new_with_options(open(path)?, options).map_err(failed);
    // The types of the Arrow schema in the file, or parquet's own types if that schema cannot be read.
    let typed = builder(ArrowReaderOptions::new())
        .or_else(|error| builder(ArrowReaderOptions::new().with_skip_arrow_metadata(true)).map_err(|_| error))?;
    let columns = typed.parquet_schema().columns().iter();
    let int96 = columns.filter(|column| column.physical_type() == Type::INT96);
    let int96: Vec<String> = int96.map(|column| column.path().string()).collect();
    let schema = typed.schema().clone();
    let batches = typed.with_batch_size(BATCH_SIZE).build().map_err(failed)?;
    if !int96.is_empty() {
        let wide = ArrowReaderOptions::new().with_schema(Arc::new(in_microseconds(&schema, &int96)));
        let wide = builder(wide)?.with_batch_size(BATCH_SIZE).build().map_err(failed)?;
        ensure_not_wrapped(path, wide, &int96, collector)?;
    }
    push_all(path, Container::Parquet, batches, collector)
}

/// The schema with INT96 times in microseconds, whose range includes every year.
fn in_microseconds(schema: &Schema, int96: &[String]) -> Schema {
    let field = |field: &Arc<Field>| {
        let field = field.as_ref().clone();
        if int96.contains(field.name()) {
            field.with_data_type(DataType::Timestamp(TimeUnit::Microsecond, None))
        } else {
            field
        }
    };
    Schema::new_with_metadata(schema.fields().iter().map(field).collect::<Vec<_>>(), schema.metadata().clone())
}

/// Fails on times outside 1677 to 2262, such as the sentinel 9999-12-31: in nanoseconds they overflow.
fn ensure_not_wrapped(
    path: &Path,
    batches: ParquetRecordBatchReader,
    int96: &[String],
    collector: &RowCollector,
) -> Result<()> {
    let mut done = 0;
    for batch in batches {
        interrupt::check()?;
        let batch = batch.map_err(|error| damaged(path, Container::Parquet, done, error))?;
        for name in int96.iter().filter(|name| collector.options.wants(name)) {
            let Some(times) =
                batch.column_by_name(name).and_then(|column| column.as_primitive_opt::<TimestampMicrosecondType>())
            else {
                return Err(time_error(path, done, name, "INT96 times inside lists and structs cannot be read"));
            };
            let outside = |time: Option<i64>| time.is_some_and(|time| time.checked_mul(1000).is_none());
            if let Some(index) = times.iter().position(outside) {
                return Err(time_error(path, done + index, name, "a time outside the years 1677 to 2262 (INT96)"));
            }
        }
        done += batch.num_rows();
    }
    Ok(())
}

fn time_error(path: &Path, row: usize, column: &str, detail: &str) -> Error {
    Error::data(format!("`{}` row {row}: column `{column}`: {detail}", path.display())).with_hint(SKIP_COLUMN)
}

/// The hint for a column that cannot be read.
const SKIP_COLUMN: &str = "load the other columns: #{ columns: [\"…\"] }, or write this one as text";

/// The number of rows decoded at a time.
const BATCH_SIZE: usize = 1024;

fn arrow_batches(path: &Path, collector: &mut RowCollector) -> Result<()> {
    let mut file = BufReader::new(open(path)?);
    let mut head = [0; 6];
    let is_file = file.read_exact(&mut head).is_ok() && &head == b"ARROW1";
    file.rewind().map_err(|error| Error::file("read", path, &error))?;
    let failed = |error: ArrowError| damaged(path, Container::Arrow, 0, error);
    if is_file {
        push_all(path, Container::Arrow, FileReader::try_new(file, None).map_err(failed)?, collector)
    } else {
        push_all(path, Container::Arrow, StreamReader::try_new(file, None).map_err(failed)?, collector)
    }
}

fn push_all(
    path: &Path,
    container: Container,
    batches: impl Iterator<Item = std::result::Result<RecordBatch, ArrowError>>,
    collector: &mut RowCollector,
) -> Result<()> {
    let mut done = 0;
    for batch in batches {
        interrupt::check()?;
        let batch = batch.map_err(|error| damaged(path, container, done, error))?;
        push(path, &batch, done, collector)?;
        done += batch.num_rows();
    }
    Ok(())
}

fn push(path: &Path, batch: &RecordBatch, done: usize, collector: &mut RowCollector) -> Result<()> {
    let schema = batch.schema();
    let names: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    if let Some(index) = (1..names.len()).find(|&index| names[..index].contains(&names[index])) {
        let error = Error::new(Kind::File, format!("`{}` has two columns `{}`", path.display(), names[index]));
        return Err(error.with_hint("give each column another name"));
    }
    collector.add_columns(&names);
    let mut rows: Vec<Row> = (0..batch.num_rows()).map(|_| Row::new()).collect();
    for (name, column) in names.into_iter().zip(batch.columns()) {
        if !collector.options.wants(&name) || collector.is_left_out(&name) {
            continue;
        }
        for (index, row) in rows.iter_mut().enumerate() {
            let location = || format!("`{}` row {}: column `{name}`", path.display(), done + index);
            match value(column, index) {
                Ok(value) => {
                    row.insert(name.clone(), value);
                }
                Err(Unreadable::Bytes) => {
                    collector.leave_out(&name, location())?;
                    break;
                }
                Err(Unreadable::Other(detail)) => {
                    return Err(Error::data(format!("{}: {detail}", location())).with_hint(SKIP_COLUMN))
                }
            }
        }
    }
    rows.into_iter().try_for_each(|row| collector.add(row))
}
