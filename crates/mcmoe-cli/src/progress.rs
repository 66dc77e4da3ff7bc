//! Progress on stderr: a bar with the time left on a terminal, plain lines elsewhere.

use std::io::IsTerminal;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use mcmoe_mixtral::Progress;

use crate::output;

/// Seconds between two plain lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Reports to whoever is at the other end of stderr.
pub(crate) struct Reporter {
    terminal: bool,
    phase: Mutex<Option<Phase>>,
}

struct Phase {
    name: String,
    steps: u64,
    done: u64,
    started: Instant,
    last_line: Instant,
    bar: Option<ProgressBar>,
}

impl Reporter {
    pub(crate) fn new() -> Self {
        Self { terminal: std::io::stderr().is_terminal(), phase: Mutex::new(None) }
    }

    fn with_phase(&self, work: impl FnOnce(&mut Option<Phase>)) {
        // A thread that panicked while reporting leaves nothing that later reports depend on.
        work(&mut self.phase.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Progress for Reporter {
    fn start(&self, phase: &str, steps: u64) {
        let now = Instant::now();
        let bar = self.terminal.then(|| bar(phase, steps));
        let name = phase.to_owned();
        self.with_phase(|p| *p = Some(Phase { name, steps, done: 0, started: now, last_line: now, bar }));
    }

    fn advance(&self, steps: u64) {
        self.with_phase(|phase| {
            let Some(phase) = phase else { return };
            phase.done += steps;
            match &phase.bar {
                Some(bar) => bar.inc(steps),
                None if phase.last_line.elapsed() >= LINE_EVERY => phase.print_line(),
                None => {}
            }
        });
    }

    fn finish(&self) {
        self.with_phase(|phase| {
            let Some(phase) = phase.take() else { return };
            let seconds = phase.started.elapsed().as_secs_f64();
            if let Some(bar) = phase.bar {
                bar.finish_and_clear();
            }
            output::note(&format!("{}: {} steps in {seconds:.1} s", phase.name, phase.done));
        });
    }
}

impl Phase {
    fn print_line(&mut self) {
        self.last_line = Instant::now();
        let elapsed = self.started.elapsed().as_secs_f64();
        let left = elapsed / self.done.max(1) as f64 * self.steps.saturating_sub(self.done) as f64;
        let Self { name, done, steps, .. } = self;
        output::note(&format!("{name}: {done} of {steps}, about {left:.0} s left"));
    }
}

fn bar(phase: &str, steps: u64) -> ProgressBar {
    let template = "{msg} {wide_bar} {pos}/{len}, {eta} left";
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    ProgressBar::new(steps).with_style(style).with_message(phase.to_owned())
}
