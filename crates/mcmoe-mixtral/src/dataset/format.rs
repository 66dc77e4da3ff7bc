//! The kinds of data sets and what is particular to each.

use std::fmt;

/// Ways to spell one document as named string fields: any one list of names will do, first match first, and the
/// values of a list are joined by a newline.
pub(super) type TextFields = &'static [&'static [&'static str]];

/// The kind of a data set: it says how documents lie in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DataFormat {
    /// WikiText-2. A text file is one document as it is; parquet rows (`text`) are joined by a blank line
    /// (`"\n\n"`) into one document, as GPTQ's evaluation does with the Hugging Face data set.
    WikiText2,
    /// Penn Treebank. A text file is one document as it is; parquet rows (`sentence`, else `text`) are joined by a
    /// space into one document.
    Ptb,
    /// Any text. A text file is one document as it is; each parquet row (`text`) is a document.
    Text,
    /// C4. JSON lines, one object with the string `text` a line, each a document; so is each parquet row (`text`).
    C4,
    /// Mathematical texts. A JSON array or JSON lines of strings or of objects with `text`, `problem` and
    /// `solution`, or `question` and `answer` (a pair is joined by a newline); parquet rows likewise.
    Math,
}

impl DataFormat {
    /// Every format, in the order in which help texts list them.
    pub const ALL: [Self; 5] = [Self::WikiText2, Self::Ptb, Self::Text, Self::C4, Self::Math];

    /// The word that stands for the format in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::WikiText2 => "wikitext2",
            Self::Ptb => "ptb",
            Self::Text => "text",
            Self::C4 => "c4",
            Self::Math => "math",
        }
    }

    /// The format called `name`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The fields of a JSON object, or columns of a parquet file, that hold a document.
    pub(super) fn text_fields(self) -> TextFields {
        match self {
            Self::WikiText2 | Self::Text | Self::C4 => &[&["text"]],
            Self::Ptb => &[&["sentence"], &["text"]],
            Self::Math => &[&["text"], &["problem", "solution"], &["question", "answer"]],
        }
    }

    /// What joins parquet rows into one document; `None` where each row is a document.
    #[cfg(feature = "parquet")]
    pub(super) fn row_separator(self) -> Option<&'static str> {
        match self {
            Self::WikiText2 => Some("\n\n"),
            Self::Ptb => Some(" "),
            Self::Text | Self::C4 | Self::Math => None,
        }
    }
}

impl fmt::Display for DataFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `fields` in words, for error messages.
pub(super) fn describe(fields: TextFields) -> String {
    let ways: Vec<String> = fields.iter().map(|names| format!("`{}`", names.join("` + `"))).collect();
    ways.join(" or ")
}
