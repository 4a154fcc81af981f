"""The bench's own environment: each library chooses its instructions, or all are held to the same."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import bench


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
    assert "left out: OPENBLAS_CORETYPE=Nehalem" in capsys.readouterr().err


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
    worker = bench.Worker("before", root=tmp_path)
    try:
        with pytest.raises(RuntimeError, match="the other one"):
            worker.run("mlp", "adam", 8, 1)
    finally:
        worker.close()
