//! How precisely activations enter a product.

use std::fmt;
use std::str::FromStr;

use crate::KernelError;

/// The numbers that activations are turned into before they meet codes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// 8-bit integers with one scale a token and group of columns, multiplied exactly: fast.
    #[default]
    Int8,
    /// `f32`, as they are.
    F32,
}

impl Precision {
    /// Every precision, the default first.
    pub const ALL: [Self; 2] = [Self::Int8, Self::F32];
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::F32 => "f32",
        })
    }
}

impl FromStr for Precision {
    type Err = KernelError;

    fn from_str(text: &str) -> Result<Self, KernelError> {
        let found = Self::ALL.into_iter().find(|precision| precision.to_string() == text);
        found.ok_or_else(|| KernelError::UnknownPrecision { name: text.to_owned() })
    }
}
