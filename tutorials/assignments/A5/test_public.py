"""Public tests of A5. The hidden tests check more closely what your functions do with the data."""

import numpy as np
from public import run, same
from study import Data, accuracy, compare, mean_and_interval, train_once, tune

from minidl import nn
from minidl.optim import SGD, Adam


def make_model(rng):
    """A linear model with two features and two classes."""
    return nn.Linear(2, 2, rng=rng)


def two_clouds(seed=0):
    """Points around (1, 1) and (-1, -1)."""
    rng = np.random.default_rng(seed)
    parts = []
    for n in (60, 30, 30):
        labels = rng.integers(0, 2, n)
        parts.append(((2 * labels - 1)[:, None] + 0.7 * rng.normal(size=(n, 2)).astype(np.float32), labels))
    return Data(*((x.astype(np.float32), labels) for x, labels in parts))


def test_train_once():
    """train_once learns two clouds of points"""
    data = two_clouds()
    model = train_once(make_model, SGD, 0.1, data, seed=0, epochs=10)
    assert accuracy(model, data.train) > 0.9


def test_the_seed_decides():
    """train_once: the same seed gives the same weights"""
    one, again, other = (train_once(make_model, Adam, 0.01, two_clouds(), seed, epochs=2) for seed in (1, 1, 2))
    assert np.array_equal(one.weight.data, again.weight.data)
    assert not np.array_equal(one.weight.data, other.weight.data)


def test_tune():
    """tune: 0.1 learns, 1e-7 does not"""
    assert tune(make_model, SGD, [1e-7, 0.1], two_clouds(), seeds=[0, 1], epochs=5) == 0.1


def test_mean_and_interval():
    """mean_and_interval of 1, 2, 3: 2 -+ 4.303 / sqrt(3)"""
    same(mean_and_interval([1.0, 2.0, 3.0]), [2, 2 - 4.303 / 3**0.5, 2 + 4.303 / 3**0.5], 1e-7)


def test_compare():
    """compare: a result for each optimizer"""
    optimizers = {"sgd": SGD, "adam": Adam}
    results = compare(make_model, optimizers, [0.01, 0.1], two_clouds(), tune_seeds=[9], seeds=[0, 1, 2], epochs=3)
    assert list(results) == ["sgd", "adam"]
    for result in results.values():
        assert len(result.accuracies) == 3
        assert result.low <= result.mean <= result.high


if __name__ == "__main__":
    run(globals())
