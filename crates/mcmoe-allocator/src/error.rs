//! Everything that can go wrong in this crate, as one enum.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::solver::SolverFailure;

/// The unit of the two figures in [`AllocatorError::Infeasible`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SizeUnit {
    /// Whatever the sizes of a hand-made [`Program`](crate::Program) count.
    Size,
    /// Sum of the experts' code bits.
    CodeBits,
    /// Average stored bits per expert weight, scales and zero points included.
    StoredBitsPerWeight,
    /// Bytes of expert weights.
    Bytes,
}

impl fmt::Display for SizeUnit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "units of size",
            Self::CodeBits => "code bits",
            Self::StoredBitsPerWeight => "stored bits per weight",
            Self::Bytes => "bytes",
        })
    }
}

/// Errors of reading factors and allocations and of allocating bits.
///
/// `layer` and `expert` count from 0, as the rows and columns of the JSON files do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocatorError {
    /// A file could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `"read"` or `"write"`.
        action: &'static str,
        /// The file named by the caller.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A text is not the JSON that was expected.
    #[error("{what}{}: {source}", in_file(path.as_ref()))]
    Json {
        /// What the text should have been, for instance `"factors"`.
        what: &'static str,
        /// The file that held the text, if it came from one.
        path: Option<PathBuf>,
        /// The cause, with line and column.
        source: serde_json::Error,
    },
    /// The content of a file is well-formed JSON and still not valid.
    #[error("{}: {source}", path.display())]
    InFile {
        /// The file.
        path: PathBuf,
        /// What is wrong with its content.
        source: Box<AllocatorError>,
    },
    /// A count is zero or a list is empty.
    #[error("`{field}` is empty")]
    Empty {
        /// The field.
        field: &'static str,
    },
    /// A count is larger than can be handled.
    #[error("`{field}` is {found}, at most {most} can be handled")]
    TooMany {
        /// The field.
        field: &'static str,
        /// The count found.
        found: usize,
        /// The largest that is handled.
        most: usize,
    },
    /// A list is longer or shorter than it has to be.
    #[error("`{field}`{} has {found} entries, expected {expected}", place(*layer, *expert))]
    Shape {
        /// The field.
        field: &'static str,
        /// The layer whose list it is; `None` for the outermost list.
        layer: Option<usize>,
        /// The expert whose list it is; `None` for a layer's list.
        expert: Option<usize>,
        /// Length expected.
        expected: usize,
        /// Length found.
        found: usize,
    },
    /// A number is negative, infinite or not a number.
    #[error(
        "`{field}`{} is {value}, expected a finite number that is not negative",
        place(*layer, *expert)
    )]
    Value {
        /// The field.
        field: &'static str,
        /// The layer.
        layer: Option<usize>,
        /// The expert; `None` for a number that belongs to a layer.
        expert: Option<usize>,
        /// The number found.
        value: f64,
    },
    /// Candidate widths are not strictly increasing numbers from 1 to 16.
    #[error("candidate bit-widths {bits:?} are not strictly increasing numbers from 1 to 16")]
    Widths {
        /// The widths found.
        bits: Vec<u8>,
    },
    /// An allocation holds a width that is not allowed.
    #[error("layer {layer}, expert {expert}: a width of {width} bits is not one of {allowed:?}")]
    Width {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
        /// The width found.
        width: u8,
        /// The widths allowed.
        allowed: Vec<u8>,
    },
    /// An exponent of the significance is negative, infinite or not a number.
    #[error("exponent `{name}` is {value}, expected a finite number that is not negative")]
    Exponent {
        /// `"alpha"`, `"beta"` or `"gamma"`.
        name: &'static str,
        /// The value found.
        value: f64,
    },
    /// A budget is not a positive finite number.
    #[error("a budget of {value} is not a positive finite number")]
    Budget {
        /// The value found.
        value: f64,
    },
    /// The budget counts stored bits and the options do not say what a width costs in storage.
    #[error("the budget needs `{needed}`: set `AllocatorOptions::storage`")]
    MissingStorage {
        /// What is missing.
        needed: &'static str,
    },
    /// The storage table gives no usable figure for a width.
    #[error(
        "storage of {width}-bit experts: {}",
        stored.map_or("not in the table".to_owned(), |v| format!("{v} bits per weight is not usable"))
    )]
    Storage {
        /// The width.
        width: u8,
        /// The figure found, if there is one.
        stored: Option<f64>,
    },
    /// No allocation is small enough for the budget and meets the requirements.
    #[error(
        "no allocation fits{}: the budget is {budget} {unit}, the smallest possible is {smallest}",
        layer.map_or(String::new(), |l| format!(" layer {l}"))
    )]
    Infeasible {
        /// The layer; `None` when one budget covers several layers.
        layer: Option<usize>,
        /// The budget.
        budget: f64,
        /// The smallest size that meets every requirement.
        smallest: f64,
        /// Unit of both.
        unit: SizeUnit,
    },
    /// A cost is infinite or not a number (factors or exponents too large).
    #[error("layer {layer}, expert {expert}: the cost of choice {choice} is {cost}")]
    NonFiniteCost {
        /// The layer.
        layer: usize,
        /// The expert.
        expert: usize,
        /// Index of the choice: of the width in `Factors::bits`.
        choice: usize,
        /// The cost.
        cost: f64,
    },
    /// The sizes of a program add up to more than 64 bits hold.
    #[error("the sizes of the program overflow 64 bits")]
    SizeOverflow,
    /// More distinct choices are required in a block than it can show.
    #[error("layer {layer}: {required} choices are required at least once, at most {limit} can be")]
    RequiredCount {
        /// The layer.
        layer: usize,
        /// Distinct choices required.
        required: usize,
        /// The most there can be: one per expert, and no more than 16.
        limit: usize,
    },
    /// A required choice does not exist.
    #[error("layer {layer}: choice {choice} is required, there are only {choices}")]
    RequiredChoice {
        /// The layer.
        layer: usize,
        /// The index required.
        choice: usize,
        /// Number of choices.
        choices: usize,
    },
    /// One width for all experts was asked for, and the budget is not a candidate width.
    #[error("an average of {average} bits is not one of the candidate widths {widths:?}")]
    NotUniform {
        /// The average code bits per expert that the budget asks for.
        average: f64,
        /// The candidate widths.
        widths: Vec<u8>,
    },
    /// A random draw would have to tell apart more sizes than it can keep.
    #[error(
        "{experts} experts at widths {widths:?} can have too many different sizes for a random draw: \
         take fewer widths or a budget in code bits"
    )]
    TooManySizes {
        /// Experts in a layer.
        experts: usize,
        /// The candidate widths.
        widths: Vec<u8>,
    },
    /// Manual mode was asked to move more experts than there are.
    #[error("cannot raise {high} and lower {low} of {experts} experts")]
    ManualCount {
        /// Experts to raise.
        high: usize,
        /// Experts to lower.
        low: usize,
        /// Experts in a layer.
        experts: usize,
    },
    /// The solver failed on a program that has a solution, or answered with something else.
    #[error("{}the solver failed: {source}", layer.map_or(String::new(), |l| format!("layer {l}: ")))]
    Solver {
        /// The layer; `None` when the program covers several.
        layer: Option<usize>,
        /// The cause.
        source: SolverFailure,
    },
    /// The precision zoo has no entry for a budget.
    #[error("the zoo has no allocation of {total_bits} bits a block, only of {available:?}")]
    NotInZoo {
        /// The budget asked for.
        total_bits: u32,
        /// The budgets it has.
        available: Vec<u32>,
    },
}

impl AllocatorError {
    /// The same error, restated in `unit`s of `per_unit` units of size each.
    pub(crate) fn in_unit(self, unit: SizeUnit, per_unit: f64) -> Self {
        match self {
            Self::Infeasible { layer, budget, smallest, .. } => {
                Self::Infeasible { layer, budget: budget / per_unit, smallest: smallest / per_unit, unit }
            }
            other => other,
        }
    }

    /// The error of a program that is one block only in form.
    pub(crate) fn of_model(self) -> Self {
        match self {
            Self::Infeasible { budget, smallest, unit, .. } => {
                Self::Infeasible { layer: None, budget, smallest, unit }
            }
            Self::Solver { source, .. } => Self::Solver { layer: None, source },
            other => other,
        }
    }
}

fn in_file(path: Option<&PathBuf>) -> String {
    path.map_or(String::new(), |p| format!(" in {}", p.display()))
}

fn place(layer: Option<usize>, expert: Option<usize>) -> String {
    let layer = layer.map_or(String::new(), |l| format!(" of layer {l}"));
    let expert = expert.map_or(String::new(), |e| format!(", expert {e}"));
    layer + &expert
}
