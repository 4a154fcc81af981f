"""What one reads to follow one training step of a perceptron, from a batch of arrays to the update, in lines.

    python -m tests.reading_path            the operations as they are written in ops*.py
    python -m tests.reading_path --fast     as the step runs by default, with the fast forms of minidl/fast

The entry points are in `path`. A real step is taken and every call noted; what counts is each function with its
decorators and docstring, and of each class whose methods were called what it says before them: its docstring and
attributes. The way from bytes to a batch is counted apart; so is, for the plain forms, the one hook of minidl/fast that
they run in (`same_bits`: it holds BLAS to one thread, and changes nothing that a reader follows).
"""

from __future__ import annotations

import argparse
import ast
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidl import Tensor, no_fast, reference_only
from minidl.data import load_mnist
from minidl.data.batches import batches
from minidl.data.splits import split
from minidl.optim import Adam
from minidl.trainer import Trainer
from minidl.training.models import build_model

ROOT = Path(__file__).resolve().parents[1]
FAST = ROOT / "minidl" / "fast"
Calls = set[tuple[str, int]]  # file and first line of a function


def path(fast: bool = False) -> dict[str, dict[str, int]]:
    """{file: {function or class: lines}} of a step of the standard perceptron with Adam."""
    splits = split(load_mnist(name="mnist5k"))
    model = build_model("mlp", splits.image_size, splits.classes)
    trainer = Trainer(model, Adam(model.parameters()), splits)
    rng = np.random.default_rng(0)
    x, labels = rng.random((128, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, 128)
    with no_fast() if fast else reference_only():  # what is compiled can't be followed
        trainer.train_step(Tensor(x), labels)  # what happens once, such as searching for BLAS, is over
        trainer.progress.count_step(len(labels), 0.0)
        found = calls(lambda: trainer.train_step(Tensor(x), labels))
        return lines_of(found if fast else {call for call in found if not Path(call[0]).is_relative_to(FAST)})


def bytes_to_batch() -> dict[str, dict[str, int]]:
    """The same for the way before that: the files of the embedded digits, the splits, a batch of Tensors."""

    def first_batch() -> Any:
        train = split(load_mnist(name="mnist5k")).train
        return next(batches(train.images, train.labels, 128, np.random.default_rng(0)))

    with reference_only():
        return lines_of(calls(first_batch))


def calls(run: Callable[[], Any]) -> Calls:
    """All functions of this checkout that run() calls."""
    found: Calls = set()

    def note(frame: Any, event: str, _: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(ROOT) and "site-packages" not in path.parts:
            found.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(before)
    return {(file, line) for file, line in found if file != __file__}


def lines_of(found: Calls) -> dict[str, dict[str, int]]:
    """The functions that were called, and the heads of their classes, with the lines of each. None counts twice."""
    by_file: defaultdict[str, set[int]] = defaultdict(set)
    for file, line in found:
        by_file[file].add(line)
    return {
        str(Path(file).relative_to(ROOT)): _read(ast.parse(Path(file).read_text("utf-8")), lines, "")
        for file, lines in sorted(by_file.items())
    }


def _read(tree: ast.Module | ast.ClassDef, called: set[int], prefix: str) -> dict[str, int]:
    """{name: lines}. A function inside another, as a vjp is, is part of it."""
    parts: dict[str, int] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(d.lineno for d in node.decorator_list)])
            last = node.end_lineno or first
            if called & set(range(first, last + 1)):
                parts[prefix + node.name] = last - first + 1
        elif isinstance(node, ast.ClassDef) and (methods := _read(node, called, f"{node.name}.")):
            attributes = [n for n in node.body if not isinstance(n, ast.FunctionDef)]  # the docstring is one of them
            head = node.body[0].lineno - node.lineno + sum((n.end_lineno or 0) - n.lineno + 1 for n in attributes)
            parts |= {f"class {node.name}": head, **methods}
    return parts


def total(path: dict[str, dict[str, int]]) -> int:
    """Lines in all."""
    return sum(sum(parts.values()) for parts in path.values())


def main(argv: Sequence[str] | None = None) -> int:
    """Print the path, file by file."""
    parser = argparse.ArgumentParser(prog="tests.reading_path", description=__doc__.split("\n")[0])
    parser.add_argument("--fast", action="store_true", help="as the step runs by default")
    found = path(parser.parse_args(argv).fast)
    for file, parts in found.items():
        print(f"{sum(parts.values()):4} {file}")
        for name, lines in parts.items():
            print(f"     {lines:4} {name}")
    print(f"{total(found)} lines in {len(found)} files")
    before = bytes_to_batch()
    print(f"before that, from bytes to a batch: {total(before)} lines in {len(before)} files")
    return 0


if __name__ == "__main__":
    sys.exit(main())
