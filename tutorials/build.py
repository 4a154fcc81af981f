"""Builds the lessons' notebooks from scripts: `python -m tutorials.build` runs each and saves its outputs and figures.

A lesson is a script in percent format, which diffs well and can be stepped through in any editor; the notebook beside
it is generated and never edited. `--check` verifies that both agree and runs every lesson, including the answers to
its exercises, without writing anything. With `--fast` it only compares.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import os
import re
import sys
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ANSWER = re.compile(r"<details>.*?</details>", re.DOTALL)
CODE = re.compile(r"```python\n(.*?)```", re.DOTALL)
TERMINAL_CODES = re.compile(r"\x1b\[[0-9;]*m")  # colours
PROGRESS = re.compile(r"(\d+ of \d+ runs done.*\n)+")  # what a study says every half minute, on a slow machine
BAR = {"text/plain": ""}  # what is left of one, of progress
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class TutorialError(Exception):
    """A lesson that does not run as it should, or a notebook that differs from its script."""


def scripts() -> list[Path]:
    """All lessons, in order."""
    return sorted(HERE.glob("[0-9][0-9]_*.py"))


def read(script: Path) -> Any:
    """The notebook of a script, not yet run. Cell ids count up, so a rebuild diffs well."""
    import jupytext

    notebook = jupytext.read(script, fmt="py:percent")
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    for i, cell in enumerate(notebook.cells):
        cell.id, cell.metadata = f"cell-{i:02}", {}
    return notebook


def answers(notebook: Any) -> list[tuple[int, str]]:
    """The code in the hidden answers, each with the index of its cell."""
    return [
        (i, code)
        for i, cell in enumerate(notebook.cells)
        if cell.cell_type == "markdown"
        for block in ANSWER.findall(cell.source)
        for code in CODE.findall(block)
    ]


def with_answers(notebook: Any, dataset: str | None = None) -> Any:
    """The notebook with each answer as a code cell, after the cell that hides it; on another data set if given."""
    from nbformat.v4 import new_code_cell

    for i, code in reversed(answers(notebook)):
        notebook.cells.insert(i + 1, new_code_cell(code))
    for cell in notebook.cells:
        if dataset and cell.cell_type == "code":
            cell.source = cell.source.replace('"mnist5k"', f'"{dataset}"')
    return notebook


async def run(notebook: Any, name: str) -> Any:
    """Run all cells in a fresh kernel, in the lessons' folder. Raises TutorialError if one fails."""
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError

    client = NotebookClient(
        notebook, timeout=300, startup_timeout=120, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": str(HERE)}},
        extra_arguments=["--log-level=ERROR"],  # the kernel's own messages are not about the lesson
    )  # fmt: skip
    try:
        await client.async_execute()
    except CellExecutionError as error:
        raise TutorialError(f"{name}: a cell failed\n{TERMINAL_CODES.sub('', str(error))}") from error
    except (RuntimeError, TimeoutError) as error:  # the kernel did not start, died, or took too long over a cell
        raise TutorialError(f"{name}: {error}") from error
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if "outputs" in cell:
            kept = [output for output in cell.outputs if not PROGRESS.fullmatch(output.get("text", ""))]
            cell.outputs = [output for output in kept if output.get("data") != BAR]
        for output in cell.get("outputs", []):
            output.get("metadata", {}).clear()
            if "image/png" in output.get("data", {}):
                output.data["image/png"] = smaller(output.data["image/png"])
            if output.output_type == "stream" and output.name == "stderr":
                raise TutorialError(f"{name}: a cell writes to stderr: {output.text}")
    return notebook


def smaller(png: str) -> str:
    """A PNG image (base64, as in notebooks) reduced to 64 colours, without metadata: a third of the size."""
    from PIL import Image

    packed = io.BytesIO()
    picture = Image.open(io.BytesIO(base64.b64decode(png))).convert("RGB")
    picture.quantize(64, dither=Image.Dither.NONE).save(packed, "PNG", optimize=True)
    return base64.b64encode(packed.getvalue()).decode() + "\n"


async def build(script: Path) -> None:
    """Make the notebook of a script."""
    import nbformat

    notebook = await run(read(script), script.name)
    text = nbformat.writes(notebook) + "\n"
    script.with_suffix(".ipynb").write_text(text, encoding="utf-8")


def in_step(script: Path) -> None:
    """Raise TutorialError unless the notebook has exactly the cells of its script and was run."""
    import nbformat

    path = script.with_suffix(".ipynb")
    again = f"run `python -m tutorials.build {script.stem}`"
    if not path.exists():
        raise TutorialError(f"{path.name} is missing: {again}")
    made, found = read(script), nbformat.read(path, as_version=4)
    if [(c.cell_type, c.source) for c in made.cells] != [(c.cell_type, c.source) for c in found.cells]:
        raise TutorialError(f"{path.name} differs from {script.name}: {again}")
    if any(c.cell_type == "code" and c.execution_count is None for c in found.cells):
        raise TutorialError(f"{path.name} has cells that were not run: {again}")


async def check(script: Path, fast: bool, dataset: str | None) -> None:
    """Check that the notebook agrees with its script and, unless `fast`, that all cells and answers run."""
    in_step(script)
    if not fast:
        await run(with_answers(read(script), dataset), script.name)


def chosen(words: Sequence[str]) -> list[Path]:
    """The lessons whose names start with one of the words ("03"); all if there are no words."""
    found = [s for s in scripts() if not words or any(s.name.startswith(word) for word in words)]
    if not found:
        raise TutorialError(f"no lesson starts with {' or '.join(words)}: there are {scripts()[0].stem} and so on")
    return found


async def do_all(tutorials: list[Path], args: argparse.Namespace) -> list[str]:
    """Build or check them, a few at a time; returns the problems."""
    free = asyncio.Semaphore(args.jobs)

    async def work(script: Path) -> str | None:
        async with free:
            start = time.perf_counter()
            try:
                await (check(script, args.fast, args.dataset) if args.check else build(script))
            except TutorialError as error:
                return str(error)
            print(f"{script.stem:40} {time.perf_counter() - start:6.1f} s", flush=True)
            return None

    return [problem for problem in await asyncio.gather(*map(work, tutorials)) if problem]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="tutorials.build", description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument(
        "tutorials", nargs="*", metavar="NN", help="start of a lesson's name, such as 03 (default: all)"
    )
    parser.add_argument("--check", action="store_true", help="write nothing: run all cells and answers, compare")
    parser.add_argument("--fast", action="store_true", help="with --check: compare only, run nothing")
    parser.add_argument("--dataset", help="with --check: run on this data set in place of mnist5k")
    parser.add_argument("--jobs", type=int, default=2, help="how many to run at once (default: 2)")
    args = parser.parse_args(argv)
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):  # several kernels at once share the cores
        os.environ.setdefault(variable, "1")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))

    try:
        problems = asyncio.run(do_all(chosen(args.tutorials), args))
    except (ImportError, TutorialError) as error:
        hint = ' (pip install ".[teaching]")' if isinstance(error, ImportError) else ""
        problems = [f"{error}{hint}"]
    for problem in problems:
        print(f"tutorials.build: error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # those of the libraries that run notebooks
        sys.exit(main())
