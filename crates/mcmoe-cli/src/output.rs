//! Printing results: JSON for programs, lines for people.

use std::io::{Write, stderr, stdout};

use serde::Serialize;

use crate::commands::Failure;

/// One JSON object on a line of stdout.
pub(crate) fn json<T: Serialize>(value: &T) -> Result<(), Failure> {
    let text = serde_json::to_string(value).map_err(std::io::Error::from)?;
    line(&text)
}

/// A line on stdout.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    Ok(writeln!(stdout().lock(), "{text}")?)
}

/// Text on stdout, shown at once.
pub(crate) fn piece(text: &str) -> Result<(), Failure> {
    let mut out = stdout().lock();
    out.write_all(text.as_bytes())?;
    Ok(out.flush()?)
}

/// A line on stderr. If nobody can read it, nothing is lost that a program depends on.
pub(crate) fn note(text: &str) {
    let _ = writeln!(stderr().lock(), "{text}");
}

/// Seconds as people write them.
pub(crate) fn duration(seconds: f64) -> String {
    match seconds {
        s if s < 90.0 => format!("{s:.0} s"),
        s if s < 5400.0 => format!("{:.0} min", s / 60.0),
        s => format!("{:.1} h", s / 3600.0),
    }
}

/// Bytes as people write them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.2} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_readable() {
        assert_eq!([duration(7.4), duration(600.0), duration(9000.0)], ["7 s", "10 min", "2.5 h"]);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!(
            [size(0), size(1023), size(1536), size(13 << 30)],
            ["0 B", "1023 B", "1.50 KiB", "13.00 GiB"]
        );
    }
}
