//! What the backends of x86-64 have in common.

/// Implements [`super::backend::Kernels`] for a backend that exists only where the CPU has `$features`:
/// plain code is compiled for them; functions `int8` and `add_bf16` of the backend's own file do the rest.
macro_rules! kernels_for {
    ($backend:ident, $name:literal, $features:literal) => {
        const _: () = {
            use $crate::kernels::backend::Kernels;
            use $crate::kernels::dense::{self, DenseMatrix};
            use $crate::kernels::inputs::{self, FloatInputs};
            use $crate::kernels::{attention, float};
            use $crate::trellis::search;
            use $crate::{TrellisMemory, TrellisPath, TrellisSearch, rotation};

            impl Kernels for $backend {
                fn name(&self) -> &'static str {
                    $name
                }

                fn int8(&self, tile: Tile<'_>, x: &Int8Inputs, out: &mut [Lanes]) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { int8(tile, x, out) }
                }

                fn round(&self, x: &[f32], values: &mut [i8]) -> (f32, f32) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { round(x, values) }
                }

                fn float(&self, tile: Tile<'_>, x: &FloatInputs, out: &mut [Lanes]) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { float(tile, x, out) }
                }

                fn dense(&self, matrix: &DenseMatrix, tile: usize, x: &[f32], out: &mut [Lanes]) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { dense(matrix, tile, x, out) }
                }

                fn rotate(&self, row: &mut [f32]) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { rotate(row) }
                }

                fn search(
                    &self,
                    work: &TrellisSearch<'_>,
                    memory: &mut TrellisMemory,
                    path: &mut TrellisPath,
                ) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { search(work, memory, path) }
                }

                fn attend(
                    &self,
                    queries: &[f32],
                    keys: &[f32],
                    values: &[f32],
                    width: usize,
                    out: &mut [f32],
                ) {
                    // SAFETY: a value of this type exists only where the CPU has the features.
                    unsafe { attend(queries, keys, values, width, out) }
                }
            }

            #[target_feature(enable = $features)]
            fn round(x: &[f32], values: &mut [i8]) -> (f32, f32) {
                inputs::round_group(x, values)
            }

            #[target_feature(enable = $features)]
            fn float(tile: Tile<'_>, x: &FloatInputs, out: &mut [Lanes]) {
                float::tile(tile, x, out);
            }

            #[target_feature(enable = $features)]
            fn dense(matrix: &DenseMatrix, tile: usize, x: &[f32], out: &mut [Lanes]) {
                dense::tile(matrix, tile, x, out, |sums: &mut Sums, a: &_, x: &_| add_bf16(sums, a, x));
            }

            #[target_feature(enable = $features)]
            fn rotate(row: &mut [f32]) {
                rotation::rotate(row);
            }

            #[target_feature(enable = $features)]
            fn search(work: &TrellisSearch<'_>, memory: &mut TrellisMemory, path: &mut TrellisPath) {
                search::search(work, memory, path);
            }

            #[target_feature(enable = $features)]
            fn attend(queries: &[f32], keys: &[f32], values: &[f32], width: usize, out: &mut [f32]) {
                attention::attend(queries, keys, values, width, out);
            }
        };
    };
}

pub(super) use kernels_for;
