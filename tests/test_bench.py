"""The bench's own environment: each library chooses its instructions, or all are held to the same."""

from __future__ import annotations

import importlib
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import bench, bench_busy, bench_field, bench_more, bench_products, bench_turns, bench_workers
from tests.bench_cases import cases
from tests.field import BY_NAME


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, str]]:
    """The environments that the program is started anew with."""
    for name in (*bench.AVX2, "OPENBLAS_L2_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ANOTHER", "stays")
    found: list[dict[str, str]] = []
    monkeypatch.setattr(os, "execve", lambda program, args, env: found.append(env))
    return found


def test_nothing_is_started_anew_where_nothing_holds_a_library(started: list[Any]) -> None:
    bench.choose_instructions(avx2=False)
    assert not started


def test_what_holds_a_library_is_left_out_and_named(
    started: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Nehalem")
    monkeypatch.setenv("OPENBLAS_L2_SIZE", "512")
    bench.choose_instructions(avx2=False)
    (env,) = started
    assert not env.keys() & {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"}
    assert env["ANOTHER"] == "stays"
    assert "removed from the environment: OPENBLAS_CORETYPE=Nehalem" in capsys.readouterr().err


def test_avx2_holds_all_libraries_once(started: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    bench.choose_instructions(avx2=True)
    (env,) = started
    assert bench.AVX2.items() <= env.items()
    for name, value in bench.AVX2.items():
        monkeypatch.setenv(name, value)
    bench.choose_instructions(avx2=True)
    assert len(started) == 1, "it would start itself for ever"


def test_the_kernels_are_named() -> None:
    assert np.__version__ in bench.kernels()
    assert "threads" in bench.kernels() or "unknown" in bench.kernels()


def test_before_is_the_minidl_of_the_other_checkout(tmp_path: Path) -> None:
    (tmp_path / "minidl").mkdir()
    (tmp_path / "minidl" / "__init__.py").write_text("raise RuntimeError('the other one')")
    worker = bench_turns.Worker("before", root=tmp_path)
    try:
        with pytest.raises(RuntimeError, match="the other one"):
            worker.run("mlp", "adam", 8, 1)
    finally:
        worker.close()


DIGITS = {"digits-mlp": 32, "digits-cnn": 32}


def test_the_field_is_one_table_with_its_means(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(bench_turns, "SETTLE", 0.0)
    file = tmp_path / "field.json"
    columns = {"minidl": bench_turns.ROOT, "before": bench_turns.ROOT, "gemm": bench_turns.ROOT}
    setting = bench_turns.Setting(columns, rounds=2, restarts=1, turn=0.001, patience=0)
    bench_field.field(cases([BY_NAME[name] for name in DIGITS], ["own"]), setting, {"date": "today"}, file)
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split()[:7] == ["ms", "a", "step", "(median)", "batch", "minidl", "before"]
    for line, (name, batch) in zip(lines, DIGITS.items(), strict=False):
        found_name, found_batch, ours, before, gemm, *_ = line.split()
        assert (found_name, int(found_batch)) == (name, batch)
        assert 0 < float(gemm) < min(float(ours), float(before))
    assert "before / minidl:" in lines[-2]
    assert "of 2 networks" in lines[-2]
    written = json.loads(file.read_text())
    assert written["date"] == "today"
    assert [len(result["ms"]["before"]) for result in written["results"]] == [2, 2]


def test_a_table_is_measured_in_pieces(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The second part finds the first in the file, and the means are of both; what is measured again counts once."""
    speed = {"digits-mlp": 2.0, "digits-cnn": 8.0}

    def compare(setting: Any, model: str, opt: str, batch: int) -> dict[str, list[float]]:
        return {"minidl": [speed[model.removeprefix("field:")] * 100], "before": [100.0]}

    monkeypatch.setattr(bench_field, "compare", compare)
    columns = {"minidl": bench_turns.ROOT, "before": bench_turns.ROOT}
    file, setting = tmp_path / "field.json", bench_turns.Setting(columns)
    record = {"processor": "one", "kernels": "these", "avx2": False}
    for name in ("digits-mlp", "digits-cnn", "digits-cnn"):
        bench_field.field(cases([BY_NAME[name]], ["own"]), setting, record, file)
    assert "geometric mean 4.00 of 2 networks" in capsys.readouterr().out.splitlines()[-1]
    for other in ({"processor": "another"}, {"avx2": True}):
        with pytest.raises(SystemExit, match="another processor or with other columns"):
            bench_field.field(cases([BY_NAME["cnn"]], ["own"]), setting, record | other, file)


def test_a_ratio_is_to_the_best_mode_of_pytorch() -> None:
    speeds = {"minidl": [6.0, 8.0], "torch": [1.0, 1.0], "torch-fused": [2.0, 4.0], "before": [3.0, 2.0]}
    assert bench_field.over(speeds) == {bench_field.BEST: [3.0, 2.0], "before / minidl": [2.0, 4.0]}
    assert bench_field.over({"torch": [1.0]}) == {}


def test_models_of_any_size() -> None:
    assert bench_workers.network("field:keras").name == "keras"
    assert [layer.out for layer in bench_workers.network("mlp:64").layers if layer.out] == [64, 64, 10]
    assert bench_workers.examples("cnn:56", 4)[0][0].shape == (4, 1, 56, 56)


def test_a_column_has_its_own_environment() -> None:
    worker = bench_turns.Worker("minidl-no-fast")
    try:
        environ = Path(f"/proc/{worker.process.pid}/environ")
        worker.run("field:digits-mlp", "adam", 8, 1)
        assert not environ.exists() or b"MINIDL_NO_FAST=1" in environ.read_bytes()
    finally:
        worker.close()


COMPILED = """
import numba, numpy as np

@numba.njit(nogil=True, error_model="numpy")
def adam(w, g, m, v, lr):
    b, c = np.float32(0.9), np.float32(0.1)
    for i in range(w.size):
        m[i] = b * m[i] + c * g[i]
        v[i] = b * v[i] + c * g[i] * g[i]
        w[i] -= lr * m[i] / np.sqrt(v[i])

adam(*(np.ones(64, np.float32) for _ in range(4)), np.float32(1))
print(adam.inspect_asm(adam.signatures[0]))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="AVX2 is of x86")
def test_avx2_holds_compiled_loops_too() -> None:
    pytest.importorskip("numba", reason="numba is not installed: pip install '.[fast]'")
    run = subprocess.run(
        [sys.executable, "-c", COMPILED], env=os.environ | bench.AVX2, capture_output=True, text=True, check=True
    )
    assert "ymm" in run.stdout
    assert "zmm" not in run.stdout


def test_the_shares_of_all_threads_are_all_products() -> None:
    found = bench_products.products("cnn", 128)
    assert [of.sizes for of in found[:3]] == [(128 * 784, 9, 16), (16, 128 * 784, 9), (128 * 196, 144, 32)]
    assert len(found) == 11, "the first layer needs no gradient of its input"
    for of in (*found, *bench_products.products("field:odd", 7)):
        for cut in (bench_products.image_cuts if of.pixels else bench_products.dense_cuts)(of, 2):
            (n, k), m = cut.a.shape[-2:], cut.b.shape[-1]
            pieces = cut.calls * (len(cut.out) if cut.out.ndim == 3 else 1) + cut.rest
            done, share = pieces * n * k * m, np.prod(of.sizes) / 2
            piece = n * k * m
            assert share <= done < share + max(piece, share / 3), "a share is half of it, rounded up to whole pieces"


def test_beside_busy_processes(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_turns, "SETTLE", 0.0)
    columns = dict.fromkeys(("minidl", "minidl-one"), bench_turns.ROOT)
    setting = bench_turns.Setting(columns, rounds=2, restarts=1, turn=0.001, patience=0)
    bench_busy.busy(["field:digits-mlp"], setting, 8, "python", {}, None)
    *_, alone, busy = capsys.readouterr().out.splitlines()
    for line, when in ((alone, "alone"), (busy, "busy")):
        name, found, default, one, torch, before, ratio, *_ = line.split()
        assert (name, found, torch, before) == ("field:digits-mlp", when, "-", "-")
        assert float(default) > 0
        assert float(one) > 0
        assert float(ratio) > 0


def test_a_command_costs_time_and_memory() -> None:
    seconds, memory = bench_more.Command(["-c", "import os; print(os.environ['A'])"], env={"A": "OUT"}).cost() or (0, 0)
    assert 0 < seconds < 60
    assert 1 < memory < 1000
    assert bench_more.Command(["-c", "raise SystemExit(3)"]).cost() is None


@pytest.mark.parametrize("file", sorted(Path(__file__).parent.glob("[!t]*.py")), ids=lambda file: file.stem)
def test_every_program_here_finds_what_it_imports(file: Path) -> None:
    """A slow program is no part of the gate: a name that it imports may be gone without anyone noticing."""
    try:
        importlib.import_module(f"tests.{file.stem}")
    except ModuleNotFoundError as error:  # of an extra or a peer that is not installed
        if str(error.name).split(".")[0] in {"minidl", "tests", "tutorials"}:
            raise
