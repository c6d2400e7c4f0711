"""The one source of randomness."""

import torch

from skebm.engine.noise import Noise


def test_the_same_numbers_in_both_precisions():
    single, double = torch.empty(1000), torch.empty(1000, dtype=torch.float64)
    for draw in (Noise.uniform, Noise.normal):
        x, y = draw(Noise(3), single), draw(Noise(3), double)
        assert (x.dtype, y.dtype) == (torch.float32, torch.float64)
        assert torch.equal(x.double(), y)
        assert not torch.equal(x, draw(Noise(4), single))


def test_small_probabilities_have_their_share():
    noise, p = Noise(0), torch.full((2**16,), 2.0**-18)
    total = sum(int(noise.bernoulli(p).sum()) for _ in range(256))
    assert 25 < total < 125  # 64 are expected; numbers of 16 bits would give 256 or 0


def test_streams_go_on_and_have_their_laws():
    noise, like = Noise(0), torch.empty(100_000)
    u, again, z = noise.uniform(like), noise.uniform(like), noise.normal(like)
    assert not torch.equal(u, again)
    assert u.min() >= 0
    assert u.max() < 1
    assert abs(u.mean() - 0.5) < 4 * 0.289 / 316
    assert abs(u.var() - 1 / 12) < 0.002
    assert abs(z.mean()) < 4 / 316
    assert abs(z.var() - 1) < 0.02
    assert sorted(noise.permutation(50).tolist()) == list(range(50))


def test_a_probability_beyond_the_interval_is_certain_and_nan_gives_zero():
    p = torch.tensor([-1.0, 0.0, 1.0, 2.0, torch.nan]).repeat(1000, 1)
    for noise in (Noise(0), Noise(0, shared=True)):
        assert torch.equal(noise.bernoulli(p), (p >= 1).float())
    out = torch.empty(3, 4, dtype=torch.float64)
    noise = Noise(0)
    assert (noise.bernoulli(torch.ones(3, 4, dtype=torch.uint8), out=out) == 1).all()
