//! The entries: weights in, packed matrices and reports out.

use mcmoe_tensor_kernels::Coding;

use crate::report::report;
use crate::{
    Fallback, Hessian, Matrix, Method, QuantError, QuantOptions, Quantized, gptq, hqq, rtn, trellis,
};

/// Quantizes `weight` as `options` say.
///
/// GPTQ uses the Hessian of the inputs; without one, or with one that has seen no token, it rounds to
/// nearest and says so in the report. The other methods use a Hessian only to report the output error.
///
/// # Errors
/// [`QuantError::HessianSize`] if the Hessian belongs to other inputs, [`QuantError::HessianNotFinite`]
/// if its sums overflowed, [`QuantError::Kernel`] for a shape or group size that cannot be packed.
pub fn quantize(
    weight: Matrix<'_>,
    hessian: Option<&Hessian>,
    options: &QuantOptions,
) -> Result<Quantized, QuantError> {
    Ok(quantize_all(&[weight], hessian, options)?.remove(0))
}

/// Quantizes matrices that read the same inputs (q, k and v; an expert's `w1` and `w3`) as [`quantize`]
/// would one by one, in less time: GPTQ factors the Hessian once.
///
/// # Errors
/// As [`quantize`].
pub fn quantize_all(
    weights: &[Matrix<'_>],
    hessian: Option<&Hessian>,
    options: &QuantOptions,
) -> Result<Vec<Quantized>, QuantError> {
    for weight in weights {
        options.shape(*weight)?;
        if let Some(hessian) = hessian.filter(|h| h.features() != weight.cols()) {
            return Err(QuantError::HessianSize { expected: weight.cols(), found: hessian.features() });
        }
    }
    let each = |quantize: &dyn Fn(Matrix<'_>) -> Result<_, QuantError>, fallback: Option<Fallback>| {
        weights
            .iter()
            .map(|weight| Ok((quantize(*weight)?, fallback)))
            .collect::<Result<Vec<_>, QuantError>>()
    };
    let packed = match (options.coding, options.method, hessian) {
        (Coding::Trellis(_), Method::Hqq, _) => return Err(QuantError::NoZeroPoints),
        (Coding::Trellis(rate), method, hessian) => {
            trellis::quantize(weights, hessian.filter(|_| method == Method::Gptq), rate, options)?
        }
        (Coding::Grid(bits), Method::Rtn, _) => each(&|weight| rtn::quantize(weight, bits, options), None)?,
        (Coding::Grid(bits), Method::Hqq, _) => each(&|weight| hqq::quantize(weight, bits, options), None)?,
        (Coding::Grid(bits), Method::Gptq, Some(hessian)) => gptq::quantize(weights, hessian, bits, options)?,
        (Coding::Grid(bits), Method::Gptq, None) => {
            each(&|weight| rtn::quantize(weight, bits, options), Some(Fallback::NoTokens))?
        }
    };
    let report = |(&weight, (packed, fallback)): (&Matrix<'_>, (_, _))| {
        let report = report(weight, &packed, hessian, fallback);
        Quantized { packed, report }
    };
    Ok(weights.iter().zip(packed).map(report).collect())
}
