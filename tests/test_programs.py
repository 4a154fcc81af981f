"""The three programs of tutorials/programs: at most 30 lines, run as scripts and as notebooks, and on their page."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
PROGRAMS = sorted((ROOT / "tutorials" / "programs").glob("*.py"))
PAGE = ROOT / "tutorials" / "pages" / "programs.md"
TORCH = {"batchnorm_cnn"}  # what needs PyTorch
NAMES = [pytest.param(path, id=path.stem, marks=[pytest.mark.pytorch] * (path.stem in TORCH)) for path in PROGRAMS]


def environment(folder: Path) -> dict[str, str]:
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "agg", "OPENBLAS_NUM_THREADS": "1"}


def check(name: str, printed: str, folder: Path, least: float = 0.85) -> None:
    """What each program must come to."""
    accuracy = float(re.findall(r"Result\(loss=[\d.]+, accuracy=([\d.]+)\)", printed)[-1])
    assert accuracy > least
    epochs = [int(n) for n in re.findall(r"^epoch +(\d+) \| train loss", printed, re.MULTILINE)]
    assert epochs == list(range(1, len(epochs) + 1))
    if name == "lenet5":
        assert re.search(
            r"switched to sgd after step \d+ \([12] epochs? finished\), rate 0.01: <lambda in line \d", printed
        )
    if name == "batchnorm_cnn":
        assert float(re.findall(r"PyTorch differs by at most ([\d.e-]+)", printed)[0]) < 1e-5
        assert {path.name for path in folder.glob("*.safetensors")} == {"cnn.safetensors", "back.safetensors"}
        assert (folder / "runs" / "cnn" / "summary.json").exists()
    if name == "keras_example":
        assert "Sequential, 34,826 parameters" in printed
        assert all((folder / f"{picture}.png").stat().st_size > 5000 for picture in ("curves", "mistakes"))


def test_there_are_three_and_none_is_longer_than_thirty_lines() -> None:
    assert len(PROGRAMS) == 3
    for path in PROGRAMS:
        assert len(path.read_text().splitlines()) <= 30, path.name


@pytest.mark.parametrize("path", NAMES)
def test_the_page_prints_it(path: Path) -> None:
    assert f"```python\n{path.read_text()}```" in PAGE.read_text(), f"{PAGE.name} prints another {path.name}"


@pytest.mark.parametrize("path", NAMES)
def test_as_a_script(path: Path, tmp_path: Path) -> None:
    if path.stem in TORCH:
        pytest.importorskip("torch")
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", path], cwd=tmp_path, env=environment(tmp_path),
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    check(path.stem, done.stdout, tmp_path)
    shown = PAGE.read_text().split(path.read_text())[1].split("```text\n")[1].split("```")[0]
    assert without_numbers(done.stdout.replace(str(tmp_path), "/home/ada")) == without_numbers(shown)


def without_numbers(printed: str) -> str:
    """What a program prints, where losses, times and the step of a switch may differ."""
    return re.sub(r" *\d[\d.,e-]*", "#", printed)


@pytest.mark.extra("nbclient", "nbformat", "ipykernel")
@pytest.mark.parametrize("path", NAMES)
def test_as_a_notebook(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    from nbformat import v4 as nbformat

    if path.stem in TORCH:
        pytest.importorskip("torch")
    for name, value in environment(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MPLBACKEND")  # as a notebook has it
    text = path.read_text()
    if path.stem == "keras_example":  # what it comes to after four epochs, the script has shown
        assert "fit(4)" in text
        text = text.replace("fit(4)", "fit(1)")
    cells = re.split(r"\n\n\n", text)
    notebook = nbformat.new_notebook(cells=[nbformat.new_code_cell(cell) for cell in cells])
    client = nbclient.NotebookClient(
        notebook, timeout=300, kernel_name="python3", coalesce_streams=True,
        resources={"metadata": {"path": str(tmp_path)}}, extra_arguments=["--log-level=ERROR"],
    )  # fmt: skip
    asyncio.run(client.async_execute())
    outputs: list[Any] = [output for cell in notebook.cells for output in cell.outputs]
    printed = "".join(output.text for output in outputs if output.output_type == "stream" and output.name == "stdout")
    assert not [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    check(path.stem, printed, tmp_path, least=0.5 if path.stem == "keras_example" else 0.85)
    pictures = [output for output in outputs if "image/png" in output.get("data", {})]
    assert len(pictures) == (2 if path.stem == "keras_example" else 0), "each picture once"
