"""Train a small network on images of handwritten digits: the example that every backend runs.

Uses the GPU through CuPy where the image has it, NumPy otherwise; both run the same lines.
"""

import argparse
import os
import sys
import time

try:
    import cupy as xp
except ImportError:
    import numpy as xp

import numpy


def load(folder: str) -> tuple:
    """Return (images, labels) of ``folder``/digits.csv: rows of 64 grey values 0..16 and the digit."""
    rows = numpy.loadtxt(os.path.join(folder, "digits.csv"), delimiter=",")
    order = numpy.random.default_rng(7).permutation(len(rows))
    rows = rows[order]
    return xp.asarray(rows[:, :64] / 16.0), xp.asarray(rows[:, 64].astype(int))


def train(images, labels, epochs: int, hidden: int) -> float:
    """Train one hidden layer by gradient descent; return the accuracy on the last fifth, which it never saw."""
    cut = len(images) * 4 // 5
    seen, unseen = images[:cut], images[cut:]
    target = xp.eye(10)[labels[:cut]]
    random = xp.random.RandomState(7)
    first = random.normal(0, 0.1, (64, hidden))
    second = random.normal(0, 0.1, (hidden, 10))
    for _ in range(epochs):
        active = xp.maximum(seen @ first, 0)
        scores = active @ second
        scores = xp.exp(scores - scores.max(axis=1, keepdims=True))
        error = (scores / scores.sum(axis=1, keepdims=True) - target) / cut
        back = (error @ second.T) * (active > 0)
        second -= 0.5 * active.T @ error
        first -= 0.5 * seen.T @ back
    guess = (xp.maximum(unseen @ first, 0) @ second).argmax(axis=1)
    return float((guess == labels[cut:]).mean())


def main() -> int:
    """Train, then print one line with the accuracy and the time."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default="/datasets/digits", help="folder with digits.csv")
    parser.add_argument("--epochs", type=int, default=1000)
    parser.add_argument("--hidden", type=int, default=128)
    arguments = parser.parse_args()
    began = time.monotonic()
    images, labels = load(arguments.data)
    accuracy = train(images, labels, arguments.epochs, arguments.hidden)
    spent = time.monotonic() - began
    print(f"{len(images)} images, {arguments.epochs} epochs in {spent:.1f} s: {accuracy:.1%} of unseen digits right")
    return 0


if __name__ == "__main__":
    sys.exit(main())
