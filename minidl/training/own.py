"""A user's own network or optimizer: `--model mine.py:Net`, `--opt mine.py:Lion`.

Each is called only with the arguments that its parameters name. A network may name `image_size` and `classes`; an
optimizer `total_steps` and `steps_per_epoch`, and any of these command-line options: `lr`, `weight_decay`, `max_norm`
(--clip-norm), `momentum`, `betas`.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from numbers import Real
from typing import Any

import numpy as np

from minidl.grad_mode import enable_grad
from minidl.module import Module, evaluating
from minidl.optim.optimizer import Optimizer
from minidl.optim.schedule import parse_schedule
from minidl.telling import tell
from minidl.tensor import Tensor
from minidl.training.loader import UserCode, UserError, load, told
from minidl.training.options import flag
from minidl.training.own_file import is_own, of_file

# From a command-line option to the optimizer's parameter.
OPTIONS = {name: name for name in ("lr", "weight_decay", "momentum", "betas")} | {"clip_norm": "max_norm"}
LR = 1e-3  # for an optimizer whose parameter lr has no default


# ---- networks ----


def own_network(make: Callable[..., Any], image_size: tuple[int, int], classes: int, grey: bool = True) -> Module:
    """The network that `make`, a class or function, returns. It is called with those of `image_size` (height, width)
    and `classes` that its parameters name.

    grey  whether it must take images of one channel; False: it is not tried, because it may have been trained on others

    Raises UserError if it needs more, or if the result is not a Module from images (N, 1, H, W) to logits.
    """
    name = _name(make)
    _check_kind(make, name, Optimizer, "an optimizer, not a network: give it as --opt")
    model = _call(make, name, {"image_size": tuple(image_size), "classes": classes}, {})
    if not isinstance(model, Module):
        raise UserError(f"{name} returns {_kind(model)}: it must be a Module of minidl.nn, with a forward(self, x)")
    for word in (word for word, thing in vars(Module).items() if callable(thing) and word[0] != "_"):
        if not callable(thing := getattr(model, word)):
            raise UserError(f"{name}: {word} is {_kind(thing)}, but Module has a method of this name: choose another")
    try:
        first = next(iter(model.parameters()), None)
    except TypeError as error:  # layers in a list
        raise UserError(f"{name}: {error}") from None
    if first is None:
        raise UserError(
            f"{name} has no parameters to train. Layers are found as attributes, "
            "as in self.hidden = nn.Linear(784, 32), and in nn.Sequential"
        )
    if grey:
        _check_logits(make, name, model, image_size, classes)
    return model


def _check_logits(make: Callable[..., Any], name: str, model: Module, size: tuple[int, int], classes: int) -> None:
    """Try the network on two images of noise, in eval mode, which does not change it."""
    x = Tensor(np.random.default_rng(0).random((2, 1, *size), np.float32))
    errors_told = told(make) if isinstance(make, UserCode) else nullcontext()
    try:
        with evaluating(model), enable_grad(), np.errstate(all="ignore"), errors_told:
            logits = model(x)
    except UserError:
        raise
    except (ValueError, TypeError, IndexError, AttributeError) as error:
        raise UserError(f"{name} can't take images of shape {x.shape}: {' '.join(str(error).split())}") from error
    if not isinstance(logits, Tensor):
        raise UserError(f"{name}: forward must return a Tensor of logits (N, {classes}), it returns {_kind(logits)}")
    if logits.ndim != 2 or len(logits) != 2 or logits.shape[1] < classes:
        raise UserError(
            f"{name} returns {logits.shape} for images {x.shape}: the data has {classes} classes, so logits must be "
            f"(2, {classes}) here. Give it a parameter `classes` to receive the number of classes"
        )
    if not logits.requires_grad and any(p.requires_grad for p in model.parameters()) and not _learns(model, x):
        raise UserError(
            f"{name}: forward's output does not depend on the weights, so it can't be trained: use "
            "minidl.ops, not NumPy, and no .data, .detach() or no_grad()"
        )


def _learns(model: Module, x: Tensor) -> bool:
    """Whether the output of a copy in training mode has a gradient: only that matters."""
    with suppress(Exception), enable_grad(), np.errstate(all="ignore"):
        return bool(copy.deepcopy(model).train()(x).requires_grad)
    return True  # it can't be copied, or needs a larger batch: training will show


# ---- optimizers ----


def own_lr(make: Callable[..., Any], odd: float | None = LR) -> float | None:
    """Its own learning rate: the default of its parameter `lr`; LR if that has none, and `odd` if the default is not a
    number, but a schedule, for example. None without such a parameter."""
    parameter = _parameters(make).get("lr")
    if parameter is None:
        return None
    if isinstance(parameter.default, Real):
        return float(parameter.default)
    return LR if parameter.default is parameter.empty else odd


def own_optimizer(
    make: Callable[..., Any],
    params: Iterable[Tensor],
    *,
    total_steps: int,
    steps_per_epoch: int,
    schedule: str | None = None,
    **options: Any,
) -> Optimizer:
    """The optimizer that `make`, a class such as a Rule or a function, returns for these parameters.

    It is called with the parameters, and with the given options by name.
    schedule  a string for parse_schedule; then `lr` becomes a function of the step

    Raises UserError if an option does not apply, or if the result is not an optimizer of these parameters.
    """
    name, params = _name(make), list(params)
    _check_kind(make, name, Module, "a network, not an optimizer: give it as --model")
    given = {option: value for option, value in options.items() if value is not None}
    takes = _parameters(make)
    anything = any(p.kind is p.VAR_KEYWORD for p in takes.values())  # a Rule itself refuses unknown arguments
    for option in given:
        if option not in OPTIONS or not (OPTIONS[option] in takes or anything):
            named = [each for each, word in OPTIONS.items() if word in takes or anything]
            listed = ", ".join(map(flag, named)) or "none"
            raise UserError(f"{flag(option)} does not apply to {name}: it takes {listed}")
    if schedule is not None:
        lr = given.get("lr") or own_lr(make)
        if lr is None:
            raise UserError(f"--schedule does not apply to {name}: it has no parameter lr")
        given["lr"] = parse_schedule(schedule, lr=lr, total_steps=total_steps, steps_per_epoch=steps_per_epoch)
    made = called_with(make, params, {OPTIONS[o]: value for o, value in given.items()}, total_steps, steps_per_epoch)
    if hasattr(made, "averaged"):
        tell(
            f"{name} averages its weights, but validation, results and the saved network are of the weights themselves:"
            " evaluate the average inside `with optimizer.averaged():`, as a study does"
        )
    return made


def takes_length(name: str) -> bool:
    """Whether this is a user's own optimizer that is called with the length of the run."""
    return is_own(name) and "total_steps" in _parameters(load(name))


def called_with(
    make: Callable[..., Any], params: Sequence[Tensor], given: Mapping[str, Any], total_steps: int, steps_per_epoch: int
) -> Optimizer:
    """The optimizer that `make` returns for these parameters and arguments, with the lengths that it names.

    Raises UserError if the result is not an optimizer of these parameters.
    """
    name, lengths = _name(make), {"total_steps": total_steps, "steps_per_epoch": steps_per_epoch}
    optimizer = _call(make, name, lengths, dict(given), params)
    if not isinstance(optimizer, Optimizer):
        raise UserError(f"{name} returns {_kind(optimizer)}: it must be an optimizer, such as a Rule of minidl.optim")
    if optimizer.flat is None or [id(p) for p in optimizer.flat.params] != [id(p) for p in params]:
        raise UserError(f"{name} does not have the network's parameters: pass them on, as in super().__init__(params)")
    return optimizer


# ---- calling ----


def _call(make: Callable[..., Any], name: str, known: dict[str, Any], given: dict[str, Any], *first: Any) -> Any:
    """make(*first, **given), with those of `known` that its parameters name."""
    takes = _parameters(make)
    given = {**{word: value for word, value in known.items() if word in takes}, **given}
    others = [p for p in list(takes.values())[len(first) :] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    missing = [p.name for p in others if p.default is p.empty and p.name not in given]
    if missing:
        raise UserError(
            f"{name} requires {', '.join(missing)}, which is not passed: only {', '.join(known)} are, if its "
            "parameters name them. Give the others defaults"
        )
    return make(*first, **given)


def _check_kind(make: Callable[..., Any], name: str, wrong: type, what: str) -> None:
    thing = make.thing if isinstance(make, UserCode) else make
    if isinstance(thing, type) and issubclass(thing, wrong):
        raise UserError(f"{name} is {what}")


def _parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    thing = make.thing if isinstance(make, UserCode) else make
    try:
        return inspect.signature(thing).parameters
    except (ValueError, TypeError):  # a class written in C
        return {}


def _name(make: Callable[..., Any]) -> str:
    if isinstance(make, UserCode):
        return of_file(str(make))
    return str(getattr(make, "__name__", make))


def _kind(thing: Any) -> str:
    """Its type, in words."""
    kind = type(thing)
    torch = any(base.__module__.startswith("torch.") for base in kind.__mro__)
    article = "a PyTorch" if torch else "an" if kind.__name__[0] in "aeiouAEIO" else "a"
    return "nothing (None)" if thing is None else f"{article} {kind.__name__}"
