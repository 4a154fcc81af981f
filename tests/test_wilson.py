"""Wilson et al. 2017, section 3.3: separable data on which SGD generalizes and adaptive methods do not.

Labels are +1 with probability p > 1/2, else -1. Feature 1 is the label; features 2 and 3 are always 1; and each example
has one (label +1) or five (label -1) features of its own. SGD from w = 0 finds the solution of minimum norm, which
classifies unseen examples rightly. Adaptive methods, from w = 0, move along the signs of X'y: each of the features 1, 2
and 3 gets the same weight, and an unseen example has no other feature that ever moved, so all go to the majority class.
"""

import numpy as np
import pytest

from minidl import Tensor, ops
from minidl.optim import SGD, Adagrad, Adam, RMSprop

N, UNSEEN, P = 60, 400, 0.65


def wilson_data(n, seed):
    """X (n, 3 + 5n) and y (n,), feature j of the paper in column j - 1."""
    y = np.where(np.random.default_rng(seed).random(n) < P, 1.0, -1.0)
    x = np.zeros((n, 3 + 5 * n))
    x[:, 0], x[:, 1:3] = y, 1.0
    for i in range(n):
        start = 3 + 5 * i  # j = 4 + 5 (i-1), ..., 4 + 5 (i-1) + 2 (1 - y_i), with i and j from 1
        x[i, start : start + 1 + 2 * (1 - int(y[i]))] = 1.0
    return x, y


def fit(make, steps):
    """Least squares from w = 0 with the full gradient; training loss, and accuracy on unseen examples by label."""
    x, y = wilson_data(N, seed=1)
    w = Tensor(np.zeros((x.shape[1], 1)), requires_grad=True)
    optimizer = make([w])
    for _ in range(steps):
        loss = ops.mse_loss(ops.matmul(x, w), y[:, None])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, unseen = wilson_data(UNSEEN, seed=2)
    # An unseen example's own features are columns that no training example has: their weights are still 0.
    scores = np.stack([unseen, np.ones(UNSEEN), np.ones(UNSEEN)], axis=1) @ w.numpy()[:3, 0]
    right = np.sign(scores) == unseen
    return float(loss), right[unseen > 0].mean(), right[unseen < 0].mean(), w.numpy()[:, 0]


def test_the_construction():
    x, y = wilson_data(N, seed=1)
    own = x[:, 3:].reshape(N, N, 5)
    assert (y > 0).mean() > 0.5
    for i in range(N):
        assert own[i].sum() == own[i, i].sum() == (1 if y[i] > 0 else 5)
    np.testing.assert_array_equal(x[:, :3], np.stack([y, np.ones(N), np.ones(N)], axis=1))


def test_sgd_finds_the_minimum_norm_solution_and_generalizes():
    loss, positive, negative, w = fit(lambda p: SGD(p, lr=0.2), steps=4000)
    x, y = wilson_data(N, seed=1)
    assert loss < 1e-10
    np.testing.assert_allclose(w, np.linalg.pinv(x) @ y, atol=1e-4)
    assert (positive, negative) == (1.0, 1.0)


@pytest.mark.parametrize(
    ("make", "atol"),
    [
        (lambda p: Adam(p, lr=1e-3), 1e-5),
        (lambda p: RMSprop(p, lr=1e-3), 1e-3),  # its steps do not shrink with the gradient: within a step it wanders
        (lambda p: Adagrad(p, lr=0.01), 1e-5),
    ],
    ids=["adam", "rmsprop", "adagrad"],
)
def test_adaptive_methods_fit_and_give_every_unseen_example_to_the_majority(make, atol):
    loss, positive, negative, w = fit(make, steps=3000)
    assert loss < 0.01, "they do fit the training data"
    assert (positive, negative) == (1.0, 0.0)
    x, y = wilson_data(N, seed=1)
    np.testing.assert_allclose(w, np.sign(x.T @ y) / 4, atol=atol)  # 1/4: 3 common features and 1 own; or 3 and 5
