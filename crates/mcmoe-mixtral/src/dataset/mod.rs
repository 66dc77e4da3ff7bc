//! Text data sets for calibration and evaluation.
//!
//! A [`DataSpec`] is what a user writes (`wikitext2:PATH`, `mix:c4:PATH,math:PATH`). It yields documents, or one
//! text, from local files: plain text, JSON lines, a JSON array, any of these gzipped, or Hugging Face parquet
//! (with the feature `parquet`). Once a tokenizer has turned that text into token ids, [`random_windows`],
//! [`blocks`] and [`windows`] cut sequences out of them.
//!
//! ```text
//! spec → open → plain | json | parquet → collect → documents ─(tokenizer)→ tokens → sampling → sequences
//! ```
//!
//! An equal mix is best made at the level of sequences, because kinds of text differ in tokens a byte:
//! tokenize each of [`DataSpec::part_texts`] and draw [`split_shares`]`(samples, parts)` sequences from each.
//!
//! The seeded samplers are defined down to the bit (see [`random_windows`]), so that the same seed and tokens give
//! the same sequences on every platform and in every version.

mod collect;
mod draw;
mod error;
mod format;
mod json;
mod lines;
mod open;
#[cfg(feature = "parquet")]
mod parquet;
mod plain;
mod read;
mod record;
mod sampling;
mod spec;

pub use error::{DatasetError, Place, SpecProblem};
pub use format::DataFormat;
pub(crate) use sampling::MAX_SAMPLED_TOKENS;
pub use sampling::{blocks, random_windows, split_shares, windows};
pub use spec::{DataSource, DataSpec};

#[cfg(test)]
mod tests;
