"""What PyTorch's layers and operations take beyond minidl's, and what to do instead.

An argument that has no meaning here is refused by its name. So nobody finds out after a training run that a `dilation`
was not heard. At the value that PyTorch gives it by default it changes nothing, and passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

BEYOND: dict[str, tuple[Any, str]] = {  # argument: (PyTorch's default, what to do instead)
    "ceil_mode": (False, "pad the images, so that the windows leave no rest"),
    "count_include_pad": (True, "the border's zeros count in the mean"),
    "device": (None, "model.to(device) moves a whole model"),
    "dilation": (1, "a larger window, whose weights are zero in between, is the same"),
    "divisor_override": (None, "multiply the result"),
    "dtype": (None, "model.to(dtype=...) changes a whole model"),
    "groups": (1, "convolve each group of channels by itself, and ops.cat the results"),
    "ignore_index": (-100, "leave those examples out: logits[keep], labels[keep]"),
    "inplace": (False, "leave it out: results are new arrays"),
    "out": (None, "leave it out: results are new arrays"),
    "padding_mode": ("zeros", "pad the images before they are made Tensors (np.pad)"),
    "reduce": (None, "say reduction='mean', 'sum' or 'none'"),
    "return_indices": (False, "the largest values alone are returned"),
    "size_average": (None, "say reduction='mean', 'sum' or 'none'"),
    "track_running_stats": (True, "ops.batch_norm(x, training=True) keeps none"),
    "weight": (None, "with reduction='none' each loss can be weighted: (weights * losses).mean()"),
}


def refuse(name: str, arguments: Mapping[str, Any]) -> None:
    """Raise TypeError for the first of these arguments of `name` that would change something."""
    for argument, value in arguments.items():
        default, remedy = BEYOND.get(argument, (NotImplemented, ""))
        if not any(type(value) is type(same) and value == same for same in (default, (default, default))):
            raise TypeError(f"{name} has no argument '{argument}'" + (f": {remedy}" if remedy else ""))
