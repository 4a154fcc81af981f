"""What the grader can ask of a submission of A4. This runs in the student's process."""

from typing import Any

from graph_calls import forward, vjp

from minidl import ops_conv

__all__ = ["operation", "vjp", "windows"]


def operation(op: str, inputs: list[Any], options: dict[str, Any]) -> dict[str, Any]:
    """conv2d, max_pool2d or avg_pool2d."""
    return forward(getattr(ops_conv, op), inputs, options)


def windows(x: Any, kernel: list[int], stride: list[int]) -> dict[str, Any]:
    """_windows, and whether it is a view of x."""
    view = ops_conv._windows(x, (kernel[0], kernel[1]), (stride[0], stride[1]))
    values = view.copy()
    x += 1
    return {"values": values, "is_view": bool((view == values + 1).all())}
