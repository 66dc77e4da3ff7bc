#!/usr/bin/env python3
"""Writes crates/mcmoe-quant/tests/golden/hqq.safetensors: what the reference HQQ makes of a few matrices.

The file is committed; run this only to make it anew. It takes PyTorch and the package of HQQ's authors
(which would bring transformers along, hence --no-deps):

    python3 -m venv /tmp/hqq && . /tmp/hqq/bin/activate
    pip install torch numpy safetensors tqdm termcolor einops
    DISABLE_CUDA=1 pip install --no-deps hqq==0.2.8.post1
    python3 scripts/hqq-golden.py

Every matrix MATRIX is stored as `MATRIX.weights`, f32 [rows, cols], and what it becomes at a width and group
size as `MATRIX.bBITS.gGROUP.codes`, u8 [rows, cols], `.scales` and `.zeros`, f32 [rows, cols / GROUP], where a
weight is `scale * (code - zero)`. They come from `Quantizer.quantize` with its default settings on a CPU, along
rows (axis 1): min-max range, f32 arithmetic, at most 20 iterations that stop when the error grows, zero points
not rounded. The metadata says which versions made them.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

with contextlib.redirect_stdout(io.StringIO()):
    import hqq
    from hqq.core.quantize import Quantizer

ROOT = Path(__file__).resolve().parent.parent
GOLDEN = ROOT / "crates/mcmoe-quant/tests/golden/hqq.safetensors"
DEMO = ROOT / "assets/demo-mixtral"
DEMO_TENSOR = "model.layers.0.block_sparse_moe.experts.1.w2.weight"
BITS = [1, 2, 3, 4, 8]


def matrices():
    """Name, weights and group sizes of every matrix."""
    random = np.random.default_rng(0)
    gaussian = random.standard_normal
    # As wide as usual layers: residuals are so small that the shrinkage sets all of them to zero.
    yield "gaussian", 0.02 * gaussian((12, 256)), [32, 64, 128, 256]
    # So wide that the shrinkage has work to do.
    yield "wide", gaussian((8, 256)), [32, 128, 256]
    yield "heavy", 0.02 * random.standard_t(3, (12, 384)), [64, 384]
    yield "odd", odd(random), [32, 128]
    # Trained weights in bf16, many of them halfway between two codes.
    yield "demo", demo()[:12], [128]


def odd(random):
    """Rows that are not as usual ones: constant, nearly so, far from zero, of one sign, with an outlier."""
    rows = 0.02 * random.standard_normal((12, 128))
    rows[0] = 0.0
    rows[1] = 0.03
    rows[2] = -5.0
    rows[3] = 0.01 + 5e-5 * random.random(128)
    rows[4] = 0.01 + 3e-4 * random.random(128)
    rows[5] = 1.0 + 0.002 * random.standard_normal(128)
    rows[6] = np.abs(rows[6])
    rows[7] = -np.abs(rows[7])
    rows[8, 32:64] = 0.0123
    rows[9, 64:96] = 0.0
    rows[10, 5] = 3.0
    rows[11, ::2] = 0.0
    return rows


def demo():
    """The trained matrix."""
    for path in sorted(DEMO.glob("*.safetensors")):
        with safe_open(path, "pt") as file:
            if DEMO_TENSOR in file.keys():
                return file.get_tensor(DEMO_TENSOR).float().numpy()
    raise SystemExit(f"error: no {DEMO_TENSOR} in {DEMO}")


def quantize(weights, bits, group):
    """Codes, scales and zero points by the reference."""
    codes, meta = Quantizer.quantize(
        torch.from_numpy(weights), nbits=bits, group_size=group, axis=1, bitpack=False, device="cpu"
    )
    rows, cols = weights.shape
    codes = codes.numpy().reshape(rows, cols)
    assert np.array_equal(codes, np.clip(np.rint(codes), 0, 2**bits - 1))
    scales, zeros = (meta[name].float().numpy().reshape(rows, cols // group) for name in ("scale", "zero"))
    return codes.astype(np.uint8), scales, zeros


def main():
    torch.set_num_threads(1)
    tensors = {}
    for matrix, weights, groups in matrices():
        weights = np.ascontiguousarray(weights, dtype=np.float32)
        tensors[f"{matrix}.weights"] = weights
        for bits in BITS:
            for group in groups:
                parts = zip(("codes", "scales", "zeros"), quantize(weights, bits, group))
                tensors.update((f"{matrix}.b{bits}.g{group}.{part}", values) for part, values in parts)
    GOLDEN.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, GOLDEN, {"made by": f"hqq {hqq.__version__}, torch {torch.__version__}"})
    print(f"{GOLDEN.relative_to(ROOT)}: {len(tensors)} tensors, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
