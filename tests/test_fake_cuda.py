"""The emulated CUDA device sees the mistakes that a GPU would see."""

import numpy as np
import pytest
import torch

from tests.fake_cuda import Recorder, fake_cuda

CUDA = "cuda:0"


@pytest.fixture
def mode():
    with fake_cuda() as mode:
        yield mode


def capture(update, *generators):
    """The graph of one call."""
    graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream(CUDA)
    for generator in generators:
        graph.register_generator_state(generator)
    stream.wait_stream(torch.cuda.current_stream(CUDA))
    with torch.cuda.device(CUDA), torch.cuda.stream(stream):
        graph.capture_begin(capture_error_mode="thread_local")
        try:
            update()
        finally:
            graph.capture_end()
    return graph


def why(mode):
    return [reason for reason, _ in mode.waits.elements()]


def test_tensors_name_their_device(mode):
    x, y = torch.zeros(3, device=CUDA), torch.zeros(3)
    views = x[1:], x.view(3, 1), x[None].T, x + 1, x.new_ones(2), torch.ones_like(x), x.double()
    for t in (x, *views, torch.where(x > 0, 0.0, x), torch.randperm(4, device=CUDA)):
        assert t.device == torch.device(CUDA)
        assert (t.is_cuda, t.is_cpu) == (True, False)
    for t in (y, y[1:], x.cpu(), x.to("cpu"), x.to(y), torch.zeros_like(x, device="cpu")):
        assert t.device == torch.device("cpu")
        assert not t.is_cuda
    assert x.to(CUDA) is x
    assert y.to(x.device).is_cuda
    assert y.cuda().is_cuda
    assert y.to(x.double()).dtype == torch.float64
    assert torch.cuda.is_available()


def test_the_device_is_there_in_the_block_alone():
    before = torch.cuda.is_available(), torch.Generator, torch.cuda.CUDAGraph
    with fake_cuda():
        x = torch.zeros(3, device=CUDA)
    assert (torch.cuda.is_available(), torch.Generator, torch.cuda.CUDAGraph) == before
    assert x.device.type == "cpu"


def test_two_devices_in_one_operation_raise(mode):
    x, y = torch.zeros(3, device=CUDA), torch.zeros(3)
    for call in (torch.add, torch.dot, torch.Tensor.add_, torch.stack):
        with pytest.raises(RuntimeError, match="on the same device"):
            call([x, y]) if call is torch.stack else call(x, y)
    with pytest.raises(RuntimeError, match="on the same device"), torch.inference_mode():
        torch.matmul(y, x)
    assert (x + torch.tensor(2.0)).is_cuda  # a number of the host may take part
    assert mode.waits.total() == 0


WAITING = {
    "item": (lambda x: x.sum().item(), "item"),
    "bool": (lambda x: bool(x[0] > 0), "item"),
    "float": (lambda x: float(x[0]), "item"),
    "allclose": (lambda x: torch.allclose(x, x), "allclose"),
    "cpu": (lambda x: x.cpu(), "D2H"),
    "tolist": (lambda x: x.tolist(), "D2H"),
    "copy to the host": (lambda x: torch.zeros(3).copy_(x), "D2H"),
    "tensor": (lambda x: torch.tensor([1.0, 2.0], device=CUDA), "H2D"),
    "as_tensor": (lambda x: torch.as_tensor(np.ones(2), device=x.device), "H2D"),
    "to": (lambda x: torch.zeros(3).to(x), "H2D"),
    "copy to the device": (lambda x: x.copy_(torch.zeros(3)), "H2D"),
    "not pinned": (lambda x: torch.zeros(3).to(CUDA, non_blocking=True), "H2D"),
    "index of the host": (lambda x: x[[0, 2]], "H2D of an index"),
    "mask": (lambda x: x[x > 0], "mask as index"),
    "nonzero": (lambda x: x.nonzero(), "nonzero"),
    "synchronize": (lambda x: torch.cuda.synchronize(), "synchronize"),
}


@pytest.mark.parametrize("inference", [False, True])
@pytest.mark.parametrize("name", WAITING)
def test_a_wait_is_counted_and_is_an_error_in_a_capture(mode, name, inference):
    call, reason = WAITING[name]
    with torch.inference_mode(inference):
        x = torch.ones(3, device=CUDA)
        call(x)
        assert why(mode) == [reason]
        before = x.clone()
        with pytest.raises(RuntimeError):
            capture(lambda: call(x.mul_(2)))
        assert (mode.captures, why(mode)) == (0, [reason])
        assert torch.equal(x, before)


def test_what_does_not_wait(mode):
    x = torch.rand(3, 4, device=CUDA)
    pinned = torch.empty(3, 4, pin_memory=True)
    assert pinned.is_pinned()
    pinned.numpy()[:] = 1
    x.copy_(pinned, non_blocking=True)
    pinned.to(CUDA, non_blocking=True)
    x[0], x[:, 1] = 5.0, x[:, 2]
    torch.index_select(x, 0, torch.randperm(3, device=CUDA), out=torch.empty_like(x))
    torch.cuda.Event().synchronize()  # one that was never recorded
    assert mode.waits.total() == 0
    assert mode.kernels > 0
    with pytest.raises(TypeError, match="numpy"):
        x.numpy()
    with pytest.raises(TypeError, match="numpy"):
        np.asarray(x)


def test_a_generator_serves_its_own_device(mode):
    here, there = torch.Generator().manual_seed(0), torch.Generator(CUDA).manual_seed(0)
    x = torch.empty(3, device=CUDA)
    with pytest.raises(RuntimeError, match="Expected a cuda generator"):
        x.uniform_(generator=here)
    with pytest.raises(RuntimeError, match="Expected a cpu generator"):
        torch.rand(3, generator=there)
    with pytest.raises(RuntimeError, match="not registered"):
        capture(lambda: x.uniform_(generator=there))
    with pytest.raises(RuntimeError, match="device type for generator"):
        torch.cuda.CUDAGraph().register_generator_state(here)
    assert x.uniform_(generator=there).cpu().tolist() == torch.rand(3, generator=here).tolist()


def test_a_capture_changes_nothing_and_needs_its_own_stream(mode):
    x, noise = torch.ones(3, device=CUDA), torch.Generator(CUDA)
    state, made = noise.get_state(), []
    graph = capture(lambda: made.append(x.add_(1).uniform_(generator=noise) * 2), noise)
    assert x.tolist() == [1, 1, 1]
    assert torch.equal(noise.get_state(), state)
    assert made[0].isnan().all()  # no numbers before the first replay
    graph.replay()
    assert torch.equal(made[0], 2 * x)
    assert (mode.captures, mode.replays) == (1, 1)
    with pytest.raises(RuntimeError, match="non-default stream"):
        torch.cuda.CUDAGraph().capture_begin()
    with pytest.raises(RuntimeError, match="without a preceding"):
        torch.cuda.CUDAGraph().replay()


@pytest.mark.parametrize("inference", [False, True])
def test_replays_equal_calls(mode, inference):
    def run(captured):
        noise = torch.Generator(CUDA).manual_seed(0)
        x, rate = torch.zeros(4, 3, device=CUDA), torch.zeros((), device=CUDA)

        def update():
            step = torch.empty_like(x).normal_(generator=noise)
            x.mul_(0.9).addcmul_(step.relu()[:, :1], rate)
            x[1:].copy_(x[:-1].clone())
            x.T[0].lerp_(x.sum(1), 0.5)

        for k in range(6):
            rate.fill_(k)
            if k == 2 and captured:
                update = capture(update, noise).replay
            update()
        return x.cpu().numpy()

    with torch.inference_mode(inference):
        np.testing.assert_array_equal(run(True), run(False))
    assert (mode.captures, mode.replays) == (1, 4)


def test_a_graph_reads_the_memory_of_its_capture(mode):
    x, y = torch.ones(3, device=CUDA), torch.zeros(3, device=CUDA)
    inputs = {"x": x, "factor": torch.tensor(2.0)}
    graph = capture(lambda: y.copy_(inputs["x"] * inputs["factor"]))
    inputs["factor"].fill_(3)  # a number of the host is a constant of the graph
    graph.replay()
    assert y.tolist() == [2, 2, 2]
    inputs["x"] = x.clone()  # x is still alive
    graph.replay()
    del x
    with pytest.raises(RuntimeError, match="freed after the capture"):
        graph.replay()


class Net:
    """A network of two layers, its optimiser, and batches of noise."""

    def __init__(self, device, optimizer, captured):
        numbers = torch.Generator().manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, generator=numbers).to(device)  # noqa: E731
        self.W, self.V = draw(4, 5).requires_grad_(), draw(2, 4).requires_grad_()
        self.x, self.batches, self.captured = draw(8, 5), draw(6, 8, 5), captured
        rate = torch.tensor(0.1).to(device) if captured else 0.1
        adam = {"capturable": True} if captured and optimizer is torch.optim.Adam else {}
        self.optimizer = optimizer([self.W, self.V], lr=rate, fused=True, **adam)

    def update(self):
        self.optimizer.zero_grad()
        output = torch.relu(self.x @ self.W.T) @ self.V.T
        output.log_softmax(1).square().mean().backward()
        self.optimizer.step()
        with torch.no_grad():
            self.W.renorm_(2, 0, 1.5)

    def train(self):
        update = self.update
        for k, x in enumerate(self.batches):
            self.x.copy_(x)
            if k == 2 and self.captured:
                update = capture(self.update).replay
            update()
        return self.W.detach().cpu().numpy(), self.V.detach().cpu().numpy()


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, torch.optim.SGD])
def test_backpropagation_equals_that_of_the_cpu(mode, optimizer):
    expected = Net("cpu", optimizer, captured=False).train()
    for captured in (False, True):
        got = Net(CUDA, optimizer, captured).train()
        for a, b in zip(expected, got):
            np.testing.assert_array_equal(a, b)
    assert (mode.captures, mode.replays) == (1, 4)


class Doubled(torch.autograd.Function):
    """A function whose gradient asks for a device."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return torch.full(gradient.shape, 2.0, device=gradient.device) * gradient


def test_a_gradient_in_python_sees_the_device(mode):
    x = torch.ones(3, device=CUDA, requires_grad=True)
    Doubled.apply(x).square().sum().backward()
    assert x.grad.is_cuda
    assert x.grad.tolist() == [8, 8, 8]


def test_an_optimiser_that_cannot_be_captured_raises(mode):
    net = Net(CUDA, torch.optim.Adam, captured=False)
    net.update()
    with pytest.raises(RuntimeError, match="capturable is False"):
        capture(net.update)


@pytest.mark.parametrize("inference", [False, True])
def test_a_recorder_repeats_a_block_on_the_cpu(inference):
    noise, x = torch.Generator().manual_seed(0), torch.zeros(3)
    with torch.inference_mode(inference):
        with Recorder() as recorder:
            x.mul_(0.5).add_(torch.empty(3).normal_(generator=noise))
        recorder.replay()
        recorder.replay()
    again, y = torch.Generator().manual_seed(0), torch.zeros(3)
    for _ in range(3):
        y.mul_(0.5).add_(torch.empty(3).normal_(generator=again))
    assert torch.equal(x, y)
