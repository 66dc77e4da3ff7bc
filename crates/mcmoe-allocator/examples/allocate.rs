//! Bit-widths for a made-up layer of four experts: `cargo run -p mcmoe-allocator --example allocate`.

use mcmoe_allocator::{Allocator, AllocatorError, AllocatorOptions, Budget, Factors};

fn main() -> Result<(), AllocatorError> {
    let frequency = vec![vec![900.0, 2600.0, 300.0, 200.0]];
    let weight = vec![vec![410.0, 1500.0, 100.0, 60.0]];
    let loss = vec![vec![7.9, 3.1, 1.2], vec![9.5, 3.8, 1.5], vec![8.8, 3.3, 1.3], vec![6.1, 2.2, 0.9]];
    let factors = Factors::measured(vec![1, 2, 3], frequency, weight, vec![loss])?;

    let options = AllocatorOptions::default().budget(Budget::ExpertBits(1.75));
    let allocation = Allocator::new(options).allocate(&factors)?;
    println!("{}", allocation.to_json()?);
    Ok(())
}
