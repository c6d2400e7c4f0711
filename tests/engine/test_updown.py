"""Wake and sleep: each pass is a step along the gradient of the conditional law that it trains."""

from functools import partial

import torch
from torch.nn.functional import conv_transpose2d, softplus
from torch.testing import assert_close

from skebm.engine.convolution import Convolution
from skebm.engine.gradients import Exact
from skebm.engine.models import RBM
from skebm.engine.noise import Noise
from skebm.engine.stack import Layer
from skebm.engine.training import Trainer
from skebm.engine.units import Bernoulli
from skebm.engine.updown import UpDown
from tests.conftest import make_model, some_rows, states

RATE = 0.1


def stack():
    """Two layers, of 4, 3 and 2 units, whose weights down are others than those up."""
    up, down, top = make_model(seed=0), make_model(seed=1), make_model("bernoulli-bernoulli", 3, 2)
    return updown_of(up, down, top, 4), up, down


def updown_of(up, down, top, n_features):
    trainer = Trainer(top, Exact(), batch_size=5)
    trainer.optimizer.set_rate(RATE, 0.0)
    return UpDown(trainer, [Layer(up)], [Layer(down)], Layer(top), n_features)


def steps(model, log_law):
    """The gradient of log_law(model), by autograd, of W, b and c; zero where there is none."""
    parameters = [model.W, model.b, model.c]
    for p in parameters:
        p.requires_grad_(True)
    gradients = torch.autograd.grad(log_law(model), parameters, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, gradients)]


def test_wake_trains_the_weights_down_to_give_what_came_up():
    updown, up, down = stack()
    v, weight = some_rows(up), torch.tensor([0.1, 0.2, 0.0, 0.4, 0.3]).double()
    with torch.inference_mode():
        updown.weight.copy_(weight)
        h = updown._wake(v, Noise(0))

    def log_law(model):
        return (weight * model.visible.log_density(v, model.visible_field(h.clone()))).sum()

    before = make_model(seed=1)
    gradients = steps(before, log_law)
    for now, then, gradient in zip(
        (down.W, down.b, down.c), (before.W, before.b, before.c), gradients
    ):
        assert_close(now, then.detach() + RATE * gradient)
    assert torch.equal(up.theta, make_model(seed=0).theta)
    assert torch.equal(h, up.sample_hidden(v, Noise(0)))


def test_shared_weights_follow_the_mean_over_their_places():
    # A convolution at four places, and the dense model with the same weights at every place.
    models = {}
    for name in ("up", "down"):
        W = torch.randn(1, 1, 2, 2, generator=torch.Generator().manual_seed(3)).double() / 3
        b, c = torch.full((1,), 0.3).double(), torch.full((1,), -0.2).double()
        coupling = partial(Convolution, sides=(3, 3))
        models[name] = RBM(Bernoulli(), Bernoulli(), W, b, c, coupling=coupling)
    up, down = models["up"], models["down"]
    top = make_model("bernoulli-bernoulli", 4, 2)
    updown = updown_of(up, down, top, 9)
    v = (torch.rand(5, 9, generator=torch.Generator().manual_seed(1)) < 0.5).double()
    weight, before = torch.full((5,), 0.2).double(), down.W.clone()
    with torch.inference_mode():
        updown.weight.copy_(weight)
        h = updown._wake(v, Noise(0))
    W = before.clone().requires_grad_()
    field = conv_transpose2d(h.clone().view(5, 1, 2, 2), W) + 0.3
    log_law = (v.view(5, 1, 3, 3) * field - softplus(field)).sum((1, 2, 3)) @ weight
    (gradient,) = torch.autograd.grad(log_law, W)
    assert_close(down.W, before + RATE * gradient / 4)


def test_sleep_trains_the_weights_up_to_recognise_what_came_down():
    updown, up, down = stack()
    model_states = updown.trainer.phases.model
    model_states.v.copy_(states(3)[: len(model_states.v)])
    model_states.weight.copy_(-torch.arange(len(model_states.v)) / 10)
    h, weight = model_states.v.clone(), -model_states.weight.clone()
    with torch.inference_mode():
        updown._sleep(Noise(0))
    v = down.sample_visible(h, Noise(0))

    def log_law(model):
        return (weight * model.hidden.log_density(h, model.hidden_field(v))).sum()

    before = make_model(seed=0)
    gradients = steps(before, log_law)
    for now, then, gradient in zip((up.W, up.b, up.c), (before.W, before.b, before.c), gradients):
        assert_close(now, then.detach() + RATE * gradient)
    assert torch.equal(down.theta, make_model(seed=1).theta)
