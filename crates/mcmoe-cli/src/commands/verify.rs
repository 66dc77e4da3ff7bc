//! `mcmoe verify`.

use mcmoe_mixtral::folder::ModelFolder;

use super::Failure;
use crate::args::VerifyArgs;
use crate::output;
use crate::progress::Reporter;

pub(crate) fn run(args: &VerifyArgs) -> Result<(), Failure> {
    let verified = ModelFolder::open(&args.dir)?.verify(&Reporter::new())?;
    if args.json {
        return output::json(&verified);
    }
    let files = match verified.files {
        0 => "a dense folder has no checksums".to_owned(),
        files => format!("{files} files, {}, equal their checksums", output::size(verified.bytes)),
    };
    output::line(&format!("{files}; {} tensors are sound", verified.tensors))
}
