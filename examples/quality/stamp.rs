//! When and where something was measured.

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

const SECONDS_A_DAY: u64 = 86_400;

/// Date and machine of a measurement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stamp {
    /// `YYYY-MM-DD`, UTC.
    pub(crate) date: String,
    /// Model of the CPU and number of threads.
    pub(crate) machine: String,
}

impl Stamp {
    /// Today, on this machine.
    pub(crate) fn now() -> Self {
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let machine = format!("{}, {} threads", cpu(&info), rayon::current_num_threads());
        Self { date: date(seconds / SECONDS_A_DAY), machine }
    }
}

/// The CPU that `/proc/cpuinfo` names; not all kinds have a name there.
fn cpu(info: &str) -> String {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    match lines.find(|(key, _)| key.trim() == "model name") {
        Some((_, name)) => name.trim().to_owned(),
        None => format!("an {} CPU", std::env::consts::ARCH),
    }
}

/// The date so many days after 1970-01-01. Years begin in March, so that leap days are their last.
fn date(days: u64) -> String {
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!("{:04}-{month:02}-{day:02}", era * 400 + year + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        assert_eq!(date(0), "1970-01-01");
        assert_eq!(date(11_016), "2000-02-29");
        assert_eq!(date(20_453), "2025-12-31");
        assert_eq!(date(20_782), "2026-11-25");
    }

    #[test]
    fn the_cpu_is_named() {
        assert_eq!(cpu("processor\t: 0\nmodel name\t: A CPU: B\nmodel name\t: other\n"), "A CPU: B");
        assert!(cpu("processor : 0\n").ends_with("CPU"));
    }
}
