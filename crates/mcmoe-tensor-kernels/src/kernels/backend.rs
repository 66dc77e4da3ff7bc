//! The one place that picks kernels.

use std::fmt;
use std::sync::OnceLock;

use super::dense::{self, DenseMatrix};
use super::inputs::{self, FloatInputs, Inputs, Int8Inputs};
use super::{attention, float};
use crate::packed::Tile;
use crate::shape::TILE_ROWS;
use crate::trellis::search;
use crate::{KernelError, TrellisMemory, TrellisPath, TrellisSearch, rotation};

/// What a tile adds up for one token: one number a row.
pub(crate) type Lanes = [f32; TILE_ROWS];

/// The kernels of one instruction set. All give the same bits: products of integers are exact, and
/// floating-point operations are the same ones in the same order, none fused.
pub(super) trait Kernels: Send + Sync {
    /// The name by which users force it.
    fn name(&self) -> &'static str;

    /// Adds the product of a tile with each token to its lanes.
    fn int8(&self, tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]);

    // The rest is plain code, compiled for the instructions that every CPU has; backends with more
    // compile it for theirs.

    /// Rounds a group of activations ([`inputs::round_group`]).
    fn round(&self, x: &[f32], values: &mut [i8]) -> (f32, f32) {
        inputs::round_group(x, values)
    }

    /// Adds the product of a tile with each token to its lanes.
    fn float(&self, tile: Tile<'_>, x: &FloatInputs, out: &mut [Lanes]) {
        float::tile(tile, x, out);
    }

    /// Products of the 16 rows from `16 · tile` with each token, `[tokens, cols]`.
    fn dense(&self, matrix: &DenseMatrix, tile: usize, x: &[f32], out: &mut [Lanes]) {
        dense::tile(matrix, tile, x, out, dense::add_bf16);
    }

    /// Rotates a row ([`rotation::rotate`]).
    fn rotate(&self, row: &mut [f32]) {
        rotation::rotate(row);
    }

    /// Searches for a trellis code ([`search::search`]).
    fn search(&self, work: &TrellisSearch<'_>, memory: &mut TrellisMemory, path: &mut TrellisPath) {
        search::search(work, memory, path);
    }

    /// Attention of query heads that share one cache ([`attention::attend`]).
    fn attend(&self, queries: &[f32], keys: &[f32], values: &[f32], width: usize, out: &mut [f32]) {
        attention::attend(queries, keys, values, width, out);
    }
}

/// An instruction set that this CPU has, with its kernels.
#[derive(Clone, Copy)]
pub struct Backend(&'static dyn Kernels);

impl Backend {
    /// The environment variable that forces a backend.
    pub const VARIABLE: &'static str = "MCMOE_CPU";

    /// Every backend that runs on this machine, the plainest first, the best last.
    pub fn available() -> Vec<Self> {
        let mut backends = vec![Self(&super::scalar::Scalar)];
        #[cfg(target_arch = "x86_64")]
        {
            backends.extend(super::avx2::Avx2::new().map(|kernels| Self(kernels)));
            backends.extend(super::avx512::Avx512::new().map(|kernels| Self(kernels)));
            backends.extend(super::avx512vbmi::Avx512Vbmi::new().map(|kernels| Self(kernels)));
        }
        #[cfg(target_arch = "aarch64")]
        backends.extend(super::neon::Neon::new().map(|kernels| Self(kernels)));
        backends
    }

    /// The backend called `name`: `scalar`, `avx2`, `avx512`, `avx512vbmi` or `neon`.
    ///
    /// # Errors
    /// [`KernelError::NoBackend`] if there is none of that name, or not on this CPU.
    pub fn named(name: &str) -> Result<Self, KernelError> {
        let available = Self::available();
        available.iter().find(|backend| backend.name() == name).copied().ok_or_else(|| {
            let names: Vec<&str> = available.iter().map(Self::name).collect();
            KernelError::NoBackend { name: name.to_owned(), available: names.join(", ") }
        })
    }

    /// The backend that the process uses, chosen once: the one that `MCMOE_CPU` names, or else the best
    /// that the CPU has.
    ///
    /// # Errors
    /// [`KernelError::NoBackend`] if `MCMOE_CPU` names none that runs here.
    pub fn current() -> Result<Self, KernelError> {
        static CURRENT: OnceLock<Result<Backend, KernelError>> = OnceLock::new();
        let choose = || match std::env::var_os(Self::VARIABLE).filter(|name| !name.is_empty()) {
            Some(name) => Self::named(&name.to_string_lossy()),
            None => Ok(*Self::available().last().expect("the scalar backend is always there")),
        };
        CURRENT.get_or_init(choose).clone()
    }

    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Rotates a row of inputs or of weights as the columns of trellis matrices are: signs are flipped by a
    /// fixed pattern, then a Walsh–Hadamard transform mixes blocks of as many columns as the largest power
    /// of two that divides their number. Lengths and products stay the same.
    pub fn rotate(self, row: &mut [f32]) {
        self.0.rotate(row);
    }

    /// The trellis code with the least error that the search finds for a group of a row, into `path`.
    ///
    /// # Errors
    /// [`KernelError::Length`] unless there are as many importances as targets and a square of feedback.
    pub fn search_trellis(
        self,
        work: &TrellisSearch<'_>,
        memory: &mut TrellisMemory,
        path: &mut TrellisPath,
    ) -> Result<(), KernelError> {
        let cols = work.targets.len();
        let lengths =
            [("importance", cols, work.importance.len()), ("feedback", cols * cols, work.feedback.len())];
        if let Some(&(what, expected, found)) = lengths.iter().find(|(_, expected, found)| expected != found)
        {
            return Err(KernelError::Length { what, expected, found });
        }
        self.0.search(work, memory, path);
        Ok(())
    }

    pub(super) fn round(self, x: &[f32], values: &mut [i8]) -> (f32, f32) {
        self.0.round(x, values)
    }

    /// The product of a tile with each token.
    pub(super) fn tile(self, tile: Tile<'_>, x: &Inputs, out: &mut [Lanes]) {
        out.fill([0.0; TILE_ROWS]);
        match x {
            Inputs::Int8(x) => self.0.int8(tile, x, out),
            Inputs::F32(x) => self.0.float(tile, x, out),
        }
    }

    pub(super) fn attend(self, queries: &[f32], keys: &[f32], values: &[f32], width: usize, out: &mut [f32]) {
        self.0.attend(queries, keys, values, width, out);
    }

    pub(super) fn dense_tile(self, matrix: &DenseMatrix, tile: usize, x: &[f32], out: &mut [Lanes]) {
        self.0.dense(matrix, tile, x, out);
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({})", self.name())
    }
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
