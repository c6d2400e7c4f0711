"""The time of fits, chains and scores on a CUDA card, beside peers, as one table in markdown.

    PYTHONPATH=. python benchmarks/gpu.py
    PYTHONPATH=. python benchmarks/gpu.py --device cpu --quick

The first ends in 6 minutes on any card that is not slow. The second has the same rows at small
sizes and needs no card. Every line is printed as soon as it is known, and all of them at the end.

skebm needs scikit-learn 1.6. learnergy 2.0.2 and rbms 0.5.0 are left out where they are not
installed; with `pip install --target FOLDER`, name the folder in PYTHONPATH. learnergy fits as its
users would, with `use_gpu=True` (CD-1; its loader hands over rows one by one from the host). Of
rbms (PCD-1) it is the updates alone, on rows that are on the card. scikit-learn is given fewer
rows, on the CPU.
"""

import argparse
import logging
import math
import os
import re
import subprocess
import sys
import time
import traceback
import warnings
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import sklearn
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import BernoulliRBM as ScikitRBM

try:
    import skebm
    from skebm import (
        DBN,
        BernoulliRBM,
        ConvRBM,
        DBNClassifier,
        DropoutRBM,
        GaussianRBM,
        RBMClassifier,
        log_partition,
    )
except ImportError as error:
    if tuple(map(int, re.findall(r"\d+", sklearn.__version__)[:2])) >= (1, 6):
        raise
    raise SystemExit(
        f"skebm needs scikit-learn 1.6 or newer; this is {sklearn.__version__} ({error})."
    ) from None

try:
    from skebm.engine import capture
except ImportError:  # a version of skebm without this module
    capture = None

ROOT = Path(__file__).resolve().parents[1]
#: Repeats of a row whose first run took as many seconds as this end after that run.
SLOW = 15
#: Of a call on all rows: the most seconds, above which fewer rows are measured.
LONG = 10
#: Seconds that the tests may take.
TEST_SECONDS = 120
COLUMNS = (
    *("what", "variant", "seconds", "range", "steps/s", "first epoch", "whole fit", "outside"),
    *("TFLOP/s", "of matrix", "of memory", "notes"),
)
LEGEND = """\
- seconds: the median of one epoch after the first, or of one call; range: the least and the most.
- steps/s: updates, or levels of annealing, or Gibbs sweeps of all chains, or rows, in a second.
- whole fit: {epochs} epochs with all that belongs to `fit` (of a stack, pre-training too), median
  of {repeats} fits. outside: the part of it that is not in the epochs: reading the rows, start,
  measures, copies of the parameters. first epoch: with the captures of graphs.
- TFLOP/s: of B·V·H·10 per update of B rows (fields of rows and of as many chains 2·2·B·V·H, down
  2·B·V·H, correlations 2·2·B·V·H), the same for every peer, whatever else it computes. of matrix:
  the share of the measured rate of a large product in the precision of the row (highest: float32,
  high: TF32, medium: bfloat16, peers: float32).
- of memory: the share of the measured bandwidth of a copy (bytes read and written), if an update
  makes 6 passes over W with 4 bytes for each number. W may stay in the cache of the card, which is
  faster: a share above 1 would be possible.
- eager: skebm with CUDA graphs turned off. A CPU has none: there both rows are the same."""


class LeftOut(Exception):  # noqa: N818
    """Says why a row was not measured."""


@dataclass(frozen=True)
class Sizes:
    """How large the rows of the table are."""

    n_rows: int = 60_000
    n_few: int = 10_000
    n_hidden: int = 500
    n_small: int = 128
    batch_sizes: tuple[int, ...] = (128, 4096)
    n_epochs: int = 4  # the first is the warm-up
    repeats: int = 3
    n_scikit: int = 10_000
    n_levels: int = 14_500
    n_annealed: int = 100
    n_chains: int = 1000
    n_sweeps: int = 1000
    copied: int = 2**30
    side: int = 8192


QUICK = Sizes(
    n_rows=2000,
    n_few=500,
    n_hidden=64,
    n_small=32,
    batch_sizes=(128, 1024),
    n_epochs=3,
    n_scikit=500,
    n_levels=500,
    n_annealed=20,
    n_chains=100,
    n_sweeps=100,
    copied=2**26,
    side=1024,
)


@dataclass
class Timing:
    """What a row of the table measured; empty where it does not apply."""

    #: Seconds of each epoch after the first, or of each call.
    seconds: list[float]
    #: Updates, levels, sweeps or rows in one of them.
    steps: float = 1
    first: float = math.nan
    whole: float = math.nan
    outside: float = math.nan
    #: Of one step.
    flops: float = math.nan
    bytes: float = math.nan
    #: The name of the rate that `flops` are compared with.
    rate: str = ""
    note: str = ""


@dataclass
class Bench:
    """The data and the device, the measured rates, and the lines of the table so far."""

    device: torch.device
    sizes: Sizes
    end: float
    X: np.ndarray
    y: np.ndarray
    rates: dict[str, float] = field(default_factory=dict)
    lines: list[tuple[str, ...]] = field(default_factory=list)
    _fitted: BernoulliRBM | None = None

    @property
    def on_cuda(self):
        """Whether the device is a card."""
        return self.device.type == "cuda"

    def now(self):
        """The time at which all work of the device is done."""
        if self.on_cuda:
            torch.cuda.synchronize(self.device)
        return time.perf_counter()

    def seconds(self, call):
        """The seconds of a call."""
        begin = self.now()
        call()
        return self.now() - begin

    def enough(self, begin, n_done):
        """Whether a row has been repeated often enough, or takes too long."""
        late = time.perf_counter() > self.end or time.perf_counter() - begin > SLOW
        return n_done >= self.sizes.repeats or (n_done > 0 and late)

    def repeated(self, call):
        """The seconds of each of some calls, after one to warm up."""
        begin, seconds = time.perf_counter(), []
        call()
        while not self.enough(begin, len(seconds)):
            seconds.append(self.seconds(call))
        return seconds

    def fitted(self):
        """A BernoulliRBM of all rows, for chains and scores."""
        if self._fitted is None:
            sizes = {"batch_size": self.sizes.batch_sizes[0], "n_iter": 2, "learning_rate": 0.05}
            model = BernoulliRBM(self.sizes.n_hidden, device=str(self.device), **sizes)
            self._fitted = model.set_params(random_state=0).fit(self.X)
        return self._fitted

    def report(self, name, variant, call):
        """Measure a row of the table, print its line and keep it."""
        try:
            if time.perf_counter() > self.end:
                raise LeftOut("no time is left")
            cells = self.cells(call())
        except LeftOut as reason:
            cells = [""] * 9 + [f"left out: {reason}"]
        except Exception as error:
            last = [line.strip() for line in traceback.format_exc().splitlines()]
            last = [line for line in last if line.strip("^~ ")][-3:]
            cells = [""] * 9 + ["failed: " + " / ".join(last)]
            if isinstance(error, torch.cuda.OutOfMemoryError):
                torch.cuda.empty_cache()
        self.add((name, variant, *cells))

    def cells(self, timing):
        """The cells of a line, after its two names."""
        seconds = float(np.median(timing.seconds))
        steps_per_second = timing.steps / seconds
        rate = steps_per_second * timing.flops
        moved = steps_per_second * timing.bytes
        return [
            f"{seconds:.3g}",
            f"{min(timing.seconds):.3g} to {max(timing.seconds):.3g} ({len(timing.seconds)})",
            "" if timing.steps == 1 else f"{steps_per_second:,.0f}",
            number(timing.first),
            number(timing.whole),
            number(timing.outside),
            number(rate / 1e12),
            number(rate / self.rates.get(timing.rate, math.nan), "{:.1%}"),
            number(moved / self.rates.get("memory", math.nan), "{:.1%}"),
            timing.note,
        ]

    def add(self, line):
        """Print a line of the table and keep it."""
        self.lines.append(tuple(cell.replace("|", "/") for cell in line))
        print(markdown(self.lines[-1]), flush=True)


def number(value, form="{:.3g}"):
    return "" if math.isnan(value) else form.format(value)


def markdown(cells):
    return f"| {' | '.join(cells)} |"


def head():
    return [markdown(COLUMNS), markdown(["---"] * len(COLUMNS))]


# What is measured


@contextmanager
def without_graphs():
    """Turn CUDA graphs off: no fit makes as many eager updates as come before a capture."""
    if capture is None:
        raise LeftOut("this skebm has no skebm.engine.capture")
    before, capture.WARM_UP = capture.WARM_UP, 10**9
    try:
        yield
    finally:
        capture.WARM_UP = before


def eager(call):
    def run():
        with without_graphs():
            return call()

    return run


def history(model):
    """The history of the epochs that are measured: of a stack, of up-down fine-tuning."""
    columns = model.history_
    if "layer" not in columns:
        return columns
    return {name: values[columns["layer"] == -1] for name, values in columns.items()}


def last_figure(columns):
    """The last value of what `fit` measures, which shows whether training went well."""
    for name in ("log_loss", "score", "reconstruction_error"):
        if name in columns:
            return f"{name} {columns[name][-1]:.4g}"
    return ""


def fits(bench, make, X, y=None, *, batch_size, **cost):
    """Fits of skebm: the seconds of training in each epoch, as `history_` has them.

    An epoch of `history_` ends when its parameters were found to be finite, so the device has
    finished it.
    """
    seconds, first, whole, outside = [], [], [], []
    begin = time.perf_counter()
    while not bench.enough(begin, len(whole)):
        model = make()
        whole.append(bench.seconds(lambda model=model: model.fit(X, y)))
        columns = history(model)
        first.append(columns["seconds"][0])
        seconds += list(columns["seconds"][1:])
        outside.append(whole[-1] - np.sum(columns["seconds"]))
        # What training the layers one by one takes belongs to the stack that is tuned.
        pretrained = model.history_ if "layer" in model.history_ else {}
        pretrained = getattr(getattr(model, "dbn_", None), "history_", pretrained)
        if pretrained:
            outside[-1] -= pretrained["seconds"][pretrained["layer"] >= 0].sum()
    return Timing(
        seconds,
        math.ceil(len(X) / batch_size),
        *(float(np.median(values)) for values in (first, whole, outside)),
        note=last_figure(columns),
        **cost,
    )


def epochs(bench, peer, module, batch_size, **cost):
    """Epochs of a peer, a function of sizes that returns one which makes an epoch."""
    try:
        module = import_module(module)
    except ImportError as error:
        raise LeftOut(f"{peer.__name__} cannot be imported ({error})") from None
    X, n_updates = bench.X, math.ceil(len(bench.X) / batch_size)
    begin = bench.now()
    epoch = peer(module, X, bench.sizes.n_hidden, batch_size, bench.device)
    start = bench.now() - begin
    first, seconds, since = bench.seconds(epoch), [], time.perf_counter()
    while len(seconds) < bench.sizes.n_epochs - 1 and not (
        seconds and bench.enough(since, len(seconds))
    ):
        seconds.append(bench.seconds(epoch))
    whole = start + first + sum(seconds) if len(seconds) == bench.sizes.n_epochs - 1 else math.nan
    return Timing(seconds, n_updates, first, whole, start, **cost)


def learnergy(module, X, n_hidden, batch_size, device):
    """One epoch of learnergy, as its users make it."""
    logging.disable(logging.INFO)
    rows = torch.from_numpy(X)
    data = torch.utils.data.TensorDataset(rows, torch.zeros(len(rows)))
    settings = {"steps": 1, "learning_rate": 0.05, "use_gpu": device.type == "cuda"}
    model = module.RBM(X.shape[1], n_hidden, **settings)
    return lambda: model.fit(data, batch_size=batch_size, epochs=1)


def rbms(module, X, n_hidden, batch_size, device):
    """The updates of an epoch of rbms; its own training writes files besides."""
    from rbms.bernoulli_bernoulli.classes import BBRBM

    rows, ones = torch.from_numpy(X).to(device), torch.ones(batch_size, device=device)
    weights = 0.01 * torch.randn(X.shape[1], n_hidden, device=device)
    model = BBRBM(weights, *(torch.zeros(n, device=device) for n in (X.shape[1], n_hidden)))
    model.init_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, maximize=True)
    chains = model.init_chains(batch_size)

    @torch.no_grad()
    def epoch():
        nonlocal chains
        for index in torch.randperm(len(rows), device=device).split(batch_size):
            batch = rows[index], ones[: len(index)]
            optimizer.zero_grad(set_to_none=False)
            chains, _ = module.fit_batch_pcd(batch, chains, model, gibbs_steps=1, beta=1.0)
            optimizer.step()

    return epoch


def scikit(bench, batch_size):
    """An epoch of scikit-learn on the CPU, of fewer rows, times as many as there are in all."""
    n, sizes = bench.sizes.n_scikit, bench.sizes
    model = ScikitRBM(sizes.n_hidden, batch_size=batch_size, n_iter=1, random_state=0)
    seconds = bench.repeated(lambda: model.fit(bench.X[:n]))
    times = sizes.n_rows / n
    note = f"CPU, {n:,} rows, times {times:g}"
    n_updates = times * math.ceil(n / batch_size)
    return Timing([times * value for value in seconds], n_updates, note=note)


def binary_rows(bench):
    """The rows of the BernoulliRBM of a batch size: (name, variant, call)."""
    s, device = bench.sizes, str(bench.device)
    n_weights = bench.X.shape[1] * s.n_hidden
    high = "TF32" if bench.on_cuda else "float32"
    rates = {"highest": "float32", "high": high, "medium": "bfloat16"}
    for batch_size in s.batch_sizes:
        name = f"BernoulliRBM, {s.n_rows:,} × {bench.X.shape[1]} × {s.n_hidden}, batch {batch_size}"
        settings = {"batch_size": batch_size, "learning_rate": 0.05, "n_iter": s.n_epochs}
        cost = {"flops": 10.0 * batch_size * n_weights, "bytes": 24.0 * n_weights}

        def of_skebm(precision, gradient, batch_size=batch_size, settings=settings, cost=cost):
            def make():
                given = {"precision": precision, "gradient": gradient, "device": device}
                return BernoulliRBM(s.n_hidden, random_state=0, **given, **settings)

            rate = rates[precision]
            return lambda: fits(bench, make, bench.X, batch_size=batch_size, rate=rate, **cost)

        def of_peer(peer, module, batch_size=batch_size, cost=cost):
            return lambda: epochs(bench, peer, module, batch_size, rate="float32", **cost)

        for precision in rates:
            yield name, f"skebm, PCD, {precision}", of_skebm(precision, "pcd")
        yield name, "skebm, PCD, high, eager", eager(of_skebm("high", "pcd"))
        yield name, "skebm, PCD, medium, eager", eager(of_skebm("medium", "pcd"))
        yield name, "skebm, CD-1, high", of_skebm("high", "cd")
        yield name, "learnergy, CD-1", of_peer(learnergy, "learnergy.models.bernoulli")
        yield name, "rbms, PCD", of_peer(rbms, "rbms.training.pcd")
        yield name, "scikit-learn, PCD", lambda batch_size=batch_size: scikit(bench, batch_size)


def other_fits(bench):
    """The rows of other estimators, with graphs and without: (name, variant, call)."""
    s, X, y = bench.sizes, bench.X[: bench.sizes.n_few], bench.y[: bench.sizes.n_few]
    batch_size = s.batch_sizes[0]
    common = {"device": str(bench.device), "batch_size": batch_size}
    settings = {"random_state": 0, "n_iter": s.n_epochs, **common}
    real = X + np.random.default_rng(0).normal(0, 0.1, X.shape).astype(np.float32)
    stack = (s.n_hidden, s.n_hidden)

    def up_down():
        tuning = {"fine_tune": "up-down", "fine_tune_n_iter": s.n_epochs}
        return DBN(stack, n_iter=1, random_state=0, **tuning, **common)

    def network():
        layers = [BernoulliRBM(n, n_iter=1, **common) for n in stack]
        return DBNClassifier(layers, **settings)

    of = f"{len(X):,} × {X.shape[1]}"
    drop = {"drop": "weights", "learning_rate": 0.05}
    rows = {
        f"ConvRBM, {len(X):,} images, 32 filters of 7 × 7": (
            lambda: ConvRBM(32, kernel_size=7, **settings),
            (X,),
        ),
        f"GaussianRBM, {of} × {s.n_hidden}": (lambda: GaussianRBM(s.n_hidden, **settings), (real,)),
        f"DropoutRBM, weights, {of} × {s.n_small}": (
            lambda: DropoutRBM(s.n_small, **drop, **settings),
            (X,),
        ),
        f"RBMClassifier, {of} × {s.n_hidden}": (
            lambda: RBMClassifier(s.n_hidden, **settings),
            (X, y),
        ),
        f"DBN, up-down, {of} × {s.n_hidden} × {s.n_hidden}": (up_down, (X,)),
        f"DBNClassifier, tuning, {of} × {s.n_hidden} × {s.n_hidden} × 10": (network, (X, y)),
    }
    for name, (make, data) in rows.items():

        def call(make=make, data=data):
            return fits(bench, make, *data, batch_size=batch_size)

        yield f"{name}, batch {batch_size}", "skebm", call
        yield f"{name}, batch {batch_size}", "skebm, eager", eager(call)


def scaled(bench, call, n_rows):
    """Calls on all rows, or on fewer if they take long; the seconds are those of all rows."""
    few = max(1, n_rows // 30)
    call(bench.X[:few])
    once = bench.seconds(lambda: call(bench.X[:few]))
    if once * n_rows / few < LONG:
        return Timing(bench.repeated(lambda: call(bench.X[:n_rows])), n_rows)
    seconds = [once * n_rows / few]
    return Timing(seconds, n_rows, note=f"{few:,} rows, times {n_rows / few:g}")


def uses(bench):
    """The rows of a fitted model: (name, variant, call)."""
    s = bench.sizes
    of = f"{bench.X.shape[1]} × {s.n_hidden}"

    def annealed():
        def call():
            model, settings = bench.fitted(), {"betas": s.n_levels, "n_chains": s.n_annealed}
            results.append(log_partition(model, method="ais", random_state=0, **settings))

        results = []
        seconds = bench.repeated(call)
        log_z = results[-1]
        note = f"log Z {log_z.value:.2f} ± {log_z.stderr:.2f}"
        return Timing(seconds, s.n_levels, note=note)

    def sampled():
        model = bench.fitted()
        seconds = bench.repeated(lambda: model.sample(s.n_chains, s.n_sweeps, random_state=0))
        return Timing(seconds, s.n_sweeps)

    name = f"log_partition, AIS, {s.n_levels:,} levels, {s.n_annealed} chains, {of}"
    yield name, "skebm", annealed
    yield name, "skebm, eager", eager(annealed)
    name = f"sample, {s.n_chains:,} chains, {s.n_sweeps:,} sweeps, {of}"
    yield name, "skebm", sampled
    yield name, "skebm, eager", eager(sampled)
    for method in ("transform", "score_samples"):

        def call(method=method):
            return scaled(bench, getattr(bench.fitted(), method), s.n_rows)

        yield f"{method}, {s.n_rows:,} × {of}", "skebm", call


def rates(bench):
    """The rows of what the device can do: (name, variant, call)."""
    s, inner = bench.sizes, 10

    def copied():
        source = torch.ones(s.copied, dtype=torch.uint8, device=bench.device)
        target = torch.empty_like(source)

        def call():
            for _ in range(inner):
                target.copy_(source)

        seconds = [value / inner for value in bench.repeated(call)]
        bench.rates["memory"] = 2 * s.copied / float(np.median(seconds))
        note = f"{bench.rates['memory'] / 1e9:,.0f} GB/s read and written"
        return Timing(seconds, bytes=2.0 * s.copied, note=note)

    def multiplied(name):
        kind = torch.bfloat16 if name == "bfloat16" else torch.float32
        matmul = torch.backends.cuda.matmul
        if name == "TF32" and not bench.on_cuda:
            raise LeftOut("a CPU has no TF32")
        a, b = (torch.randn(s.side, s.side, device=bench.device).to(kind) for _ in range(2))
        out = torch.empty_like(a)

        def call():
            for _ in range(inner):
                torch.mm(a, b, out=out)

        before, matmul.allow_tf32 = matmul.allow_tf32, name == "TF32"
        try:
            seconds = [value / inner for value in bench.repeated(call)]
        finally:
            matmul.allow_tf32 = before
        flops = 2.0 * s.side**3
        bench.rates[name] = flops / float(np.median(seconds))
        return Timing(seconds, flops=flops, rate=name)

    yield f"copy on the device, {s.copied / 2**30:g} GiB", "torch", copied
    for name in ("float32", "TF32", "bfloat16"):

        def call(name=name):
            return multiplied(name)

        yield f"product, {s.side}³, {name}", "torch", call


# The run


def warm_up(bench):
    """A first small fit, so that the first row does not pay for loading the libraries."""
    # The first optimiser of torch imports its compiler.
    torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)

    def call():
        BernoulliRBM(16, n_iter=2, random_state=0, device=str(bench.device)).fit(bench.X[:200])

    return Timing([bench.seconds(call)], note="200 rows; loads the libraries of the device")


def gpu_tests():
    """Lines on the tests that need a card."""
    if find_spec("pytest") is None:
        return ["gpu tests: left out, pytest is not installed"]
    options = ["-m", "gpu", "-q", "-n", "0", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *options, "--continue-on-collection-errors", "tests"]
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    settings = {"cwd": ROOT, "env": {**os.environ, "PYTHONPATH": path}, "text": True}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    try:
        output = subprocess.run(command, timeout=TEST_SECONDS, **settings, **pipes).stdout
    except subprocess.TimeoutExpired as stopped:
        output = stopped.stdout or b""
        output = output.decode(errors="replace") if isinstance(output, bytes) else output
        last = output.strip().splitlines()[-5:]
        return [f"gpu tests: stopped after {TEST_SECONDS} s", *(f"    {line}" for line in last)]
    lines = output.strip().splitlines()
    failed = [line for line in lines if line.startswith(("FAILED", "ERROR "))]
    causes = [line for line in lines if line.startswith("E  ")][:40]
    if not re.search(r"\d (passed|failed|skipped|error)", lines[-1] if lines else ""):
        causes = lines[-5:]
    lines = [f"gpu tests: {lines[-1].strip('= ') if lines else 'no output'}"]
    return lines + [f"    {line[:200]}" for line in failed + causes]


def machine(bench, source):
    """Lines on the machine, the versions and the data."""
    s, card = bench.sizes, f"CPU, {torch.get_num_threads()} threads of torch"
    if bench.on_cuda:
        of = torch.cuda.get_device_properties(bench.device)
        card = f"{of.name}, {of.multi_processor_count} multiprocessors, "
        card += f"{of.total_memory / 2**30:.0f} GiB"
    version = ".".join(map(str, sys.version_info[:3]))
    graphs = "" if capture is None else f", graphs after {capture.WARM_UP} eager updates"
    return [
        f"- device: {card}; {os.cpu_count()} CPU cores",
        f"- torch {torch.__version__}, CUDA {torch.version.cuda}, scikit-learn "
        f"{sklearn.__version__}, numpy {np.__version__}, Python {version}",
        f"- skebm {skebm.__version__}{graphs}",
        f"- data: {source}; {s.n_rows:,} rows, {bench.X[: s.n_rows].mean():.0%} ones",
    ]


def data(n):
    """Rows of zeros and ones, their labels, and where they come from."""
    folder = os.environ.get("SKEBM_DATA")
    if folder and (Path(folder) / "mnist.npz").exists():
        with np.load(Path(folder) / "mnist.npz") as file:
            X, y = file["X_train"][:n], file["y_train"][:n]
        return (X > 0).astype(np.float32), y, "MNIST, where pixels above 0 are ones"
    rng = np.random.default_rng(0)
    X = (rng.random((n, 784), dtype=np.float32) < 0.19).astype(np.float32)
    return X, rng.integers(10, size=n), "random rows (SKEBM_DATA names no folder with mnist.npz)"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--skip-tests", action="store_true", help="leave the gpu tests out")
    parser.add_argument("--only", help="rows whose name or variant contains this")
    parser.add_argument("--seconds", type=float, help="rows that begin later are left out")
    options = parser.parse_args()
    begin = time.perf_counter()
    if options.device == "cuda" and not torch.cuda.is_available():
        raise SystemExit("There is no CUDA device; try --device cpu --quick.")
    warnings.simplefilter("ignore", ConvergenceWarning)
    sizes = QUICK if options.quick else Sizes()
    limit = options.seconds or (150 if options.quick else 300)
    X, y, source = data(sizes.n_rows)
    bench = Bench(torch.device(options.device), sizes, begin + limit, X, y)
    title = [f"# skebm on {options.device}{', small sizes' if options.quick else ''}", ""]
    title += machine(bench, source)
    print("\n".join(title), flush=True)
    tests = ["gpu tests: left out"]
    if options.device == "cuda" and not options.skip_tests:
        tests = gpu_tests()
    print("\n".join([*tests, "", *head()]), flush=True)
    try:
        bench.report("a first fit", "skebm", lambda: warm_up(bench))
        for part in (rates, binary_rows, other_fits, uses):
            for name, variant, call in part(bench):
                wanted = options.only is None or options.only in f"{name}, {variant}"
                if wanted or part is rates:  # shares need them
                    bench.report(name, variant, call)
    finally:
        legend = LEGEND.format(epochs=sizes.n_epochs, repeats=sizes.repeats)
        took = f"- {time.perf_counter() - begin:.0f} s in all"
        print("\n\n" + "\n".join([*title, took, *(f"- {tests[0]}", *tests[1:]), "", *head()]))
        print("\n".join([*map(markdown, bench.lines), "", legend]), flush=True)


if __name__ == "__main__":
    main()
