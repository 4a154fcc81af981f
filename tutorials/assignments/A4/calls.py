"""The calls that the grader can make to a submission of A4. This runs in the student's process."""

from typing import Any

import numpy as np
import part_calls
from graph_calls import forward, vjp

from minidl import ops_conv

__all__ = ["give_parts", "operation", "vjp", "windows"]


def operation(op: str, inputs: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """conv2d, max_pool2d or avg_pool2d."""
    return forward(getattr(ops_conv, op), inputs, options)


def windows(x: Any, kernel: list[int], stride: list[int], order: str) -> dict[str, Any]:
    """_windows, and whether it is a view of x. order: the memory layout of x, "C" or "F"."""
    x = np.asfortranarray(x) if order == "F" else np.array(x)
    view = ops_conv._windows(x, (kernel[0], kernel[1]), (stride[0], stride[1]))
    values = view.copy()
    x += 1
    return {"values": values, "is_view": bool((view == values + 1).all())}


def give_parts(names: list[str]) -> None:
    """Let the grader compute these helpers."""

    def ask_windows(x: Any, kernel: Any, stride: Any) -> Any:
        return part_calls.ask("_windows", x, kernel, stride)

    def ask_pad(x: Any, padding: Any, fill: float = 0.0) -> Any:
        return part_calls.ask("_pad", x, padding, float(fill))

    def ask_scatter(per_window: Any, x: Any, stride: Any, padding: Any) -> Any:
        return part_calls.ask("_scatter", per_window, x.shape[2:], stride, padding)

    def ask_unpad(x: Any, padding: Any) -> Any:
        return part_calls.ask("_unpad", x, padding)

    stand_ins = {"_windows": ask_windows, "_pad": ask_pad, "_scatter": ask_scatter, "_unpad": ask_unpad}
    part_calls.give({name: (ops_conv, name, stand_in) for name, stand_in in stand_ins.items()}, names)
