"""A deep Boltzmann machine of 500 and 1000 units on MNIST.

    python benchmarks/dbm.py --save dbm.joblib                   likelihoods of the test rows
    python benchmarks/dbm.py --table error --load dbm.joblib     fine-tuned, and a DBN beside it
    python benchmarks/dbm.py --table cost --load dbm.joblib      an update, beside one of an RBM
    python benchmarks/dbm.py --table samples                     samples of each class

Training: 60,000 images; their grey values are probabilities, and pixels are drawn anew in every
visit. One draw of the 10,000 test images. log Z is between annealed importance sampling from below
(20,000 levels, 100 chains) and the same backwards, from the ends of the forward chains after 100
Gibbs sweeps. "bound" is the variational bound, "importance" the estimate of 100 draws of q.
Salakhutdinov and Hinton (2009) report −84.62 for the bound.

Samples: the label is held fixed, and chains start from independent pixels. The judge is
scikit-learn's MLPClassifier, trained on the grey images, as in `dbn_samples.py`; it sees the means
of the pixels given the mean-field means of the first layer of a sample. `--picture` writes ten
samples of each class after 1000 steps, a row for each.

With `--validate`, 10,000 of the training rows stand for the test rows: settings are chosen so.
"""

import argparse
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import joblib
import numpy as np
import torch
from classifier_mnist import spread, timed
from data import mnist
from dbn_samples import judge, picture, variety
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from skebm import (
    DBM,
    DBN,
    PCD,
    BernoulliRBM,
    DBNClassifier,
    RBMClassifier,
    log_likelihood,
    log_partition,
)

SIZES = (500, 1000)


def machine(options, *, last=None):
    """The model that the tables are about."""
    first, second = SIZES
    layers = [
        BernoulliRBM(
            first,
            grey_values="sample",
            gradient=PCD(n_chains=100),
            batch_size=100,
            learning_rate=0.02,
            n_iter=options.pretraining_epochs,
        ),
        last
        or BernoulliRBM(
            second,
            gradient=PCD(n_chains=100),
            batch_size=100,
            learning_rate=0.02,
            n_iter=options.pretraining_epochs,
        ),
    ]
    return DBM(
        layers,
        pretrain=options.pretrain,
        gradient=PCD(n_chains=options.chains),
        batch_size=100,
        learning_rate=options.rate,
        learning_rate_schedule="linear",
        n_iter=options.epochs,
        random_state=options.seed,
        verbose=options.verbose,
        device=options.device,
    )


def drawn(X, seed):
    """One draw of images whose grey values are probabilities."""
    rng = np.random.default_rng(seed)
    return (rng.random(X.shape, dtype=np.float32) < X).astype(np.float32)


def data(options):
    X, y, X_test, y_test = mnist()
    if options.validate:
        X, X_test, y, y_test = train_test_split(X, y, test_size=10_000, random_state=0, stratify=y)
    return (X / 255).astype(np.float32), y, (X_test / 255).astype(np.float32), y_test


def fitted(options, X):
    """The trained model, and the minutes of its training; or one that was saved."""
    if options.load:
        dbm, minutes = joblib.load(options.load)
        return dbm.set_params(device="cpu"), minutes
    dbm, seconds = timed(lambda: machine(options).fit(X))
    if options.save:
        joblib.dump((dbm, seconds / 60), options.save)
    return dbm, seconds / 60


def likelihood(options):
    X, _, X_test, _ = data(options)
    dbm, minutes = fitted(options, X)
    test = drawn(X_test, options.seed)
    begin = time.perf_counter()
    log_z = log_partition(dbm, method="bracket", betas=options.levels, random_state=options.seed)
    print(f"{log_z}; {time.perf_counter() - begin:.0f} s")
    bound = dbm.score_samples(test, log_z=0.0).mean()
    first = {"X": test[:1000], "log_z": 0.0}
    gap = log_likelihood(dbm, **first, n_draws=100).mean() - dbm.score_samples(**first).mean()
    print("\n| | bound | importance |\n|---|---|---|")
    for name, value in (("forward", log_z.value), ("reverse", log_z.upper)):
        print(f"| {name} annealing | {bound - value:.2f} | {bound + gap - value:.2f} |")
    print(f"\n{minutes:.0f} minutes of training; mean-field sweeps in the last epoch: ", end="")
    print({k: round(v[-1], 3) for k, v in dbm.history_.items() if k.startswith("mean_field")})


def cost(options):
    """Time and memory of an update of the trained model, and of an RBM with as many weights."""
    X = data(options)[0]
    deep, X = fitted(options, X)[0], X[:20_000]
    n_weights = sum(layer.components_.size for layer in deep.estimators_)
    # The rate keeps the model as it is; what a sweep costs depends on the model.
    deep.set_params(learning_rate=0.001, learning_rate_schedule="constant")
    rbm = BernoulliRBM(
        round(n_weights / 784),
        grey_values="sample",
        gradient=deep.gradient,
        batch_size=deep.batch_size,
        learning_rate=0.01,
        n_iter=2,
        random_state=0,
    ).fit(X)
    times, memory = {"RBM": [], "DBM": []}, {}
    for name, model in (("RBM", rbm), ("DBM", deep)):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            memory[name] = pool.submit(extra_memory, model, X[:1000]).result()
    for _ in range(options.repeats):
        for name, model in (("RBM", rbm), ("DBM", deep)):
            model.partial_fit(X)
            times[name].append(model.history_["seconds"][-1] / 200 * 1000)
    print("| | weights | ms an update | MiB of an update |\n|---|---|---|---|")
    for name, values in times.items():
        print(f"| {name} | {n_weights:,} | {spread(values)} | {memory[name]:.0f} |")
    ratio = np.array(times["DBM"]) / times["RBM"]
    print(f"\nRatios: time {spread(ratio)}, memory {memory['DBM'] / memory['RBM']:.2f}; ", end="")
    print(f"{deep.history_['mean_field_sweeps'][-1]:.1f} mean-field sweeps for a row")


def extra_memory(model, X):
    """MiB by which an epoch raises the peak of this process, which has done nothing else."""

    def resident(name):
        status = Path("/proc/self/status").read_text()
        return int(status.split(name)[1].split()[0]) / 1024

    Path("/proc/self/clear_refs").write_text("5")  # the peak is that from now on
    before = resident("VmRSS:")
    model.partial_fit(X)
    return resident("VmHWM:") - before


def error(options):
    """Test errors of a network from the model and of one from a DBN that has as much time."""
    X, y, X_test, y_test = data(options)
    dbm, minutes = fitted(options, X)
    settings = {
        "optimizer": "sgd",
        "learning_rate": options.tuning_rate,
        "learning_rate_schedule": "linear",
        "momentum": 0.9,
        "batch_size": 100,
        "dropout": options.dropout,
        "input_dropout": options.input_dropout,
        "max_norm": options.max_norm,
        "precision": "medium",
        "random_state": options.seed,
    }

    def tuned(stack, n_epochs, **more):
        net = DBNClassifier(stack, n_iter=n_epochs, **settings, **more)
        _, seconds = timed(lambda: net.fit(X, y))
        return 100 * (1 - net.score(X_test, y_test)), seconds / 60

    print("| 784-500-1000-10 | error, % | min, pre-training | min, fine-tuning | epochs |")
    print("|---|---|---|---|---|")
    n = options.tuning_epochs
    for name in ("DBM", "DBM, posterior inputs"):
        if name in options.networks:
            wrong, second = tuned(dbm, n, posterior_inputs=name != "DBM")
            print(f"| {name} | {wrong:.2f} | {minutes:.0f} | {second:.0f} | {n} |", flush=True)
    if "DBN" not in options.networks:
        return
    layer = BernoulliRBM(
        gradient="cd",
        batch_size=100,
        learning_rate=0.05,
        learning_rate_schedule="linear",
        momentum=0.9,
        momentum_ramp=4,
        weight_decay=2e-4,
        n_iter=30,
    )
    dbn = DBN([clone(layer).set_params(n_components=size) for size in SIZES], random_state=0)
    _, first = timed(lambda: dbn.fit(X))
    _, of_one = tuned(dbn, 1)
    n = max(1, int((minutes + n * of_one - first / 60) / of_one))
    wrong, second = tuned(dbn, n)
    print(f"| DBN, in the same time | {wrong:.2f} | {first / 60:.0f} | {second:.0f} | {n} |")


def samples(options):
    """Samples of each class of a model with labels at the top, as a judge sees them."""
    X, y, X_test, y_test = data(options)
    top = RBMClassifier(SIZES[1], objective="generative")
    if options.load:
        dbm, minutes = fitted(options, X)
    else:
        dbm = machine(options, last=top)
        minutes = timed(lambda: dbm.fit(X, y))[1] / 60
        if options.save:
            joblib.dump((dbm, minutes), options.save)
    net, dbm = judge(X, y, options), dbm.set_params(output="all")
    print(
        f"{minutes:.0f} min; the model's own error {100 * (1 - dbm.score(X_test, y_test)):.2f} %;"
    )
    print(f"the judge's {100 * (1 - net.score(X_test, y_test)):.2f} %\n")
    labels = np.repeat(np.arange(10), 100)
    print("| steps | recognised, % | variety | " + " | ".join(map(str, range(10))) + " |")
    print("|---" * 13 + "|")
    for n_steps in (200, 1000, 4000):
        rows = dbm.sample(len(labels), n_steps, y=labels, random_state=options.seed)
        rows = dbm.inverse_transform(dbm.transform(rows))
        right = 100 * (net.predict(rows) == labels).reshape(10, -1).mean(1)
        ratio = variety(rows, labels) / variety(X_test, y_test)
        cells = [str(n_steps), f"{right.mean():.1f}", f"{ratio:.2f}", *(f"{r:.0f}" for r in right)]
        print(f"| {' | '.join(cells)} |", flush=True)
        if options.picture and n_steps == 1000:
            picture(rows.reshape(10, 100, -1)[:, :10], options.picture)


TABLES = {"likelihood": likelihood, "error": error, "cost": cost, "samples": samples}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", choices=TABLES, default="likelihood")
    parser.add_argument("--epochs", type=int, default=350)
    parser.add_argument("--rate", type=float, default=0.08)
    parser.add_argument("--chains", type=int, default=300)
    parser.add_argument("--pretrain", action="store_true")
    parser.add_argument("--pretraining-epochs", type=int, default=10, help="of each layer")
    parser.add_argument("--tuning-epochs", type=int, default=60)
    parser.add_argument("--tuning-rate", type=float, default=0.5)
    names = ("DBM", "DBM, posterior inputs", "DBN")
    parser.add_argument("--networks", nargs="+", choices=names, default=names)
    parser.add_argument("--dropout", type=float, default=0.25)
    parser.add_argument("--input-dropout", type=float, default=0.2)
    parser.add_argument("--max-norm", type=float, default=6.0)
    parser.add_argument("--judge-epochs", type=int, default=15)
    parser.add_argument("--levels", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", metavar="PATH", help="where to write some of the samples")
    parser.add_argument("--save", metavar="PATH", help="where to write the model")
    parser.add_argument("--load", metavar="PATH", help="a model that was written")
    parser.add_argument("--validate", action="store_true", help="without the test rows")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="where the model is trained")
    parser.add_argument("--verbose", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    TABLES[options.table](options)


if __name__ == "__main__":
    main()
