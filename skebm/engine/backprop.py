"""Networks: a stack of models and a linear map of its features, trained by backpropagation.

    x_k = features_k(c_k + W_k x_{k−1}),   output = V x + d

    W_k, c_k, V, d ← optimiser(∂/∂θ [Σ_i weight_i loss(output_i, target_i) + ½ weight_decay ‖·‖²])

G. E. Hinton, R. R. Salakhutdinov (2006). Reducing the dimensionality of data with neural
networks. Science 313.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from skebm.engine.batches import Batches
from skebm.engine.capture import Captured
from skebm.engine.models import grad
from skebm.engine.noise import Noise
from skebm.engine.parallel import ALONE, Processes
from skebm.engine.stack import Layer


def cross_entropy(output: Tensor, target: Tensor) -> Tensor:
    """−log softmax(output)_y, (n,). The target is one-hot, or all 0 if the class y is unknown."""
    return -(output.log_softmax(-1) * target).sum(-1)


def squared_error(output: Tensor, target: Tensor) -> Tensor:
    """½ ‖output − target‖², (n,), without the targets that are NaN."""
    return torch.where(target.isnan(), 0.0, output - target).square().sum(-1) / 2


class Network:
    """A stack of models, and a linear map of the features of the top model.

    Parameters
    ----------
    layers : sequence of Layer
        The models. Training changes the weights and hidden biases of layers[n_frozen:].
    V : Tensor of shape (n_outputs, n_features)
    d : Tensor of shape (n_outputs,)
    n_frozen : int
    """

    def __init__(self, layers: Sequence[Layer], V: Tensor, d: Tensor, n_frozen: int = 0):
        self.layers, self.V, self.d = layers, V, d
        self.n_frozen = n_frozen
        trained = [(layer.model.W, layer.model.c) for layer in layers[n_frozen:]]
        self.weights, self.biases = map(list, zip(*trained, (V, d)))
        for parameter in (*self.weights, *self.biases):
            parameter.grad = None
            parameter.requires_grad_()

    def parameters(self) -> dict[str, Tensor]:
        named: dict[str, Tensor] = {}
        for k, (W, c) in enumerate(zip(self.weights, self.biases)):
            named |= {f"weights_{k}": W, f"biases_{k}": c}
        return named

    @property
    def row_size(self) -> int:
        """How many numbers all layers together compute for one row."""
        return sum(layer.model.row_size for layer in self.layers)

    @property
    def row_products(self) -> int:
        """How many multiplications the outputs for one row take."""
        return sum(layer.model.row_products for layer in self.layers) + self.V.numel()

    def without_dropout(self) -> "Network":
        return self

    def __call__(
        self, rows: Tensor, noise: Noise | None = None, dropout: Sequence[float] = (0.0, 0.0)
    ) -> Tensor:
        """The outputs for rows of the first layer: (n, n_outputs).

        With noise, dropout sets inputs to zero with probability `dropout[0]` and hidden units with
        probability `dropout[1]`. The values that are kept are divided by the probability to keep.
        """
        of_input, of_hidden = dropout
        x = rows if noise is None else _dropped(rows, of_input, noise)
        for k, layer in enumerate(self.layers):
            with torch.set_grad_enabled(torch.is_grad_enabled() and k >= self.n_frozen):
                x = layer.features(x)
            if noise is not None:
                x = _dropped(x, of_hidden, noise)
        return torch.addmm(self.d, x, self.V.T)


def _dropped(x: Tensor, probability: float, noise: Noise) -> Tensor:
    if probability == 0:
        return x
    kept = noise.bernoulli(torch.full_like(x, 1 - probability))
    return x * kept.div_(1 - probability)


class Backprop:
    """A network, and the optimiser that trains it.

    A batch has the shape `batch_shape`: the number of rows, and that of features and targets. If
    several processes train the network, these are the rows of this process.
    """

    def __init__(
        self,
        model: Network,
        loss: Callable[[Tensor, Tensor], Tensor],
        batch_shape: tuple[int, int],
        *,
        optimizer: str,
        weight_decay: float = 0.0,
        max_norm: float | None = None,
        dropout: Sequence[float] = (0.0, 0.0),
        processes: Processes = ALONE,
    ):
        self.model, self.loss = model, loss
        self.processes = processes
        self.trained = [*model.weights, *model.biases]
        for parameter in self.trained:
            self.processes.broadcast_(parameter.data)
        self.max_norm, self.dropout = max_norm, dropout
        groups = [
            {"params": model.weights, "weight_decay": weight_decay},
            {"params": model.biases, "weight_decay": 0.0},
        ]
        # `epoch` sets the learning rate; the value 0.0 is never used. A CUDA graph can hold an
        # update whose rate is a tensor.
        device = model.V.device
        on_cuda = device.type == "cuda"
        rate = torch.zeros((), device=device) if on_cuda else 0.0
        if optimizer == "adam":
            self.optimizer: torch.optim.Optimizer = torch.optim.Adam(
                groups, lr=rate, fused=True, capturable=on_cuda
            )
        else:
            self.optimizer = torch.optim.SGD(groups, lr=rate, fused=True)
        #: The rows, followed by their targets, and the weights of an update.
        self.rows = model.V.new_empty(batch_shape)
        self.weight = model.V.new_empty(batch_shape[:1])
        self._captured = self._new_captured()

    def _new_captured(self) -> Captured:
        capturable = all(layer.model.capturable for layer in self.model.layers)
        capturable = capturable and self.processes.size == 1
        return Captured(self.model.V.device, capturable)

    def epoch(
        self, batches: Batches, noise: Noise, learning_rate: float, momentum: float = 0.0
    ) -> None:
        """Visit every row once."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(learning_rate)
            else:
                group["lr"] = learning_rate
            if group.get("momentum", momentum) != momentum:
                group["momentum"] = momentum  # a constant of a graph
                self._captured = self._new_captured()
        with self.processes.updates([p.detach() for p in self.trained], len(batches)):
            for rows, weight in batches(noise):
                self.rows.copy_(rows)
                self.weight.copy_(weight)
                self._captured(self.update, noise)

    def update(self, noise: Noise) -> None:
        """One step for `rows` and `weight`."""
        n_targets = len(self.model.d)
        x, target = self.rows[:, :-n_targets], self.rows[:, -n_targets:]
        self.optimizer.zero_grad()
        output = self.model(x, noise, self.dropout)
        (self.loss(output, target) * self.weight).sum().backward()
        self.processes.sum_([grad(parameter) for parameter in self.trained])
        self.optimizer.step()
        if self.max_norm is not None:
            with torch.no_grad():
                for W in self.model.weights[:-1]:
                    W.renorm_(2, 0, self.max_norm)

    def report(self, rows: Tensor | None = None) -> dict[str, Tensor]:
        return {}

    def state(self) -> dict[str, Tensor]:
        """The moments of the optimiser, by name."""
        return {
            f"{name}_{key}": value
            for name, parameter in self.model.parameters().items()
            for key, value in self.optimizer.state[parameter].items()
            if value is not None
        }

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore the moments that `state` returned."""
        for name, parameter in self.model.parameters().items():
            prefix = f"{name}_"
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value
                for key, value in state.items()
                if key.startswith(prefix)
            }
