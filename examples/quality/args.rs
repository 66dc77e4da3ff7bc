//! What the user asks for.

use std::path::{Path, PathBuf};

const USAGE: &str = "options are [--fixtures DIR] [--only SUBSTRING] [--json FILE] [--out DIR]";

/// The command line; `main.rs` says what each option does.
#[derive(Debug)]
pub(crate) struct Args {
    pub(crate) fixtures: PathBuf,
    pub(crate) only: Option<String>,
    pub(crate) json: Option<PathBuf>,
    pub(crate) out: Option<PathBuf>,
}

impl Args {
    /// Reads the arguments after the program's name.
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/fixtures");
        let mut parsed = Self { fixtures, only: None, json: None, out: None };
        while let Some(option) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{option} needs a value; {USAGE}"));
            match option.as_str() {
                "--fixtures" => parsed.fixtures = value()?.into(),
                "--only" => parsed.only = Some(value()?),
                "--json" => parsed.json = Some(value()?.into()),
                "--out" => parsed.out = Some(value()?.into()),
                _ => return Err(format!("{option} is unknown; {USAGE}")),
            }
        }
        Ok(parsed)
    }

    /// Whether the setting of this name is asked for.
    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.only.as_deref().is_none_or(|part| name.contains(part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &str) -> Result<Args, String> {
        Args::parse(args.split_whitespace().map(str::to_owned))
    }

    #[test]
    fn options_have_values() {
        let args = parse("--fixtures f --only trellis --json points.json").unwrap();
        assert_eq!(args.fixtures, Path::new("f"));
        assert_eq!(args.json.as_deref(), Some(Path::new("points.json")));
        assert!(args.out.is_none());
        assert!(args.chooses("mcmoe, trellis, 2 bits") && !args.chooses("HQQ"));
        assert!(parse("").unwrap().chooses("HQQ"));
    }

    #[test]
    fn others_are_refused() {
        assert!(parse("--only").unwrap_err().contains("needs a value"));
        assert!(parse("--help").unwrap_err().contains("--fixtures"));
    }
}
