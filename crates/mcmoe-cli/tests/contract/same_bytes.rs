//! The same command gives the same bytes, however many threads work on it.

use super::{calibration, compressed};
use crate::common::{DEMO, Workplace, files_of, mcmoe, names_in, run};

#[test]
fn threads_and_repetition_change_nothing() {
    let first = files_of(compressed());
    for threads in ["1", "2"] {
        let workplace = Workplace::empty();
        let mut command = mcmoe("compress");
        command.arg(DEMO).arg("-o").arg(workplace.out()).args(calibration().split_whitespace());
        run(command.env("RAYON_NUM_THREADS", threads)).done();
        assert_eq!(names_in(&workplace.out()), first.keys().cloned().collect::<Vec<_>>());
        for (name, bytes) in files_of(&workplace.out()) {
            assert!(bytes == first[&name], "{name} differs with {threads} threads");
        }
    }
}
