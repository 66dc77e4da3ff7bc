//! A compression that is started again and again, and what has to come of it.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use crate::common::{DEMO, Workplace, files_of, mcmoe, names_in, run};

/// Options of a run through all phases: measuring, allocation, quantizing on activations.
pub(crate) const MIXED: &str =
    "--calibration text:TEXT --samples 8 --seq-len 64 --method gptq --expert-bits 2.0";
/// Options of a run from the weights alone, which is quick.
pub(crate) const DATA_FREE: &str = "--mode uniform --method rtn";
/// The work folder where nothing else is said.
pub(crate) const WORK: &str = ".out.mcmoe-work";
/// The variable that sets the number of threads.
pub(crate) const THREADS: &str = "RAYON_NUM_THREADS";

/// A compression.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) model: PathBuf,
    /// What `TEXT` in the options stands for.
    pub(crate) text: PathBuf,
    pub(crate) options: String,
    pub(crate) out: PathBuf,
    pub(crate) place: Place,
}

/// Where unfinished work lies.
#[derive(Clone)]
pub(crate) enum Place {
    /// In [`WORK`] beside the output folder.
    Beside,
    /// In the output folder, which is there beforehand.
    Inside,
    /// In this folder.
    Given(PathBuf),
}

impl Job {
    /// Of the demo model, into the output folder of `workplace`.
    pub(crate) fn new(workplace: &Workplace, options: &str) -> Self {
        let (model, options) = (PathBuf::from(DEMO), options.to_owned());
        Self {
            text: model.join("calibration.txt"),
            model,
            options,
            out: workplace.out(),
            place: Place::Beside,
        }
    }

    /// As [`Job::new`], of the copy in `workplace` and its text.
    pub(crate) fn of_copy(workplace: &Workplace, options: &str) -> Self {
        let model = workplace.model();
        Self { text: model.join("calibration.txt"), model, ..Self::new(workplace, options) }
    }

    /// With its work in another place.
    pub(crate) fn at(self, place: Place) -> Self {
        if matches!(place, Place::Inside) {
            fs::create_dir(&self.out).unwrap();
        }
        Self { place, ..self }
    }

    /// The command that starts it, or goes on with what is there.
    pub(crate) fn command(&self) -> Command {
        let options = self.options.replace("TEXT", self.text.to_str().unwrap());
        let mut command = mcmoe("compress");
        command.arg(&self.model).arg("-o").arg(&self.out).args(options.split_whitespace());
        if let Place::Given(dir) = &self.place {
            command.arg("--work-dir").arg(dir);
        }
        command
    }

    /// The command that goes on with what is there and with nothing else.
    pub(crate) fn resume(&self) -> Command {
        let mut command = self.command();
        command.arg("--resume");
        command
    }

    pub(crate) fn work(&self) -> PathBuf {
        match &self.place {
            Place::Beside => self.out.with_file_name(WORK),
            Place::Inside => self.out.join(".mcmoe-work"),
            Place::Given(dir) => dir.clone(),
        }
    }

    pub(crate) fn journal(&self) -> PathBuf {
        self.work().join("journal.bin")
    }

    /// A file of the result while that is not complete.
    pub(crate) fn unfinished(&self, name: &str) -> PathBuf {
        self.work().join("result").join(name)
    }

    /// Whether the output folder is a model.
    pub(crate) fn is_complete(&self) -> bool {
        self.out.join("config.json").exists()
    }

    /// Whether a stopped run left something to go on with.
    fn has_work(&self) -> bool {
        match &self.place {
            // A folder of the user's stays.
            Place::Given(dir) => dir.exists() && !names_in(dir).is_empty(),
            _ => self.work().exists(),
        }
    }

    /// Goes on with a stopped run, on so many threads, and checks its result.
    #[track_caller]
    pub(crate) fn finish(&self, threads: usize) {
        if self.has_work() || !self.is_complete() {
            run(self.resume().env(THREADS, threads.to_string())).done();
        }
        self.check_result();
    }

    /// Checks what a stopped run left: no result, or all of it.
    #[track_caller]
    pub(crate) fn check_stopped(&self) {
        if self.is_complete() {
            self.check_bytes();
        } else if !matches!(self.place, Place::Inside) {
            assert!(!self.out.exists(), "half a result: {:?}", names_in(&self.out));
        }
    }

    /// Checks what a run left that ended with an error; returns whether it left layers to go on with.
    #[track_caller]
    pub(crate) fn check_failed(&self) -> bool {
        self.check_stopped();
        let kept = self.journal().exists();
        assert!(kept || !self.work().exists(), "unrecorded work: {:?}", names_in(&self.work()));
        kept
    }

    /// Checks that the result is that of a run that nothing happened to, and that it is all there is.
    #[track_caller]
    pub(crate) fn check_result(&self) {
        self.check_bytes();
        for dir in [&self.out, self.out.parent().unwrap()] {
            let left: Vec<String> = names_in(dir).into_iter().filter(|name| name.starts_with('.')).collect();
            assert!(left.is_empty(), "{left:?} in {}", dir.display());
        }
        if let Place::Given(dir) = &self.place {
            assert!(!dir.exists() || names_in(dir).is_empty(), "{:?}", names_in(dir));
        }
    }

    /// Checks the files of the result, work inside its folder not counted.
    #[track_caller]
    fn check_bytes(&self) {
        let expected = &undisturbed(&self.options).files;
        let mut names = names_in(&self.out);
        names.retain(|name| !name.starts_with('.'));
        assert_eq!(names, expected.keys().cloned().collect::<Vec<_>>());
        for (name, bytes) in expected {
            assert!(fs::read(self.out.join(name)).unwrap() == *bytes, "{name} differs");
        }
    }
}

/// What comes of a run that nothing happens to.
pub(crate) struct Undisturbed {
    pub(crate) files: BTreeMap<String, Vec<u8>>,
    pub(crate) took: Duration,
}

/// A run on the demo model with these options, made once.
pub(crate) fn undisturbed(options: &str) -> &'static Undisturbed {
    static MADE: Mutex<BTreeMap<String, &'static Undisturbed>> = Mutex::new(BTreeMap::new());
    let make = || -> &'static Undisturbed {
        let workplace = Workplace::empty();
        let started = Instant::now();
        run(&mut Job::new(&workplace, options).command()).done();
        let took = started.elapsed();
        Box::leak(Box::new(Undisturbed { files: files_of(&workplace.out()), took }))
    };
    MADE.lock().unwrap().entry(options.to_owned()).or_insert_with(make)
}

/// All files below `dir`.
pub(crate) fn files_below(dir: &Path) -> Vec<PathBuf> {
    let paths = names_in(dir).into_iter().map(|name| dir.join(name));
    paths.flat_map(|path| if path.is_dir() { files_below(&path) } else { vec![path] }).collect()
}
