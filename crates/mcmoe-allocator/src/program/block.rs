//! One block of a program: its costs, its sizes, and the choices that it has to show.

use crate::error::AllocatorError;

/// Required choices are tracked as a bit set in a table of this many bits.
const MOST_REQUIRED: usize = 16;

/// The experts of one MoE block, or any group of items that must show the required choices.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Block {
    /// Cost of each choice, `[expert][choice]`; any finite number.
    pub cost: Vec<Vec<f64>>,
    /// Size of each choice, `[expert][choice]`.
    pub size: Vec<Vec<u64>>,
    /// Choices that at least one expert each has to take, in any order; repeats count once.
    pub required: Vec<usize>,
    /// The layer that errors name.
    pub layer: usize,
}

impl Block {
    /// A block without requirements; `cost` and `size` are `[expert][choice]`.
    #[must_use]
    pub fn new(cost: Vec<Vec<f64>>, size: Vec<Vec<u64>>) -> Self {
        Self { cost, size, required: Vec::new(), layer: 0 }
    }

    /// Sets the choices that at least one expert each has to take; repeats count once.
    #[must_use]
    pub fn required(self, required: Vec<usize>) -> Self {
        Self { required, ..self }
    }

    /// Sets the layer that errors name.
    #[must_use]
    pub fn layer(self, layer: usize) -> Self {
        Self { layer, ..self }
    }

    pub(super) fn validate(&self) -> Result<(), AllocatorError> {
        let choices = self.cost.first().map_or(0, Vec::len);
        if choices == 0 {
            return Err(AllocatorError::Empty { field: "cost" });
        }
        self.check_rows("cost", self.cost.iter().map(Vec::len), choices)?;
        self.check_rows("size", self.size.iter().map(Vec::len), choices)?;
        self.check_costs()?;
        self.check_required(choices)
    }

    fn check_rows(
        &self,
        field: &'static str,
        lengths: impl ExactSizeIterator<Item = usize>,
        choices: usize,
    ) -> Result<(), AllocatorError> {
        let layer = Some(self.layer);
        if lengths.len() != self.cost.len() {
            let (expected, found) = (self.cost.len(), lengths.len());
            return Err(AllocatorError::Shape { field, layer, expert: None, expected, found });
        }
        match lengths.enumerate().find(|&(_, length)| length != choices) {
            None => Ok(()),
            Some((expert, found)) => {
                Err(AllocatorError::Shape { field, layer, expert: Some(expert), expected: choices, found })
            }
        }
    }

    /// Differences are checked too: the program is solved in them.
    fn check_costs(&self) -> Result<(), AllocatorError> {
        for (expert, row) in self.cost.iter().enumerate() {
            let cheapest = cheapest(row);
            let infinite = row.iter().position(|cost| !cost.is_finite());
            let too_far = || row.iter().position(|cost| !(cost - cheapest).is_finite());
            if let Some(choice) = infinite.or_else(too_far) {
                let (layer, cost) = (self.layer, row[choice]);
                return Err(AllocatorError::NonFiniteCost { layer, expert, choice, cost });
            }
        }
        Ok(())
    }

    fn check_required(&self, choices: usize) -> Result<(), AllocatorError> {
        let layer = self.layer;
        if let Some(&choice) = self.required.iter().find(|&&choice| choice >= choices) {
            return Err(AllocatorError::RequiredChoice { layer, choice, choices });
        }
        let (required, limit) = (self.distinct_required().len(), self.cost.len().min(MOST_REQUIRED));
        if required > limit {
            return Err(AllocatorError::RequiredCount { layer, required, limit });
        }
        Ok(())
    }

    /// Size when every expert takes its largest choice.
    pub(super) fn largest_size(&self) -> Option<u64> {
        let largest = self.size.iter().map(|row| row.iter().copied().max().unwrap_or(0));
        largest.into_iter().try_fold(0u64, u64::checked_add)
    }

    /// Smallest size that shows every required choice, with only the choices whose cost above the
    /// expert's cheapest is `allowed`.
    ///
    /// Goes through the experts keeping, for every set of required choices seen so far, the smallest
    /// size that shows it.
    pub(super) fn smallest_size(&self, allowed: impl Fn(f64) -> bool) -> Option<u64> {
        let required = self.distinct_required();
        let mut smallest = vec![None; 1 << required.len()];
        smallest[0] = Some(0);
        for (costs, sizes) in self.cost.iter().zip(&self.size) {
            let cheapest = cheapest(costs);
            let open = (0..costs.len()).filter(|&choice| allowed(costs[choice] - cheapest));
            let options: Vec<_> = open.map(|choice| (flag(&required, choice), sizes[choice])).collect();
            smallest = extend(&smallest, &options);
        }
        smallest.last().copied().flatten()
    }

    fn distinct_required(&self) -> Vec<usize> {
        let mut required = self.required.clone();
        required.sort_unstable();
        required.dedup();
        required
    }

    /// Cost and size of a row of choices.
    pub(super) fn total(&self, row: &[usize]) -> (f64, u64) {
        let picks = self.cost.iter().zip(&self.size).zip(row);
        picks.fold((0.0, 0), |sum, ((cost, size), &choice)| (sum.0 + cost[choice], sum.1 + size[choice]))
    }

    /// Whether a row of choices shows every required one.
    pub(super) fn covers(&self, row: &[usize]) -> bool {
        self.required.iter().all(|choice| row.contains(choice))
    }
}

/// The least cost of an expert; infinite if none is a number.
pub(super) fn cheapest(costs: &[f64]) -> f64 {
    costs.iter().copied().fold(f64::INFINITY, f64::min)
}

/// The bit of `choice` in a set of required choices, 0 if it is not required.
fn flag(required: &[usize], choice: usize) -> usize {
    required.iter().position(|&r| r == choice).map_or(0, |position| 1 << position)
}

/// The table of smallest sizes with one more expert, who has these (flag, size) options.
fn extend(smallest: &[Option<u64>], options: &[(usize, u64)]) -> Vec<Option<u64>> {
    let mut extended: Vec<Option<u64>> = vec![None; smallest.len()];
    for (shown, size) in smallest.iter().enumerate().filter_map(|(set, size)| Some((set, (*size)?))) {
        for &(flag, more) in options {
            let (slot, total) = (&mut extended[shown | flag], size + more);
            *slot = Some(slot.map_or(total, |known| known.min(total)));
        }
    }
    extended
}
