"""The GPU bench, as far as it runs without a GPU."""

import importlib.metadata
import json
import sys

import pytest

from minidl import backend
from tests import bench_gpu, gpu_anatomy
from tests.bench_cases import Case, cases, means
from tests.field import BY_NAME
from tests.gpu_columns import COLUMNS, SCAN, Column

MLP, ODD = BY_NAME["digits-mlp"], BY_NAME["odd"]


def dry_run(tmp_path, *columns, networks=("digits-mlp", "digits-cnn"), more=()):
    args = ["--dry-run", "--networks", *networks, "--columns", *columns, *more]
    status = bench_gpu.main([*args, "--json", str(tmp_path / "bench.json")])
    return status, json.loads((tmp_path / "bench.json").read_text())


def test_a_dry_run_prints_the_table_and_writes_the_numbers(tmp_path, capsys):
    status, record = dry_run(tmp_path, "minidl")
    assert status == 0
    assert record["dry_run"] is True
    assert [result["network"] for result in record["results"]] == ["digits-mlp", "digits-cnn"]
    printed = capsys.readouterr().out
    for result in record["results"]:
        assert result["batch"] == 4
        assert len(result["us"]["minidl"]) == 2
        assert min(result["us"]["minidl"]) > 0
        assert printed.count(result["network"]) == 1


def test_the_field_runs_each_network_at_its_own_batch_and_at_others(tmp_path):
    more = ["--field", "--batches", "own", "8"]
    status, record = dry_run(tmp_path, "minidl", networks=("digits-mlp", "odd"), more=more)
    assert status == 0
    assert [(r["network"], r["batch"], r["classes"]) for r in record["results"]] == [
        ("digits-mlp", 32, ["own"]), ("digits-mlp", 8, ["8"]), ("odd", 33, ["own"]), ("odd", 8, ["8"]),
    ]  # fmt: skip


def test_a_batch_of_two_classes_is_measured_once():
    assert cases([MLP], ["own", "32", "64"]) == [Case(MLP, 32, ["own", "32"]), Case(MLP, 64, ["64"])]


def test_without_names_the_field_is_all_networks_and_what_compiles_long_is_left_out():
    field, three = bench_gpu.parse(["--field"]), bench_gpu.parse([])
    assert field.networks == list(BY_NAME)
    assert field.batches == ["own"]
    assert set(COLUMNS) - set(field.columns) == {"torch.compile"}
    assert three.networks == ["mlp", "mlp1024", "cnn"]
    assert three.batches == ["128", "1024"]
    assert three.columns == list(COLUMNS)


@pytest.mark.parametrize("batch", ["0", "all", "-1"])
def test_a_batch_is_a_number_or_own(batch, capsys):
    with pytest.raises(SystemExit):
        bench_gpu.parse(["--field", f"--batches={batch}"])
    assert "batches" in capsys.readouterr().err


def test_a_column_that_fails_says_why_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    calls = 0

    def fails_late():
        nonlocal calls
        calls += 1
        if calls > 8:  # past the warm-up
            raise RuntimeError("late\nerror")

    monkeypatch.setitem(COLUMNS, "never", Column(lambda *_: 1 / 0, "json"))
    monkeypatch.setitem(COLUMNS, "late", Column(lambda *_: (fails_late, lambda: None), "json"))
    monkeypatch.setitem(COLUMNS, "absent", Column(lambda *_: 1 / 0, "minidl.no_such.module"))
    status, record = dry_run(tmp_path, "never", "minidl", "late", "absent", networks=("digits-mlp",))
    assert status == 0
    assert list(record["results"][0]["us"]) == ["minidl"]
    assert capsys.readouterr().err.splitlines() == [
        "  absent skipped: there is no minidl.no_such.module",
        "  digits-mlp 4: never skipped: ZeroDivisionError: division by zero",
        "  digits-mlp 4: late skipped: RuntimeError: late error",
    ]


def test_ratios_are_of_paired_rounds_and_to_the_captured_step():
    times = {"minidl": [9.0, 9.0], "minidl captured": [2.0, 4.0], "torch graph": [3.0, 4.0], "jax": [1.0, 1.0]}
    assert bench_gpu.ratios(times) == {"torch graph / minidl": [1.5, 1.0], "jax / minidl": [0.5, 0.25]}
    assert bench_gpu.ratios({"torch": [1.0]}) == {}
    del times["minidl captured"]
    assert bench_gpu.ratios(times)["torch graph / minidl"] == [3 / 9, 4 / 9]


def test_lines_and_geometric_means_by_class():
    results = [
        (Case(MLP, 32, ["own", "32"]), {"minidl": [1.0, 1.0, 1.0], "torch graph": [2.0, 4.0, 9.0]}),
        (Case(ODD, 33, ["own"]), {"minidl": [4.0], "torch graph": [1.0]}),
        (Case(ODD, 32, ["32"]), {"torch graph": [1.0]}),
    ]
    text = bench_gpu.line(*results[0], ["minidl", "jax", "torch graph"])
    assert text.split() == ["digits-mlp", "32", "1.0", "-", "4.0", "4.00", "(2.00", "to", "9.00)"]
    assert [" ".join(line.split()) for line in means([(c, bench_gpu.ratios(t)) for c, t in results])] == [
        "batch 32, torch graph / minidl: geometric mean 4.00 of 1 networks, 0 below 1, least 4.00 (digits-mlp)",
        "batch own, torch graph / minidl: geometric mean 1.00 of 2 networks, 1 below 1, least 0.25 (odd)",
    ]


def test_the_anatomy_of_a_step_runs_on_the_cpu_without_kernels(capsys):
    assert bench_gpu.main(["--dry-run", "--anatomy", "digits-mlp", "--columns", "minidl"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[-2].startswith("digits-mlp, batch 4")
    name, step, host, kernels, launches = printed[-1].split()
    assert (name, kernels, launches) == ("minidl", "-", "-")
    assert float(step.replace(",", "")) >= float(host.replace(",", "")) > 0


def test_kernels_are_added_up_by_name_and_the_shortest_are_one_line():
    events = [("long", 3.0), ("a  b", 1.0), ("long", 5.0), ("a b", 1.0), *((f"k{i}", 0.5) for i in range(30))]
    kernels = gpu_anatomy.by_name(events, steps=2)
    assert kernels[:2] == [("long", 1.0, 4.0), ("a b", 1.0, 1.0)]
    lines = [" ".join(line.split()) for line in gpu_anatomy.table(kernels)]
    assert lines[1] == "4.0 32.0% 1.0 long"
    assert lines[-1] == "1.8 14.0% 3.5 7 others"
    assert len(lines) == 1 + gpu_anatomy.TOP + 1


@pytest.mark.pytorch
def test_pytorch_runs_beside_it_and_what_can_not_is_left_out(tmp_path, capsys):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    status, record = dry_run(tmp_path, "minidl", "torch", "torch graph", networks=("digits-mlp", "digits-cnn"))
    assert status == 0
    for result in record["results"]:
        assert set(result["us"]) == {"minidl", "torch"}
    captured = capsys.readouterr()
    assert "torch graph skipped: RuntimeError: a CUDA graph needs a GPU" in captured.err
    assert "torch / minidl: geometric mean" not in captured.err
    assert "geometric mean" in captured.out


@pytest.mark.extra("jax")
def test_jax_runs_beside_it_one_step_a_call_and_many(tmp_path):
    status, record = dry_run(tmp_path, "minidl", "jax", "jax scan", networks=("digits-mlp",))
    assert status == 0
    assert set(record["results"][0]["us"]) == {"minidl", "jax", "jax scan"}


@pytest.mark.extra("jax")
@pytest.mark.parametrize("network", ["digits-mlp", "bn-mlp"])
def test_jax_trains_as_minidl_does(network):
    import jax

    from minidl import Tensor, ops
    from minidl.backend import get_backend
    from minidl.optim import Adam
    from tests.field import examples, minidl_net
    from tests.gpu_columns import Setting, jax_parts

    setting = Setting(get_backend("cpu"), "cpu", 1, 0.01, 2)
    update, state, _ = jax_parts(BY_NAME[network], 16, setting)
    net = minidl_net(BY_NAME[network])
    optimizer = Adam(net.parameters(), lr=1e-3)
    for x, y in examples(BY_NAME[network], 16)[:5]:
        state, theirs = jax.jit(update)(state, x, y)
        optimizer.zero_grad()
        ours = ops.cross_entropy(net(Tensor(x)), y)
        ours.backward()
        optimizer.step()
        assert ours.item() == pytest.approx(float(theirs), rel=1e-3)


def test_a_scan_counts_its_steps():
    assert COLUMNS["jax scan"].steps == SCAN
    assert all(column.steps == 1 for name, column in COLUMNS.items() if name != "jax scan")


def test_without_a_gpu_it_says_so_and_ends_with_2(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(backend, "_loaded", {"cpu": backend.CPU})
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(importlib.metadata, "distributions", list)
    assert bench_gpu.main(["--json", str(tmp_path / "bench.json")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tests.bench_gpu: error: device 'gpu' needs CuPy")
    assert error.count("\n") == 1
    assert not (tmp_path / "bench.json").exists()
