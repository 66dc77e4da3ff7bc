//! Kills at any moment. A run that is started again ends in the bytes of one that was never killed.

use std::thread::sleep;
use std::time::Duration;

use crate::common::{Random, Workplace, ask, names_in, run};
use crate::equal::other_file_system;
use crate::job::{DATA_FREE, Job, MIXED, Place, THREADS, WORK, undisturbed};
use crate::stop::{Stopped, kill_after, kill_when};

/// Kills runs at random moments, at most two in a row, until `wanted` runs were killed.
fn kill_at_random(seed: u64, wanted: usize) {
    let whole = undisturbed(MIXED).took;
    let mut random = Random::new(seed);
    let (mut kills, mut quicker) = (0, 0);
    while kills < wanted {
        let workplace = Workplace::empty();
        let job = Job::new(&workplace, MIXED);
        for _ in 0..2 {
            // The more runs end before their time, the sooner the next ones are killed.
            let delay = whole.mul_f64(random.unit() * 0.9_f64.powi(quicker));
            let threads = 1 + kills % 2;
            eprintln!("seed {seed}: {kills} kills so far, the next after {delay:?} on {threads} threads");
            let killed = kill_after(job.command().env(THREADS, threads.to_string()), delay);
            job.check_stopped();
            if killed {
                kills += 1;
            } else {
                quicker += 1;
            }
            if job.is_complete() {
                break;
            }
        }
        job.finish(1 + kills % 2);
    }
    eprintln!("seed {seed}: {kills} runs were killed, {quicker} were quicker");
}

#[test]
fn any_moment_will_do() {
    kill_at_random(1, 20);
}

#[test]
#[ignore = "slow: kills 60 runs"]
fn any_moment_of_many_will_do() {
    kill_at_random(2, 60);
}

#[test]
fn again_and_again_until_it_is_done() {
    let workplace = Workplace::empty();
    let job = Job::new(&workplace, MIXED);
    let mut random = Random::new(3);
    let mut longest = undisturbed(MIXED).took / 5;
    for attempt in 0.. {
        let (delay, threads) = (longest.mul_f64(random.unit()), 1 + attempt % 2);
        eprintln!("attempt {attempt}: killed after {delay:?} on {threads} threads");
        let killed = kill_after(job.resume().env(THREADS, threads.to_string()), delay);
        job.check_stopped();
        if !killed || job.is_complete() {
            break;
        }
        longest = longest.mul_f64(1.2);
    }
    job.finish(2);
}

#[test]
fn the_same_command_goes_on_where_it_was_killed() {
    let workplace = Workplace::empty();
    let stopped = Stopped::half_way(Job::new(&workplace, MIXED));
    assert_eq!(names_in(workplace.root()), [WORK]);
    stopped.goes_on(&mut stopped.job.command());
    assert_eq!(names_in(workplace.root()), ["out"]);
    ask("inspect", &workplace.out(), "").done();
}

/// The 16-bit samples that layers are tuned towards are not kept: they have to be brought there again.
#[test]
fn repair_goes_on_where_it_was_killed() {
    let repaired = "--calibration text:TEXT --samples 40 --seq-len 64 --method gptq --mode uniform \
        --expert-bits 2.0 --repair routers,norms,scales";
    let workplace = Workplace::empty();
    let stopped = Stopped::half_way(Job::new(&workplace, repaired));
    stopped.goes_on(&mut stopped.job.resume());
}

#[test]
fn where_nothing_was_stopped_resuming_is_starting() {
    let workplace = Workplace::empty();
    let job = Job::new(&workplace, DATA_FREE);
    run(&mut job.resume()).done();
    job.check_result();
}

/// A moment near the end of a run.
type Moment = fn(&Job) -> bool;

/// From the last files of the result to its name.
const LAST_MOMENTS: [(&str, Moment); 4] = [
    ("config.json is there", |job| job.unfinished("config.json").exists()),
    ("the checksums are there", |job| job.unfinished("checksums.sha256").exists()),
    ("the result begins to appear", |job| {
        job.out.exists() && names_in(&job.out).iter().any(|name| !name.starts_with('.'))
    }),
    ("the result has appeared", Job::is_complete),
];

/// Kills runs of the job that `make` gives at each of the last moments and `pause` later.
fn kill_last(make: impl Fn(&Workplace) -> Job) {
    let mut kills = 0;
    for pause in [0, 1000].map(Duration::from_micros) {
        for (name, moment) in LAST_MOMENTS {
            let workplace = Workplace::empty();
            let job = make(&workplace);
            let ready = || {
                let reached = moment(&job);
                if reached {
                    sleep(pause);
                }
                reached
            };
            let killed = kill_when(&mut job.command(), ready);
            eprintln!("{pause:?} after {name}: {}", if killed { "killed" } else { "too late" });
            job.check_stopped();
            job.finish(1 + kills % 2);
            kills += usize::from(killed);
        }
    }
    assert!(kills > 0, "all runs were too quick");
}

#[test]
fn while_the_result_gets_its_name() {
    kill_last(|workplace| Job::new(workplace, DATA_FREE));
}

#[test]
fn while_the_result_moves_into_a_folder() {
    kill_last(|workplace| Job::new(workplace, DATA_FREE).at(Place::Inside));
}

#[test]
fn while_the_result_comes_from_another_file_system() {
    let Some(other) = other_file_system() else { return };
    let make = |workplace: &Workplace| {
        let work = other.path().join(workplace.root().file_name().unwrap());
        Job::new(workplace, DATA_FREE).at(Place::Given(work))
    };
    kill_last(make);
}
