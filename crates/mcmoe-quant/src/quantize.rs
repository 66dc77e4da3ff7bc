//! The one entry: weights in, packed matrix and report out.

use mcmoe_tensor_kernels::PackedShape;

use crate::report::report;
use crate::{Fallback, Hessian, Matrix, Method, QuantError, QuantOptions, Quantized, gptq, hqq, rtn};

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
    let shape = PackedShape::new(weight.rows(), weight.cols(), options.bits, options.group_size)?;
    if let Some(hessian) = hessian.filter(|h| h.features() != weight.cols()) {
        return Err(QuantError::HessianSize { expected: weight.cols(), found: hessian.features() });
    }
    let (packed, fallback) = match (options.method, hessian) {
        (Method::Rtn, _) => (rtn::quantize(weight, shape, options)?, None),
        (Method::Hqq, _) => (hqq::quantize(weight, shape)?, None),
        (Method::Gptq, Some(hessian)) => gptq::quantize(weight, hessian, shape, options)?,
        (Method::Gptq, None) => (rtn::quantize(weight, shape, options)?, Some(Fallback::NoTokens)),
    };
    let report = report(weight, &packed, hessian, fallback);
    Ok(Quantized { packed, report })
}
