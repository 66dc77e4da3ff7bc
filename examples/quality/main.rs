//! How good compressed models are: ours and other systems', on the same weights and the same text.
//!
//! ```text
//! cargo run --release --example quality -- --fixtures ../shared/fixtures
//! ```
//! Compresses the fixtures' `tiny-mixtral` to many sizes, evaluates each result, and puts that beside what
//! `baselines.json` has for other systems: the tables of `docs/quality.md` and the plot `docs/quality.svg`.
//!
//! | option | does |
//! |---|---|
//! | `--fixtures DIR` | where the model, the texts and the baselines are |
//! | `--json FILE` | saves each point as soon as it is measured, and takes those that the file already has |
//! | `--only SUBSTRING` | measures only the settings whose name has this in it |
//! | `--out DIR` | writes there, not to `docs`, and even if settings are missing |
//!
//! If settings are missing and there is no `--out`, the tables are printed and nothing is written.

mod args;
mod baselines;
mod files;
mod measure;
mod page;
mod plot;
mod points;
mod runs;
mod stamp;
mod systems;
mod tables;

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;

use args::Args;
use baselines::Baselines;
use measure::Bench;
use page::Report;
use points::Point;
use runs::Run;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let args = Args::parse(std::env::args().skip(1))?;
    let baselines = Baselines::read(&args.fixtures.join("baselines.json"))?;
    let runs = runs::all();
    let mut points = match &args.json {
        Some(path) => points::read(path)?,
        None => Vec::new(),
    };
    measure_missing(&args, &runs, &mut points)?;
    let missing: usize = runs.iter().map(|run| run.missing(&points).len()).sum();
    points.retain(|point| runs.iter().any(|run| run.has(point)));
    let report = Report::new(baselines, points);
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    match &args.out {
        None if missing > 0 => {
            print!("{}", report.text());
            eprintln!("{missing} points are missing: nothing is written");
        }
        out => report.publish(&docs, out.as_deref().unwrap_or(&docs))?,
    }
    Ok(())
}

/// Measures what is asked for and not among `points` yet.
fn measure_missing(args: &Args, runs: &[Run], points: &mut Vec<Point>) -> Result<(), Box<dyn Error>> {
    let chosen: Vec<&Run> = runs.iter().filter(|run| args.chooses(&run.name())).collect();
    if chosen.is_empty() {
        let names: Vec<String> = runs.iter().map(Run::name).collect();
        return Err(format!("--only leaves nothing of these:\n  {}", names.join("\n  ")).into());
    }
    let known = points.as_slice();
    let with_missing = chosen.into_iter().map(|run| (run, run.missing(known)));
    let todo: Vec<_> = with_missing.filter(|(_, missing)| !missing.is_empty()).collect();
    if todo.is_empty() {
        return Ok(());
    }
    let bench = Bench::open(&args.fixtures)?;
    for (done, (run, missing)) in todo.iter().enumerate() {
        eprintln!("[{}/{}] {}", done + 1, todo.len(), run.name());
        let measured = bench.measure(run, missing)?;
        measured.iter().for_each(|point| eprintln!("  {}", point.summary()));
        points.extend(measured);
        if let Some(path) = &args.json {
            points::write(path, points)?;
        }
    }
    Ok(())
}
