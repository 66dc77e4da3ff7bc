//! Every way to be wrong, and what it is called.

mod common;

use mcmoe_allocator::{
    Allocation, Allocator, AllocatorError, AllocatorOptions, Block, Budget, Candidate, Exponents, Factors,
    Highs, Mode, Program, ScaledProgram, SizeUnit, Solver, SolverFailure, Storage, costs,
};

/// Asserts that an expression is an error of a pattern.
macro_rules! assert_error {
    ($result:expr, $($pattern:tt)+) => {
        let error = $result.expect_err("an error");
        assert!(matches!(error, $($pattern)+), "{error:?}");
    };
}

fn factors(change: impl FnOnce(&mut Factors)) -> Result<(), AllocatorError> {
    let mut factors = common::made_up();
    change(&mut factors);
    factors.validate()
}

fn allocate(options: AllocatorOptions) -> Result<Allocation, AllocatorError> {
    Allocator::new(options).allocate(&common::made_up())
}

fn budget(budget: Budget) -> AllocatorOptions {
    AllocatorOptions::default().budget(budget)
}

#[test]
fn made_up_factors_are_valid() {
    factors(|_| {}).unwrap();
}

#[test]
fn factors_of_nothing_or_too_much() {
    assert_error!(factors(|f| f.num_layers = 0), AllocatorError::Empty { field: "num_layers" });
    assert_error!(factors(|f| f.num_experts = 0), AllocatorError::Empty { field: "num_experts" });
    assert_error!(factors(|f| f.bits.clear()), AllocatorError::Empty { field: "bits" });
    assert_error!(
        factors(|f| f.num_experts = 4097),
        AllocatorError::TooMany { field: "num_experts", found: 4097, most: 4096 }
    );
    let alike = Allocator::default().check(4096, 4096, &[1, 2, 3]);
    assert_error!(alike, AllocatorError::TooMany { field: "num_layers * num_experts", .. });
    let measured = Factors::measured(vec![1], vec![], vec![], vec![]);
    assert_error!(measured, AllocatorError::Empty { field: "num_layers" });
}

#[test]
fn factors_of_the_wrong_shape() {
    use AllocatorError::Shape;
    let change = factors(|f| f.frequency.truncate(2));
    assert_error!(change, Shape { field: "frequency", layer: None, expert: None, expected: 3, found: 2 });
    let change = factors(|f| f.frequency[1].push(1.0));
    assert_error!(change, Shape { field: "frequency", layer: Some(1), expert: None, expected: 6, found: 7 });
    let change = factors(|f| f.weight.clear());
    assert_error!(change, Shape { field: "weight", layer: None, expert: None, expected: 3, found: 0 });
    let change = factors(|f| f.weight[2].truncate(1));
    assert_error!(change, Shape { field: "weight", layer: Some(2), expert: None, expected: 6, found: 1 });
    let change = factors(|f| f.quant_loss.truncate(1));
    assert_error!(change, Shape { field: "quant_loss", layer: None, expert: None, expected: 3, found: 1 });
    let change = factors(|f| f.quant_loss[0].truncate(5));
    assert_error!(change, Shape { field: "quant_loss", layer: Some(0), expert: None, expected: 6, found: 5 });
    let change = factors(|f| f.quant_loss[0][4].truncate(2));
    assert_error!(
        change,
        Shape { field: "quant_loss", layer: Some(0), expert: Some(4), expected: 3, found: 2 }
    );
    let change = factors(|f| f.ratio_median = Some(vec![0.5]));
    assert_error!(change, Shape { field: "ratio_median", layer: None, expert: None, expected: 3, found: 1 });
}

#[test]
fn factors_with_bad_numbers() {
    use AllocatorError::Value;
    for bad in [-1.0, f64::NAN, f64::INFINITY] {
        let change = factors(|f| f.frequency[1][2] = bad);
        assert_error!(change, Value { field: "frequency", layer: Some(1), expert: Some(2), .. });
        let change = factors(|f| f.weight[0][5] = bad);
        assert_error!(change, Value { field: "weight", layer: Some(0), expert: Some(5), .. });
        let change = factors(|f| f.quant_loss[2][0][1] = bad);
        assert_error!(change, Value { field: "quant_loss", layer: Some(2), expert: Some(0), .. });
        let change = factors(|f| f.ratio_median = Some(vec![0.5, bad, 0.5]));
        assert_error!(change, Value { field: "ratio_median", layer: Some(1), expert: None, .. });
    }
}

#[test]
fn candidate_widths_increase_within_range() {
    for bits in [vec![2, 1, 3], vec![1, 2, 2], vec![0, 1, 2], vec![1, 2, 17]] {
        assert_error!(factors(|f| f.bits = bits), AllocatorError::Widths { .. });
    }
}

#[test]
fn text_that_is_not_the_schema() {
    assert_error!(Factors::from_json("[]"), AllocatorError::Json { what: "factors", path: None, .. });
    assert_error!(Allocation::from_json("{}"), AllocatorError::Json { what: "an allocation", .. });
    assert_error!(Allocation::from_json(r#"{"bits": [[300]]}"#), AllocatorError::Json { .. });
    assert_error!(Allocation::from_json(r#"{"bits": [[-1]]}"#), AllocatorError::Json { .. });
}

#[test]
fn allocations_that_are_no_table_of_widths() {
    for empty in [r#"{"bits": []}"#, r#"{"bits": [[]]}"#] {
        assert_error!(Allocation::from_json(empty), AllocatorError::Empty { field: "bits" });
    }
    let ragged = Allocation::from_json(r#"{"bits": [[1, 2], [1]]}"#);
    assert_error!(ragged, AllocatorError::Shape { layer: Some(1), expected: 2, found: 1, .. });
    for width in ["0", "17"] {
        let allocation = Allocation::from_json(&format!(r#"{{"bits": [[1], [{width}]]}}"#));
        assert_error!(allocation, AllocatorError::Width { layer: 1, expert: 0, .. });
    }
    assert_error!(Allocation::new(vec![vec![0]]).to_json(), AllocatorError::Width { width: 0, .. });
}

#[test]
fn allocations_for_another_model() {
    let allocation = Allocation::new(vec![vec![1, 2, 3], vec![3, 2, 1]]);
    allocation.validate(2, 3, &[1, 2, 3]).unwrap();
    let layers = allocation.validate(4, 3, &[1, 2, 3]);
    assert_error!(layers, AllocatorError::Shape { layer: None, expected: 4, found: 2, .. });
    let experts = allocation.validate(2, 8, &[1, 2, 3]);
    assert_error!(experts, AllocatorError::Shape { layer: Some(0), expected: 8, found: 3, .. });
    let widths = allocation.validate(2, 3, &[1, 2]);
    assert_error!(widths, AllocatorError::Width { layer: 0, expert: 2, width: 3, .. });
}

#[test]
fn exponents_are_finite_and_not_negative() {
    let good = Exponents::default();
    for bad in [-0.5, f64::NAN, f64::INFINITY] {
        let with = |exponents| allocate(AllocatorOptions::default().exponents(exponents));
        assert_error!(with(good.alpha(bad)), AllocatorError::Exponent { name: "alpha", .. });
        assert_error!(with(good.beta(bad)), AllocatorError::Exponent { name: "beta", .. });
        assert_error!(with(good.gamma(bad)), AllocatorError::Exponent { name: "gamma", .. });
    }
    let manual = AllocatorOptions::default().mode(Mode::Manual { high: 1, low: 1 });
    assert_error!(allocate(manual.exponents(good.alpha(-1.0))), AllocatorError::Exponent { .. });
}

#[test]
fn budgets_are_positive_and_finite() {
    for bad in [0.0, -2.0, f64::NAN, f64::INFINITY] {
        assert_error!(allocate(budget(Budget::ExpertBits(bad))), AllocatorError::Budget { .. });
        let stored = budget(Budget::StoredBits { bits_per_weight: bad });
        let storage = Storage::grouped([1, 2, 3], 128, 32);
        assert_error!(allocate(stored.storage(storage)), AllocatorError::Budget { .. });
    }
    assert_error!(allocate(budget(Budget::TotalBits(0))), AllocatorError::Budget { .. });
}

#[test]
fn budgets_that_count_storage_need_to_know_it() {
    use AllocatorError::{MissingStorage, Storage as Unusable};
    let stored = || budget(Budget::StoredBits { bits_per_weight: 2.25 });
    let bytes = |storage| allocate(budget(Budget::Bytes(1000)).storage(storage));
    assert_error!(allocate(stored()), MissingStorage { needed: "storage" });
    assert_error!(allocate(budget(Budget::Bytes(1000))), MissingStorage { needed: "storage" });
    let grouped = || Storage::grouped([1, 2, 3], 128, 32);
    assert_error!(bytes(grouped()), MissingStorage { needed: "weights_per_expert" });
    assert_error!(bytes(grouped().weights_per_expert(0)), MissingStorage { needed: "weights_per_expert" });
    let part = Storage::table([(1, 1.25), (3, 3.25)]);
    assert_error!(allocate(stored().storage(part)), Unusable { width: 2, stored: None });
    let ungrouped = Storage::grouped([1, 2, 3], 0, 32);
    assert_error!(allocate(stored().storage(ungrouped)), Unusable { width: 1, stored: Some(_) });
    for bad in [0.0, -1.0, 65.0, f64::NAN] {
        let table = Storage::table([(1, 1.25), (2, bad), (3, 3.25)]);
        assert_error!(allocate(stored().storage(table)), Unusable { width: 2, stored: Some(_) });
    }
}

#[test]
fn byte_counts_that_overflow() {
    let storage = |weights| Storage::grouped([1, 2, 3], 128, 32).weights_per_expert(weights);
    let options = budget(Budget::Bytes(u64::MAX)).storage(storage(1000));
    assert_error!(allocate(options), AllocatorError::SizeOverflow);
    let options = budget(Budget::Bytes(1000)).storage(storage(u64::MAX));
    assert_error!(allocate(options), AllocatorError::SizeOverflow);
}

#[test]
fn an_infeasible_budget_names_layer_budget_and_smallest() {
    // Six experts: 3 + 2 + four times 1 are 9 bits.
    let error = allocate(budget(Budget::TotalBits(8))).unwrap_err();
    let AllocatorError::Infeasible { layer, budget: room, smallest, unit } = error else {
        panic!("{error}");
    };
    assert_eq!((layer, room, smallest, unit), (Some(0), 8.0, 9.0, SizeUnit::CodeBits));
    assert_eq!(
        error.to_string(),
        "no allocation fits layer 0: the budget is 8 code bits, the smallest possible is 9"
    );
    allocate(budget(Budget::TotalBits(9))).unwrap();
}

#[test]
fn an_infeasible_budget_is_told_in_its_own_unit() {
    let storage = || Storage::grouped([1, 2, 3], 128, 32).weights_per_expert(1000);
    let told = |options: AllocatorOptions| match allocate(options.storage(storage())).unwrap_err() {
        AllocatorError::Infeasible { layer, budget, smallest, unit } => (layer, budget, smallest, unit),
        other => panic!("{other}"),
    };
    let stored = budget(Budget::StoredBits { bits_per_weight: 1.5 });
    assert_eq!(told(stored), (Some(0), 1.5, 1.75, SizeUnit::StoredBitsPerWeight));
    // 9 code bits and six times a quarter bit, for 1000 weights.
    let bytes = budget(Budget::Bytes(3000));
    assert_eq!(told(bytes.clone()), (Some(0), 1000.0, 1312.5, SizeUnit::Bytes));
    let whole = bytes.scope(mcmoe_allocator::Scope::Model);
    assert_eq!(told(whole), (None, 3000.0, 3937.5, SizeUnit::Bytes));
    for mode in [Mode::Uniform, Mode::Random, Mode::Manual { high: 1, low: 1 }] {
        let tiny = budget(Budget::StoredBits { bits_per_weight: 1.0 }).mode(mode);
        assert_eq!(told(tiny), (Some(0), 1.0, 1.25, SizeUnit::StoredBitsPerWeight));
    }
}

#[test]
fn costs_that_overflow_name_the_width() {
    let mut factors = common::made_up();
    factors.quant_loss[1][3][2] = 1e300;
    let error = Allocator::new(AllocatorOptions::default().exponents(Exponents::paper())).allocate(&factors);
    assert_error!(error, AllocatorError::NonFiniteCost { layer: 1, expert: 3, choice: 2, .. });
}

#[test]
fn a_mode_says_which_measurement_it_misses() {
    let unmeasured = Factors::unmeasured(2, 4, vec![1, 2, 3]);
    let with =
        |factors: &Factors, mode| Allocator::new(AllocatorOptions::default().mode(mode)).allocate(factors);
    assert_error!(with(&unmeasured, Mode::Mixed), AllocatorError::Shape { field: "frequency", .. });
    let manual = Mode::Manual { high: 1, low: 1 };
    assert_error!(with(&unmeasured, manual), AllocatorError::Shape { field: "frequency", .. });
    let mut without_losses = common::made_up();
    without_losses.quant_loss.clear();
    assert_error!(with(&without_losses, Mode::Mixed), AllocatorError::Shape { field: "quant_loss", .. });
    with(&without_losses, manual).unwrap();
}

#[test]
fn uniform_needs_an_average_that_is_a_width() {
    let uniform = |budget| allocate(AllocatorOptions::default().mode(Mode::Uniform).budget(budget));
    assert_error!(uniform(Budget::ExpertBits(2.5)), AllocatorError::NotUniform { .. });
    assert_error!(uniform(Budget::ExpertBits(4.0)), AllocatorError::NotUniform { .. });
    assert_error!(uniform(Budget::TotalBits(13)), AllocatorError::NotUniform { .. });
}

#[test]
fn manual_cannot_move_an_expert_twice() {
    for (high, low) in [(4, 3), (7, 0), (usize::MAX, 1)] {
        let options = AllocatorOptions::default().mode(Mode::Manual { high, low });
        assert_error!(allocate(options), AllocatorError::ManualCount { experts: 6, .. });
    }
}

/// Costs and sizes of a block.
type Parts = (Vec<Vec<f64>>, Vec<Vec<u64>>);

#[test]
fn malformed_programs() {
    use AllocatorError::{Empty, NonFiniteCost, RequiredChoice, RequiredCount, Shape, SizeOverflow};
    let solve = |block: Block| Program::new(vec![block.layer(7)], 100).solve(&Highs);
    let square = || (vec![vec![1.0, 2.0]; 2], vec![vec![1, 2]; 2]);
    let block = |change: fn(&mut Parts)| {
        let mut parts = square();
        change(&mut parts);
        solve(Block::new(parts.0, parts.1))
    };
    assert_error!(Program::new(vec![], 1).solve(&Highs), Empty { field: "blocks" });
    assert_error!(block(|p| p.0.clear()), Empty { field: "cost" });
    assert_error!(block(|p| p.0[0].clear()), Empty { field: "cost" });
    assert_error!(
        block(|p| p.0[1].truncate(1)),
        Shape { field: "cost", layer: Some(7), expert: Some(1), .. }
    );
    assert_error!(block(|p| p.1.truncate(1)), Shape { field: "size", layer: Some(7), expert: None, .. });
    assert_error!(block(|p| p.1[0].push(1)), Shape { field: "size", layer: Some(7), expert: Some(0), .. });
    assert_error!(block(|p| p.0[1][0] = f64::NAN), NonFiniteCost { layer: 7, expert: 1, choice: 0, .. });
    assert_error!(block(|p| p.0[0][1] = f64::INFINITY), NonFiniteCost { expert: 0, choice: 1, .. });
    assert_error!(block(|p| p.0[0][1] = f64::NEG_INFINITY), NonFiniteCost { expert: 0, choice: 1, .. });
    assert_error!(block(|p| p.0[0] = vec![f64::MIN, f64::MAX]), NonFiniteCost { expert: 0, choice: 1, .. });
    assert_error!(block(|p| p.1[0][1] = u64::MAX), SizeOverflow);
    let (cost, size) = square();
    let required = |choices: Vec<usize>| solve(Block::new(cost.clone(), size.clone()).required(choices));
    assert_error!(required(vec![0, 2]), RequiredChoice { layer: 7, choice: 2, choices: 2 });
    let single = Block::new(vec![vec![1.0, 2.0]], vec![vec![1, 2]]).required(vec![0, 1]);
    assert_error!(solve(single), RequiredCount { layer: 7, required: 2, limit: 1 });
}

/// A solver that answers something fixed.
struct Fixed(Result<Vec<Vec<usize>>, SolverFailure>);

impl Solver for Fixed {
    fn solve(&self, _: &ScaledProgram) -> Result<Vec<Vec<usize>>, SolverFailure> {
        self.0.clone()
    }
}

#[test]
fn a_solver_is_not_trusted() {
    let block = Block::new(vec![vec![3.0, 2.0, 1.0]; 2], vec![vec![1, 2, 3]; 2]).required(vec![0]);
    let program = Program::new(vec![block.layer(4)], 4);
    let failure = |answer| match program.solve(&Fixed(answer)).unwrap_err() {
        AllocatorError::Solver { layer: Some(4), source } => source,
        other => panic!("{other}"),
    };
    assert_eq!(failure(Err(SolverFailure::Stopped)), SolverFailure::Stopped);
    for malformed in [vec![], vec![vec![0]], vec![vec![0, 0, 0]], vec![vec![0, 9]]] {
        assert_eq!(failure(Ok(malformed)), SolverFailure::Malformed);
    }
    assert_eq!(failure(Ok(vec![vec![2, 2]])), SolverFailure::OverBudget { size: 6, budget: 4 });
    assert_eq!(failure(Ok(vec![vec![1, 1]])), SolverFailure::Requirement);
    assert_eq!(program.solve(&Fixed(Ok(vec![vec![0, 2]]))).unwrap().objective, 4.0);
}

#[test]
fn a_solver_sees_sizes_without_their_common_part() {
    struct Look;
    impl Solver for Look {
        fn solve(&self, program: &ScaledProgram) -> Result<Vec<Vec<usize>>, SolverFailure> {
            assert_eq!(program.capacity, 2);
            let sizes = |row: &Vec<Candidate>| row.iter().map(|c| c.size).collect::<Vec<_>>();
            let experts = &program.blocks[0].experts;
            assert!(experts.iter().all(|row| sizes(row) == [0, 1, 2]), "{experts:?}");
            Ok(vec![vec![1, 1]])
        }
    }
    let block = Block::new(vec![vec![4.0, 3.0, 2.0]; 2], vec![vec![1250, 2250, 3250]; 2]);
    assert_eq!(Program::new(vec![block], 5000).solve(&Look).unwrap().size, 4500);
}

#[test]
fn costs_stop_at_the_shorter_argument() {
    assert_eq!(costs(&[1.0], &[vec![2.0], vec![3.0]], Exponents::default()), [[2.0]]);
}
