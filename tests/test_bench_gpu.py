"""The GPU bench, as far as it runs without a GPU."""

import importlib.metadata
import json
import sys

import pytest

from minidl import backend
from tests import bench_gpu


def dry_run(tmp_path, *columns):
    args = ["--dry-run", "--models", "mlp", "cnn", "--batches", "4", "--columns", *columns]
    status = bench_gpu.main([*args, "--json", str(tmp_path / "bench.json")])
    return status, json.loads((tmp_path / "bench.json").read_text())


def test_a_dry_run_prints_the_table_and_writes_the_numbers(tmp_path, capsys):
    status, record = dry_run(tmp_path, "minidl")
    assert status == 0
    assert record["dry_run"] is True
    assert list(record["results"]) == ["mlp, batch 4", "cnn, batch 4"]
    for result in record["results"].values():
        assert len(result["samples_per_second"]["minidl"]) == 2
        assert result["microseconds"]["minidl"]["step"] >= result["microseconds"]["minidl"]["host"] > 0
    printed = capsys.readouterr().out
    for case in record["results"]:
        assert printed.count(case) == 2


@pytest.mark.pytorch
def test_pytorch_runs_beside_it_and_what_can_not_is_left_out(tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    status, record = dry_run(tmp_path, "minidl", "torch", "torch graph")
    assert status == 0
    for result in record["results"].values():
        assert set(result["samples_per_second"]) == {"minidl", "torch"}
    assert "torch graph left out: a CUDA graph needs a GPU" in capsys.readouterr().err


def test_without_a_gpu_it_says_so_and_ends_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_loaded", {"cpu": backend.CPU})
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(importlib.metadata, "distributions", list)
    assert bench_gpu.main(["--json", str(tmp_path / "bench.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tests.bench_gpu: error: device 'gpu' needs CuPy")
    assert error.count("\n") == 1
    assert not (tmp_path / "bench.json").exists()
