"""minidl: a deep-learning framework small enough to read in an afternoon and exact enough to trust.

Reading order: tensor, grad_mode, backend, ops, ops_nn, ops_conv, module, nn, init, rng, gradcheck; of optim/ flat,
optimizer, sgd, adam; of data/ batches; then trainer. README's "Read it" has what comes after these, and sizes.
"""

import os

if os.path.isfile(os.path.join(__path__[0], "..", "optim", "flat.py")):  # a clone: minidl.optim lies beside minidl
    __path__.append(os.path.dirname(__path__[0]))

from minidl import fast as _fast  # noqa: F401 (registers the faster forms)
from minidl import nn, ops
from minidl.backend import DeviceError, no_fast, reference_only
from minidl.grad_mode import no_grad
from minidl.gradcheck import GradientError, gradcheck
from minidl.tensor import Tensor

__version__ = "0.1.0"
__all__ = ["DeviceError", "GradientError", "Tensor", "gradcheck", "nn", "no_fast", "no_grad", "ops", "reference_only"]
