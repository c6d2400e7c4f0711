"""Matrix products: in which precision, and by which kernel.

    "highest", "high" : single precision ("high": TF32 on CUDA, see `skebm.engine.devices`)
    "medium"          : factors rounded to bfloat16; binary states are exact in it

Double precision is never reduced. On the CPU, large products in single precision go to
oneDNN, which takes half of the time of the library behind `torch.addmm` on some processors.
"""

import torch
from torch import Tensor

#: Numbers in the factors from which on the overhead of oneDNN and of rounding is worth it.
LARGE = 2**16

try:
    onednn = torch.ops.mkldnn._linear_pointwise if torch.backends.mkldnn.is_available() else None
except AttributeError:  # a build of torch without oneDNN
    onednn = None


def product(
    a: Tensor, b: Tensor, bias: Tensor | None, precision: str, out: Tensor | None = None
) -> Tensor:
    """a b + bias, for a (n, k), b (k, m) and bias (m,): (n, m)."""
    if a.numel() + b.numel() >= LARGE and a.dtype == torch.float32:
        if precision == "medium":
            result = torch.mm(a.bfloat16(), b.bfloat16())
            bias = torch.zeros((), device=a.device) if bias is None else bias
            return torch.add(bias, result, out=out)
        if onednn is not None and a.device.type == "cpu":
            result = onednn(a, b.T, bias, "none", [], "")
            return result if out is None else out.copy_(result)
    if bias is None:
        return torch.mm(a, b, out=out)
    return torch.addmm(bias, a, b, out=out)
