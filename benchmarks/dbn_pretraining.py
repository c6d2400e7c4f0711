"""What pre-training is worth: DBNClassifier from three starts, on all labels and on few.

42,000 of MNIST's training rows, drawn and shuffled anew with every seed, are cut into 27,720 to
train on and 14,280 to test on. Fine-tuning is Adam, rate 1e-3, batches of 64, on the cross-entropy
of logits. "default" starts as torch.nn.Linear does; "scaled" from random weights at the scale of
the pre-trained ones, with biases at the mean of theirs. In rows of few labels the stack has seen
all training rows, and fine-tuning those with a label. A gain is "pretrained" less another start of
the same seed.

    python benchmarks/dbn_pretraining.py --choose

compares settings of pre-training on a fifth of the training rows, which is held out; test rows are
not used.
"""

import argparse
from itertools import product

import numpy as np
import torch
from classifier_mnist import spread, timed
from data import mnist
from sklearn.base import clone
from sklearn.model_selection import train_test_split

from skebm import DBN, BernoulliRBM, DBNClassifier

#: Sizes, and epochs of pre-training.
NETWORKS = {"784-2500-10": ((2500,), 10), "784-512-128-64-10": ((512, 128, 64), 40)}
LAYER = BernoulliRBM(
    gradient="cd",
    batch_size=100,
    learning_rate=0.05,
    momentum=0.9,
    weight_decay=2e-4,
    learning_rate_schedule="linear",
    precision="medium",
)
STARTS = ("pretrained", "default", "scaled")


def split(seed, n_rows):
    """66 % of the rows to train on, the others to test on."""
    X, y, _, _ = mnist()
    X = (X / 255).astype(np.float32)
    rows = np.random.RandomState(seed).permutation(len(X))[:n_rows]
    return train_test_split(X[rows], y[rows], train_size=0.66, random_state=seed)


def stack(sizes, epochs, seed, rate=None):
    layers = [clone(LAYER).set_params(n_components=size) for size in sizes]
    return DBN(layers, n_iter=epochs, learning_rate=rate, random_state=seed)


def started(dbn, start, seed, n_iter):
    """A network that is yet to be fine-tuned."""
    return DBNClassifier(dbn, init=start, n_iter=n_iter, random_state=seed)


def all_labels(dbn, data, seed, options):
    """Accuracies and seconds after so many epochs and after twice as many, of each start."""
    X, X_test, y, y_test = data
    for start in options.starts:
        clf = started(dbn, start, seed, options.epochs).set_params(warm_start=True)
        taken = 0.0
        for half in (1, 2):
            taken += timed(lambda clf=clf: clf.fit(X, y))[1]
            yield (len(y), half * options.epochs), start, 100 * clf.score(X_test, y_test), taken


def few_labels(dbn, data, seed, options):
    """The same with labels of some rows, as many of each class."""
    X, X_test, y, y_test = data
    for n in sorted(options.labels, reverse=True):
        n_iter = max(10, options.few_updates * 64 // n)
        known, _ = train_test_split(np.arange(len(y)), train_size=n, random_state=seed, stratify=y)
        for start in options.starts:
            clf = started(dbn, start, seed, n_iter)
            taken = timed(lambda clf=clf, known=known: clf.fit(X[known], y[known]))[1]
            yield (n, n_iter), start, 100 * clf.score(X_test, y_test), taken


def choose(name, options):
    """Print the accuracy on held-out training rows after pre-training at each rate."""
    sizes, epochs = NETWORKS[name]
    print(f"\n{name}: right, %, of held-out training rows, {options.seeds} seeds\n")
    print("| rate | epochs of a layer | all labels | 1,000 labels |\n|---|---|---|---|")
    fine_tunings = ((None, options.epochs), (1000, options.few_updates * 64 // 1000))
    for rate, n_epochs in product((0.02, 0.05, 0.1, 0.2), (epochs // 2, epochs)):
        results = []
        for seed in range(options.seeds):
            X, _, y, _ = split(seed, options.rows)
            X, X_held, y, y_held = train_test_split(X, y, test_size=0.2, random_state=seed)
            dbn = stack(sizes, n_epochs, seed, rate).fit(X)
            results.append([])
            for n, n_iter in fine_tunings:
                clf = started(dbn, "pretrained", seed, n_iter).fit(X[:n], y[:n])
                results[-1].append(100 * clf.score(X_held, y_held))
        print(f"| {rate} | {n_epochs} | {' | '.join(map(spread, zip(*results)))} |", flush=True)


def table(name, options):
    (sizes, epochs), results, pretraining = NETWORKS[name], {}, []
    for seed in range(options.seeds):
        data = split(seed, options.rows)
        dbn = stack(sizes, options.pretraining_epochs or epochs, seed)
        pretraining.append(timed(lambda dbn=dbn, X=data[0]: dbn.fit(X))[1])
        for protocol in (all_labels, few_labels):
            for row, start, accuracy, taken in protocol(dbn, data, seed, options):
                accuracies, seconds = results.setdefault(row, {}).setdefault(start, ([], []))
                accuracies.append(accuracy)
                seconds.append(taken)
    print(f"\n{name}: right, %, {options.seeds} seeds; pre-training {spread(pretraining, 0)} s\n")
    controls = [start for start in ("default", "scaled") if start in options.starts]
    gains = [f"gain over {start}" for start in controls if "pretrained" in options.starts]
    head = ["labels", "epochs", *options.starts, *gains, "s, fine-tuning"]
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for (n, epochs), by_start in results.items():
        cells = [f"{n:,}", str(epochs), *(spread(by_start[start][0]) for start in options.starts)]
        for start in controls[: len(gains)]:
            cells += [spread(np.subtract(by_start["pretrained"][0], by_start[start][0]))]
        cells += [spread(np.concatenate([seconds for _, seconds in by_start.values()]), 0)]
        print("| " + " | ".join(cells) + " |", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS), choices=list(NETWORKS))
    parser.add_argument("--starts", nargs="*", default=list(STARTS), choices=STARTS)
    parser.add_argument("--rows", type=int, default=42_000, help="of which 66 %% to train on")
    parser.add_argument("--labels", nargs="*", type=int, default=[500, 1000, 5000])
    parser.add_argument("--pretraining-epochs", type=int, help="of a layer")
    parser.add_argument("--epochs", type=int, default=5, help="with all labels, and twice as many")
    parser.add_argument("--few-updates", type=int, default=800, help="with few labels")
    parser.add_argument("--choose", action="store_true", help="compare rates on held-out rows")
    options = parser.parse_args()
    torch.set_num_threads(2)
    for name in options.networks:
        (choose if options.choose else table)(name, options)


if __name__ == "__main__":
    main()
