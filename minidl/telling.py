"""What may be meant and is most likely a slip is told: a warning, at the user's own line, that says what to write."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial, wraps
from typing import Any, ParamSpec

P = ParamSpec("P")


def tell(words: str) -> None:
    """A warning, at the line of the user's program that called into minidl."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(words, UserWarning, stacklevel=level)


def _is_ours(module: str) -> bool:
    return module.partition(".")[0] in ("minidl", "contextlib") and ".py" not in module and "%2E" not in module


class Block:
    """`with f():`, or `@f()` over a function. In a line of its own it does nothing, and says so."""

    def __init__(self, name: str, make: Callable[[], AbstractContextManager[None]]) -> None:
        self.name, self.make, self.used = name, make, False
        self.open: list[AbstractContextManager[None]] = []

    def __enter__(self) -> None:
        self.used = True
        self.open.append(self.make())
        self.open[-1].__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.open.pop().__exit__(*error)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.used = True

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self.make():
                return function(*args, **kwargs)

        return inside

    def __del__(self) -> None:
        if not self.used:
            warnings.warn(f"{self.name} in a line of its own does nothing: write `with {self.name}:`, and inside what "
                          "it is for", stacklevel=2)  # fmt: skip


def block(function: Callable[P, Iterator[None]]) -> Callable[P, Block]:
    """contextlib's contextmanager, whose blocks tell where they are never entered."""
    make = contextmanager(function)

    @wraps(function)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block:
        if args and callable(args[0]):
            raise TypeError(f"{function.__name__} over a function has parentheses: @{function.__name__}()")
        make(*args, **kwargs)  # raises here for wrong arguments
        return Block(f"{function.__name__}({', '.join(map(repr, args))})", partial(make, *args, **kwargs))

    return made
