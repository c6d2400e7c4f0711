"""Matrix products: the choice of precision and of kernel.

    "highest", "high" : single precision ("high": TF32 on CUDA, see `skebm.engine.devices`)
    "medium"          : large factors are rounded to bfloat16 if the processor can multiply
                        bfloat16 numbers; binary states are exact in bfloat16. Sums are in single
                        precision. On a CPU the result is rounded to bfloat16 as well.

Double precision is never reduced. On a CPU with AVX-512, oneDNN computes large products: on some of
these processors it takes half the time of `torch.addmm`. `torch.addmm` computes all others.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

#: A product is large if its factors hold this many numbers: oneDNN and rounding then save time.
LARGE, LARGE_ON_CUDA = 2**16, 2**24

try:
    onednn = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None
    onednn_has_bfloat16 = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
except AttributeError:  # a build of torch without oneDNN
    onednn, onednn_has_bfloat16 = None, False


def _cpu_has_bfloat16() -> bool:
    # Older versions of torch do not have `get_capabilities`.
    capabilities: Mapping[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name) for name in ("avx512_bf16", "amx_bf16", "bf16"))


CPU_HAS_BFLOAT16 = _cpu_has_bfloat16()
#: Whether a product of bfloat16 numbers on CUDA can have single precision; torch >= 2.8.
MM_HAS_OUT_DTYPE = "out_dtype" in (torch.mm.__doc__ or "")
ONEDNN_IS_FAST = onednn is not None and "AVX512" in torch.backends.cpu.get_cpu_capability()


def product(
    a: Tensor, b: Tensor, bias: Tensor | None, precision: str, out: Tensor | None = None
) -> Tensor:
    """a b + bias, for a (n, k), b (k, m) and bias (m,): (n, m), in `out` if that is given."""
    n_numbers = a.numel() + b.numel()
    if n_numbers < LARGE or a.dtype != torch.float32 or (a.is_cuda and n_numbers < LARGE_ON_CUDA):
        return torch.mm(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)
    if torch.is_grad_enabled() and (a.requires_grad or b.requires_grad):
        return Product.apply(a, b, bias, precision)
    rounded = precision == "medium" and (CPU_HAS_BFLOAT16 or not a.is_cpu)
    if rounded:
        a, b = a.bfloat16(), b.bfloat16()
    if rounded and a.is_cuda and MM_HAS_OUT_DTYPE:
        result = torch.mm(a, b, out_dtype=torch.float32, out=out)
        return result if bias is None else result.add_(bias)
    usable = onednn_has_bfloat16 and bias is not None if rounded else True
    if usable and ONEDNN_IS_FAST and onednn is not None and a.is_cpu:
        result = onednn(a, b.T, bias, "none", [], "")
    elif rounded:  # torch.mm needs no copy of a transposed factor
        result = torch.mm(a, b)
        result = result if bias is None else result.float().add_(bias)
    else:
        return torch.mm(a, b, out=out) if bias is None else torch.addmm(bias, a, b, out=out)
    return result.float() if out is None else out.copy_(result)


def rounded(factor: Tensor, precision: str) -> Tensor:
    """The factor as `product` rounds it; worthwhile if it is used in many products."""
    is_large = factor.numel() >= LARGE and factor.dtype == torch.float32 and factor.is_cpu
    return factor.bfloat16() if precision == "medium" and CPU_HAS_BFLOAT16 and is_large else factor


class Product(torch.autograd.Function):
    """`product` for autograd; its gradient needs two more products."""

    @staticmethod
    def forward(ctx, a, b, bias, precision):
        ctx.save_for_backward(a, b)
        ctx.precision, ctx.has_bias = precision, bias is not None
        return product(a, b, bias, precision)

    @staticmethod
    def backward(ctx, slope):
        a, b = ctx.saved_tensors
        of_a, of_b, of_bias, _ = ctx.needs_input_grad
        slope = slope.contiguous()
        return (
            product(slope, b.T, None, ctx.precision) if of_a else None,
            product(a.T, slope, None, ctx.precision) if of_b else None,
            slope.sum(0) if of_bias and ctx.has_bias else None,
            None,
        )
