"""Matrix products, beside those in double precision."""

import itertools

import pytest
import torch

from skebm.engine import products
from skebm.engine.products import product

ROUNDING = {"highest": 1e-6, "high": 1e-6, "medium": 2**-8}


@pytest.mark.parametrize("n", [3, 300])
@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("precision", ROUNDING)
def test_products_are_right_to_their_precision(n, inference, with_bias, precision, monkeypatch):
    for native, onednn in itertools.product((False, True), repeat=2):
        monkeypatch.setattr(products, "CPU_HAS_BFLOAT16", native)
        monkeypatch.setattr(products, "ONEDNN_IS_FAST", onednn and products.onednn is not None)
        with torch.inference_mode(inference):
            generator = torch.Generator().manual_seed(0)
            a, W = (torch.rand(n, 200, generator=generator) for _ in range(2))
            bias = torch.rand(n, generator=generator) if with_bias else None
            exact = a.double() @ W.T.double() + (0 if bias is None else bias)
            scale = a.double().abs() @ W.T.double().abs() + 1
            out = torch.full((n, n), torch.nan)
            results = [
                product(a, W.T, bias, precision),
                product(a, W.T, bias, precision, out),
                product(a, W.T.contiguous(), bias, precision),
            ]
            assert results[1] is out
            for result in results:
                assert result.dtype == torch.float32
                assert ((result - exact).abs() <= 2 * ROUNDING[precision] * scale).all()
            rounded = n == 300 and precision == "medium" and native
            assert ((results[0] - exact).abs() > 1e-5 * scale).any() == rounded


@pytest.mark.parametrize("n", [3, 300])
def test_double_precision_is_never_reduced(n):
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(n, n, generator=generator, dtype=torch.float64) for _ in range(2))
    expected = torch.mm(a, b)
    with torch.inference_mode():
        torch.testing.assert_close(product(a, b, None, "medium"), expected, rtol=1e-13, atol=0)
