//! `mcmoe inspect`.

use mcmoe_mixtral::inspect::{Inspection, inspect};

use super::Failure;
use crate::args::InspectArgs;
use crate::output;

pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let result = inspect(&args.dir)?;
    if args.json {
        return output::json(&result);
    }
    table(&result)
}

/// At most two digits behind the point, none where there is nothing to say.
fn bits(bits: f64) -> String {
    if bits.fract() == 0.0 { bits.to_string() } else { format!("{bits:.2}") }
}

fn table(result: &Inspection) -> Result<(), Failure> {
    output::line(&format!("format        {}", result.format))?;
    output::line(&format!("size          {} in all files", output::size(result.total_bytes)))?;
    output::line(&format!("weights       {} at {:.3} stored bits", result.weights, result.model_bpw))?;
    output::line(&format!(
        "experts       {:.3} bits a code, {:.3} stored",
        result.expert_bits, result.expert_bpw
    ))?;
    output::line(&format!("attention     {:.3} stored bits", result.attention_bpw))?;
    output::line(&format!("pruning       {}", if result.pruning { "thresholds present" } else { "none" }))?;
    output::line("bits of each expert, a line a layer:")?;
    let experts = result.experts.len() / result.layers;
    for (layer, row) in result.experts.chunks(experts).enumerate() {
        let bits: Vec<String> = row.iter().map(|expert| bits(expert.bits)).collect();
        output::line(&format!("  {layer:3}  {}", bits.join(" ")))?;
    }
    Ok(())
}
