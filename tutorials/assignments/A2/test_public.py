"""Public tests of A2, small enough to check by hand. The hidden tests take more steps, with other inputs."""

import numpy as np
from public import run, same

from minidl.optim.adam import Adam, AdamW
from minidl.optim.sgd import SGD
from minidl.tensor import Tensor


def train(make, w, gradients):
    """The weight after each step with these gradients."""
    parameter = Tensor(np.array([w]), requires_grad=True)
    optimizer, seen = make([parameter]), []
    for g in gradients:
        parameter.grad = np.array([g])
        optimizer.step()
        seen.append(float(parameter.data[0]))
    return seen


def test_sgd():
    """SGD: 1 - 0.1 * 2 = 0.8"""
    same(train(lambda p: SGD(p, lr=0.1), 1.0, [2.0, 2.0]), [0.8, 0.6])


def test_momentum():
    """SGD with momentum 0.5: v is 2, then 0.5 * 2 + 2 = 3"""
    same(train(lambda p: SGD(p, lr=0.1, momentum=0.5), 1.0, [2.0, 2.0]), [0.8, 0.5])


def test_nesterov():
    """Nesterov: the first step is lr (g + mu v) = 0.1 * (2 + 0.5 * 2)"""
    same(train(lambda p: SGD(p, lr=0.1, momentum=0.5, nesterov=True), 1.0, [2.0]), [0.7])


def test_adam_first_step():
    """Adam: the first step has length lr, whatever the size of the gradient"""
    same(train(lambda p: Adam(p, lr=0.1), 1.0, [0.003]), [0.9])
    same(train(lambda p: Adam(p, lr=0.1), 1.0, [-3000.0]), [1.1])


def test_adam_two_steps():
    """Adam with betas (0.5, 0.5): mhat = 5/3 and vhat = 3 after gradients 1 and 2"""
    same(train(lambda p: Adam(p, lr=0.1, betas=(0.5, 0.5)), 1.0, [1.0, 2.0]), [0.9, 0.9 - 0.1 * (5 / 3) / 3**0.5])


def test_adamw():
    """AdamW: with a zero gradient the weight is only multiplied by 1 - lr lambda = 0.95"""
    same(train(lambda p: AdamW(p, lr=0.1, weight_decay=0.5), 1.0, [0.0]), [0.95])


if __name__ == "__main__":
    run(globals())
