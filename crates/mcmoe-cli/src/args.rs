//! The command line.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use mcmoe_mixtral::dataset::DataSpec;
use mcmoe_mixtral::synthetic::Shape;
use mcmoe_mixtral::{Device, Precision};

/// Compress Mixtral to 1.5-2.5 bits an expert weight and run it.
#[derive(Parser)]
#[command(name = "mcmoe", version, propagate_version = true, about, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Say more on stderr: -v what is done, -vv details, -vvv everything; RUST_LOG overrides it
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    pub(crate) verbose: u8,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Compress a model: measure its experts, give each 1, 2 or 3 bits, quantize, pack, save
    Compress(CompressArgs),
    /// Measure how much each expert matters (the first step of compress)
    Factors(FactorsArgs),
    /// Decide the bits of each expert from measured factors (the second step of compress)
    Allocate(AllocateArgs),
    /// Perplexity of a model, dense or compressed
    Eval(EvalArgs),
    /// Continue a prompt
    Generate(GenerateArgs),
    /// Sizes and bit-widths of a folder
    Inspect(InspectArgs),
    /// Check a whole folder against its checksums and what its format promises
    Verify(VerifyArgs),
    /// Speed of a model, or of a model of true shape with random weights
    Bench(BenchArgs),
    /// Write a dense model of true shape with random weights, to compress where there is no real one
    Synthesize(SynthesizeArgs),
}

#[derive(Args)]
#[command(group = ArgGroup::new("size_goal"))]
pub(crate) struct CompressArgs {
    /// Folder of the dense model, as downloaded from Hugging Face
    pub(crate) model_dir: PathBuf,
    /// Folder to create
    #[arg(short, long, value_name = "OUT_DIR")]
    pub(crate) output: PathBuf,
    /// Average code bits over experts, scales not counted [default: 2.0]
    #[arg(long, value_name = "BITS", group = "size_goal", value_parser = parse_positive)]
    pub(crate) expert_bits: Option<f64>,
    /// Size of the whole folder, for example 14GiB
    #[arg(long, value_parser = parse_size, group = "size_goal")]
    pub(crate) size: Option<u64>,
    /// Stored bits a weight over all experts, scales and zero points included
    #[arg(long, value_name = "BITS", group = "size_goal", value_parser = parse_positive)]
    pub(crate) bpw: Option<f64>,
    /// Bits of the attention projections: 1, 2, 3, 4 or 8
    #[arg(long, value_name = "BITS", default_value_t = 4, value_parser = parse_width)]
    pub(crate) attention_bits: u8,
    /// Weights that share a scale and a zero point, a multiple of 32; not of experts on a trellis (256)
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse_group_size)]
    pub(crate) group_size: usize,
    /// How weights are rounded
    #[arg(long, value_enum, default_value_t = MethodArg::Trellis)]
    pub(crate) method: MethodArg,
    #[command(flatten)]
    pub(crate) calibration: CalibrationArgs,
    /// Bits decided beforehand: a JSON file with "bits", [layer][expert], or "matrices" beside it
    #[arg(long, value_name = "FILE", conflicts_with_all = ["mode", "size_goal"])]
    pub(crate) allocation: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) mode: ModeArgs,
    /// What is tuned towards the 16-bit model after rounding, for example norms,scales
    /// [default: norms,scales for the trellis, none for grids]
    #[arg(long, value_enum, value_name = "PARTS", value_delimiter = ',')]
    pub(crate) repair: Option<Vec<RepairArg>>,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Folder for unfinished work and activations; a stopped run goes on from it when the same command is
    /// given again [default: a hidden folder beside the output]
    #[arg(long, value_name = "DIR")]
    pub(crate) work_dir: Option<PathBuf>,
    /// Go on with the unfinished run in the work folder; refuse if its inputs or options were others
    #[arg(long)]
    pub(crate) resume: bool,
    /// Say what it would take (size, memory, disk, time) and do nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print the report as one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct ModeArgs {
    /// How bits are shared out [default: global for the trellis, mixed for grids]
    #[arg(long, value_enum)]
    pub(crate) mode: Option<ModeArg>,
    /// Manual mode: experts of each block that get one bit more
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) high: usize,
    /// Manual mode: experts of each block that get one bit less
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) low: usize,
}

#[derive(Args)]
pub(crate) struct CalibrationArgs {
    /// Text to calibrate on: wikitext2:PATH, ptb:PATH, c4:PATH, math:PATH, text:PATH or
    /// mix:SPEC,SPEC,…; text, JSON lines, .gz or parquet
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) calibration: Option<DataSpec>,
    /// Number of sequences
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse_count)]
    pub(crate) samples: usize,
    /// Tokens a sequence [default: 2048, or what the model was made for if that is less]
    #[arg(long, value_name = "N", value_parser = parse_seq_len)]
    pub(crate) seq_len: Option<usize>,
    /// Seed of every random choice
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
}

#[derive(Args)]
pub(crate) struct FactorsArgs {
    /// Folder of the dense model
    pub(crate) model_dir: PathBuf,
    #[command(flatten)]
    pub(crate) calibration: CalibrationArgs,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
    /// Weights that share a scale and a zero point
    #[arg(long, value_name = "N", default_value_t = 128, value_parser = parse_group_size)]
    pub(crate) group_size: usize,
    /// Measure the matrices of every expert, too, for `allocate --mode global`
    #[arg(long)]
    pub(crate) matrices: bool,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
    /// Print the factors as one JSON object, too
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct AllocateArgs {
    /// Factors, as written by `mcmoe factors`
    pub(crate) factors: PathBuf,
    /// Average code bits over experts
    #[arg(long, value_name = "BITS", default_value_t = 2.0, value_parser = parse_positive)]
    pub(crate) expert_bits: f64,
    /// Exponent of the frequency
    #[arg(long, default_value_t = 1.0, value_parser = parse_exponent)]
    pub(crate) alpha: f64,
    /// Exponent of the routing weight
    #[arg(long, default_value_t = 1.5, value_parser = parse_exponent)]
    pub(crate) beta: f64,
    /// Exponent of the quantization loss
    #[arg(long, default_value_t = 1.0, value_parser = parse_exponent)]
    pub(crate) gamma: f64,
    #[command(flatten)]
    pub(crate) mode: ModeArgs,
    /// Seed of random mode
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// File to write
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: PathBuf,
}

#[derive(Args)]
pub(crate) struct PruneArgs {
    /// Drop experts that hardly matter for a token (online dynamic pruning)
    #[arg(long)]
    pub(crate) prune: bool,
    /// With --prune: share of the tokens of a sequence that keep all their experts
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = parse_share)]
    pub(crate) protect: f32,
}

#[derive(Args)]
pub(crate) struct ComputeArgs {
    /// How activations enter packed layers: int8 (fast) or f32 (exact)
    #[arg(long, value_name = "TYPE", default_value = "int8")]
    pub(crate) activations: Precision,
    /// Where to compute
    #[arg(long, default_value = "cpu")]
    pub(crate) device: Device,
}

/// How a model is run.
#[derive(Args)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    pub(crate) prune: PruneArgs,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Check the whole folder before it is used, as `mcmoe verify` does
    #[arg(long)]
    pub(crate) verify: bool,
}

#[derive(Args)]
pub(crate) struct EvalArgs {
    /// Folder of the model, dense or compressed
    pub(crate) dir: PathBuf,
    /// Text to predict: wikitext2:PATH, ptb:PATH, c4:PATH, math:PATH, text:PATH or mix:…
    #[arg(long, value_name = "KIND:PATH")]
    pub(crate) dataset: DataSpec,
    /// Tokens a window [default: 2048, or what the model was made for if that is less]
    #[arg(long, value_name = "N", value_parser = parse_seq_len)]
    pub(crate) seq_len: Option<usize>,
    /// Windows from the start of the text [default: all]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) windows: Option<usize>,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct GenerateArgs {
    /// Folder of the model, dense or compressed
    pub(crate) dir: PathBuf,
    /// Text to continue
    #[arg(long, value_name = "TEXT")]
    pub(crate) prompt: String,
    /// Tokens to generate at the most
    #[arg(long, value_name = "N", default_value_t = 128)]
    pub(crate) max_new_tokens: usize,
    /// Randomness; 0 takes the best token every time
    #[arg(long, value_name = "T", default_value_t = 0.0, value_parser = parse_temperature)]
    pub(crate) temperature: f32,
    /// Choose among the K best tokens; 0 for all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub(crate) top_k: usize,
    /// Choose among the best tokens that make up this probability
    #[arg(long, value_name = "P", default_value_t = 1.0, value_parser = parse_top_p)]
    pub(crate) top_p: f32,
    /// Above 1, tokens seen before become less likely
    #[arg(long, value_name = "R", default_value_t = 1.0, value_parser = parse_penalty)]
    pub(crate) repetition_penalty: f32,
    /// Seed of the choice
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Put the beginning-of-text token of config.json before the prompt
    #[arg(long)]
    pub(crate) bos: bool,
    #[command(flatten)]
    pub(crate) run: RunArgs,
    /// Print one JSON object at the end instead of streaming text
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct InspectArgs {
    /// Folder of the model, dense or compressed
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct VerifyArgs {
    /// Folder of the model, dense or compressed
    pub(crate) dir: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
#[command(group = ArgGroup::new("subject").required(true))]
pub(crate) struct BenchArgs {
    /// Folder of the model
    #[arg(group = "subject")]
    pub(crate) dir: Option<PathBuf>,
    /// Random weights in the shape of mixtral-8x7b or mixtral-8x22b, compressed
    #[arg(long, value_name = "SHAPE", group = "subject")]
    pub(crate) synthetic: Option<Shape>,
    /// Measure single kernels at every width, on matrices of Mixtral 8x7B
    #[arg(long, group = "subject", conflicts_with_all = ["context", "prompt"])]
    pub(crate) kernels: bool,
    /// With --synthetic: average code bits over experts, in steps of an eighth [default: 2.0]
    #[arg(long, value_name = "BITS", value_parser = parse_positive, conflicts_with = "dir")]
    pub(crate) expert_bits: Option<f64>,
    /// With --synthetic: run the first N layers and scale to the whole model
    #[arg(long, value_name = "N", value_parser = parse_count, conflicts_with = "dir")]
    pub(crate) layers: Option<usize>,
    /// Threads [default: all]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) threads: Option<usize>,
    /// Tokens in the cache when decoding is measured, one measurement each
    #[arg(long, value_name = "N,N,…", value_delimiter = ',', default_value = "1", value_parser = parse_count)]
    pub(crate) context: Vec<usize>,
    /// Tokens of the prompt whose prefill is measured; 0 for none
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub(crate) prompt: usize,
    /// Rounds: in each, memory is read and tokens are decoded with and without pruning
    #[arg(long, value_name = "N", default_value_t = 9, value_parser = parse_count)]
    pub(crate) rounds: usize,
    #[command(flatten)]
    pub(crate) compute: ComputeArgs,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Args)]
pub(crate) struct SynthesizeArgs {
    /// mixtral-8x7b, mixtral-8x22b or the path of a config.json
    #[arg(long, value_name = "SHAPE", value_parser = parse_shape)]
    pub(crate) shape: ShapeArg,
    /// Write the first N layers only [default: all of the shape's]
    #[arg(long, value_name = "N", value_parser = parse_count)]
    pub(crate) layers: Option<usize>,
    /// Seed of the weights
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,
    /// Folder to create
    #[arg(short, long, value_name = "OUT_DIR")]
    pub(crate) output: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a model's dimensions come from.
#[derive(Clone)]
pub(crate) enum ShapeArg {
    /// A known name.
    Known(Shape),
    /// A `config.json`, whatever it is called.
    File(PathBuf),
}

/// What is tuned after rounding.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum RepairArg {
    /// Nothing
    None,
    /// Gates, to choose experts as the 16-bit model does
    Routers,
    /// Norms, to bring each layer's output near the 16-bit one's
    Norms,
    /// Scales of packed matrices, to the same end
    Scales,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum MethodArg {
    /// Trellis codes with error feedback: the least error at 1 to 4 bits; needs calibration text
    Trellis,
    /// Rounding with error feedback; needs calibration text
    Gptq,
    /// Half-quadratic; needs no data
    Hqq,
    /// Round to nearest; needs no data
    Rtn,
}

#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum ModeArg {
    /// One integer program over the matrices of all experts: bits where predictions need them most
    Global,
    /// The published integer program, block by block: bits for the experts that lose most
    Mixed,
    /// The same width for every expert
    Uniform,
    /// A random choice within the size
    Random,
    /// One bit more for the most, one less for the least significant experts
    Manual,
}

fn parse_if<T: std::str::FromStr>(text: &str, sound: impl Fn(&T) -> bool, wanted: &str) -> Result<T, String> {
    text.parse().ok().filter(sound).ok_or_else(|| format!("expected {wanted}"))
}

fn parse_shape(text: &str) -> Result<ShapeArg, String> {
    let path = Path::new(text);
    if path.extension().is_some_and(|extension| extension == "json") || path.is_file() {
        return Ok(ShapeArg::File(path.to_owned()));
    }
    let known = text.parse::<Shape>().map(ShapeArg::Known);
    known.map_err(|error| format!("{error} or the path of a config.json"))
}

fn parse_positive(text: &str) -> Result<f64, String> {
    parse_if(text, |bits: &f64| bits.is_finite() && *bits > 0.0, "a number above 0")
}

fn parse_exponent(text: &str) -> Result<f64, String> {
    parse_if(text, |exponent: &f64| exponent.is_finite() && *exponent >= 0.0, "a number, 0 or more")
}

fn parse_share(text: &str) -> Result<f32, String> {
    parse_if(text, |share| (0.0..=1.0).contains(share), "a number from 0 to 1")
}

fn parse_temperature(text: &str) -> Result<f32, String> {
    parse_if(text, |temperature: &f32| temperature.is_finite() && *temperature >= 0.0, "a number, 0 or more")
}

fn parse_top_p(text: &str) -> Result<f32, String> {
    parse_if(text, |share| *share > 0.0 && *share <= 1.0, "a number above 0 and at most 1")
}

fn parse_penalty(text: &str) -> Result<f32, String> {
    parse_if(text, |penalty: &f32| penalty.is_finite() && *penalty > 0.0, "a number above 0")
}

fn parse_width(text: &str) -> Result<u8, String> {
    parse_if(text, |bits| matches!(bits, 1..=4 | 8), "1, 2, 3, 4 or 8")
}

fn parse_group_size(text: &str) -> Result<usize, String> {
    parse_if(text, |size: &usize| *size > 0 && size.is_multiple_of(32), "a positive multiple of 32")
}

fn parse_count(text: &str) -> Result<usize, String> {
    parse_if(text, |count| *count >= 1, "a whole number of at least 1")
}

fn parse_seq_len(text: &str) -> Result<usize, String> {
    parse_if(text, |tokens| *tokens >= 2, "a whole number of at least 2")
}

/// Bytes with an optional unit: `14GiB`, `500MB`, `1048576`.
fn parse_size(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("B", 1),
    ];
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, *bytes)));
    let (number, bytes) = unit.unwrap_or((text, 1));
    let wrong = || format!("{text:?} is not a size; write for example 14GiB or 500MB");
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    if number > 0.0 && number * (bytes as f64) < u64::MAX as f64 {
        Ok((number * bytes as f64) as u64)
    } else {
        Err(wrong())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(parse_size("14GiB"), Ok(14 << 30));
        assert_eq!(parse_size("1.5 MB"), Ok(1_500_000));
        assert_eq!(parse_size("77"), Ok(77));
        assert!(parse_size("GiB").is_err() && parse_size("-1GiB").is_err() && parse_size("9XB").is_err());
    }
}
