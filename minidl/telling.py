"""Warnings about probable mistakes, at the user's own line, with what to write instead; commands quoted for the shell;
and counts in words."""

from __future__ import annotations

import os
import re
import shlex
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import partial, wraps
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
Function = TypeVar("Function", bound=Callable[..., Any])
Value = TypeVar("Value")


def tell(words: str) -> None:
    """Warn at the line of the user's program that called into minidl, or into a library that did."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None and _is_ours(frame.f_globals.get("__name__", "")):
        frame, level = frame.f_back, level + 1
    warnings.warn(words, UserWarning, stacklevel=level)


def typed(*words: str) -> str:
    """A command quoted for this system's shell. On Windows, only double quotes work in both shells."""
    if os.name != "nt":
        return shlex.join(words)
    return " ".join(word if re.fullmatch(r"[\w\\/:.+=-]+", word) else f'"{word}"' for word in words)


def is_terminal(stream: Any) -> bool:
    """Whether a progress bar can be redrawn there: not in IDLE's window, which says that it is a terminal, and not
    without a console (.pyw), where the stream is None."""
    try:
        return bool(stream.isatty() and os.isatty(stream.fileno()))  # a notebook's has the server's terminal as file
    except (AttributeError, OSError, ValueError):
        return False


def counted(n: int, word: str) -> str:
    """1 epoch, 2 epochs, 1,000 epochs."""
    return f"{n:,} {word}{'s' * (n != 1)}"


def _is_ours(module: str) -> bool:
    ours = module.partition(".")[0] in ("minidl", "contextlib", "functools", "numpy", "pandas", "scipy")
    return ours and "%2E" not in module  # loader.py puts %2E in users'


def is_async(function: Any) -> bool:
    """Whether a call only makes what is awaited, or iterated over, later."""
    return iscoroutinefunction(function) or isasyncgenfunction(function)


def within(make: Callable[[], AbstractContextManager[Any]], function: Function) -> Function:
    """The function, each call of it in a block of its own. It is looked up in `__wrapped__`: there IPython's
    %autoreload puts the new one when the user has changed its file, and not in the variables of this call."""

    @wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with make():
            return inside.__wrapped__(*args, **kwargs)

    return cast(Function, inside)


class _Entered(threading.local):
    """The blocks that this thread has entered and not left."""

    def __init__(self) -> None:
        self.blocks: list[AbstractContextManager[None]] = []


class Block:
    """`with f():`, or `@f()` on a function. On a line of its own it does nothing, and warns."""

    def __init__(self, name: str, make: Callable[[], AbstractContextManager[None]]) -> None:
        self.name, self.make, self.used = name, make, False
        self.entered = _Entered()

    def __enter__(self) -> None:
        self.used = True
        self.entered.blocks.append(self.make())
        self.entered.blocks[-1].__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self.entered.blocks.pop().__exit__(*error)

    def __call__(self, function: Function) -> Function:
        self.used = True
        if is_async(function):
            raise TypeError(f"{self.name} on an async function has ended when it runs: write `with {self.name}:` in it")
        if isgeneratorfunction(function):
            return cast(Function, self._over_generator(function))
        return within(self.make, function)

    def _over_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Each value is computed inside the block; the code that consumes it runs outside."""

        @wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            values = inside.__wrapped__(*args, **kwargs)
            while True:
                with self.make():
                    try:
                        value = next(values)
                    except StopIteration as end:
                        return end.value
                yield value

        return inside

    def __repr__(self) -> str:  # as a cell's last value it is kept and shown, and __del__ is not called
        remedy = f"write `with {self.name}:`, and put the code it is for inside"
        return f"{self.name} on a line of its own does nothing: {remedy}"

    def __del__(self) -> None:
        if not self.used:
            warnings.warn(repr(self), stacklevel=2)


@contextmanager
def holding(variable: ContextVar[Value], value: Value) -> Iterator[None]:
    """Inside, the context variable has this value, in this thread."""
    token = variable.set(value)
    try:
        yield
    finally:
        variable.reset(token)


def block(make: Callable[P, AbstractContextManager[None]]) -> Callable[P, Block]:
    """On a @contextmanager: a block that is never entered warns."""

    @wraps(make)
    def made(*args: P.args, **kwargs: P.kwargs) -> Block:
        if args and callable(args[0]):
            raise TypeError(f"{make.__name__} on a function needs parentheses: @{make.__name__}()")
        make(*args, **kwargs)  # raises here for wrong arguments
        return Block(f"{make.__name__}({', '.join(map(repr, args))})", partial(make, *args, **kwargs))

    return made
