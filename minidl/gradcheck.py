"""Is a gradient right? Nudge each input a little both ways and watch the output: no calculus needed.

(f(x + h) - f(x - h)) / 2h is the slope up to an error of order h^2. In float64, with h around 1e-6, it agrees with a
correct gradient to about nine digits; a wrong one is off in the first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from minidl.backend import Array
from minidl.tensor import Tensor


class GradientError(AssertionError):
    """A gradient disagrees with its finite difference. The message names the input, the index and both values."""


def gradcheck(
    fn: Callable[..., Tensor],
    inputs: Sequence[Tensor | Array] | Tensor | Array | float,
    h: float = 1e-6,
    rtol: float = 1e-6,
    atol: float = 1e-8,
) -> bool:
    """Check fn's gradients against central differences in float64; returns True or raises GradientError.

    fn      takes Tensors, returns one Tensor of any shape; it must give the same output for the same inputs. A model
            has float64 weights after model.to(dtype="float64")
    inputs  a Tensor, array or number, or a list of them, copied to float64 on the CPU. Tensors that do not require grad
            are held fixed
    h       step, times max(1, |x|);  a gradient may differ by rtol * (the largest of its array) + atol

    The gradients come from backward(), which also adds to the .grad of other leaves that fn reads, such as a model's
    weights. Raises ValueError if no input requires grad, or if the output is not the same twice, and TypeError if it is
    not a Tensor.

    A function with a kink (relu at 0, max at a tie) has no slope there: choose inputs away from it.
    """
    given = [inputs] if isinstance(inputs, (Tensor, np.ndarray, float, int)) else inputs
    tensors = [_float64_leaf(x) for x in given]
    out, again = fn(*tensors), fn(*tensors)
    if not isinstance(out, Tensor):
        raise TypeError(f"gradcheck: fn must return one Tensor, this returned a {type(out).__name__}")
    if not np.array_equal(out.data, again.data, equal_nan=True):
        raise ValueError("gradcheck: fn gives another output for the same inputs: net.eval() turns dropout off, and a "
                         "generator made inside fn draws the same again")  # fmt: skip
    # The output may be an array: check the gradient of one scalar, its sum weighted by fixed irregular weights.
    weights = np.cos(np.arange(out.size, dtype=np.float64)).reshape(out.shape)

    def scalar() -> float:
        return float((fn(*tensors).data * weights).sum())

    if not any(tensor.requires_grad for tensor in tensors):
        raise ValueError("gradcheck: no input needs a gradient: give arrays, or Tensors with requires_grad=True")
    g = -2 * weights  # not 1: that would not show a vjp that forgets g, or takes |g| or g * g
    out.backward(g)
    if not np.array_equal(g, -2 * weights):
        raise GradientError("a vjp writes to its g, which may be another input's gradient too: make a new array, 2 * g")
    for k, tensor in enumerate(tensors):
        if not tensor.requires_grad:
            continue
        exact = np.zeros(tensor.shape) if tensor.grad is None else tensor.grad / -2
        numeric = _central_differences(scalar, tensor.data, h)
        error = np.abs(exact - numeric)
        scale = np.abs(numeric).max(initial=0.0)
        if not (error <= rtol * scale + atol).all():  # written so that a NaN fails
            index = np.unravel_index(int(np.nan_to_num(error, nan=np.inf).argmax()), tensor.shape)
            at = tuple(int(i) for i in index)
            raise GradientError(
                f"input {k}, index {at}: backward() gives {exact[index]:.10g}, the finite difference "
                f"{numeric[index]:.10g} (shape {tensor.shape}, largest gradient {scale:.3g})"
            )
    return True


def _central_differences(f: Callable[[], float], x: Array, h: float) -> Array:
    """df/dx by moving each element of x in place, and back."""
    slope = np.empty_like(x)
    for index in np.ndindex(x.shape):
        kept = x[index]
        step = h * max(1.0, abs(float(kept)))
        x[index] = kept + step
        above = f()
        x[index] = kept - step
        below = f()
        x[index] = kept
        slope[index] = (above - below) / (2 * step)
    return slope


def _float64_leaf(x: Tensor | Array | float) -> Tensor:
    if isinstance(x, Tensor):
        return Tensor(x.numpy().astype(np.float64), requires_grad=x.requires_grad)
    return Tensor(np.array(x, dtype=np.float64), requires_grad=True)
