"""The study on a device that is no CPU: the tests' own, whose kernels are the GPU's. See also test_gpu_graph.py."""

import gc
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from minidl.data import load_mnist
from minidl.study.__main__ import main
from minidl.study.check import check
from minidl.study.execute import execute, run_study
from minidl.study.made import device_of, differing
from minidl.study.pool import LocalPool
from minidl.study.runs import perform
from minidl.study.store import Store
from minidl.study.streams import AT_ONCE, SideBySide, local_pool
from minidl.study.study import open_plan
from tests.tiny_study import ONE

SMALL = replace(ONE, contestants=ONE.contestants[:2], seeds=(0, 1), rounds=((2, 1),))
pytestmark = pytest.mark.filterwarnings("ignore:the GPU kernel of")


@pytest.fixture
def finished(device, tmp_path):
    """The small study on the device, two runs at a time."""
    return run_study(SMALL, tmp_path / "study", at_once=2, device="counting")


@pytest.mark.extra("jinja2", "matplotlib")
def test_a_study_on_a_device(finished, tmp_path, capsys):
    records = finished.store.all()
    assert not finished.missing()
    assert not finished.crashed()
    assert {device_of(record["made"]) for record in records.values()} == {"counting"}
    assert all(len(record["made"]["device"]["kernels"]) == 16 for record in records.values())
    assert {row["device"] for row in finished.rows()} == {"counting"}
    assert "counting" in (tmp_path / "study" / "report.html").read_text()
    # The rows are the CPU's but for rounding: the same splits, weights, orders and steps.
    run = next(run for _, run in finished.wanted() if run.final)
    here, there = perform(run)["result"], records[run.key]["result"]
    assert there["steps"] == here["steps"]
    assert there["val_accuracy"] == pytest.approx(here["val_accuracy"], abs=0.02)
    assert there["test_loss"] == pytest.approx(here["test_loss"], rel=1e-3)
    for point, other in zip(there["curve"], here["curve"], strict=True):
        assert point["train_loss"] == pytest.approx(other["train_loss"], rel=1e-3)
    # They are made again with the same bits, one at a time too.
    said = []
    assert check(Store(tmp_path / "study"), 4, None, 1, 5, said.append)
    assert [line.split()[0] for line in said[1:]] == ["same"] * 4


def test_rows_of_two_devices_never_mix(device, tmp_path):
    data = load_mnist(name="mnist5k")
    there = open_plan(SMALL, data, tmp_path / "study", device="counting")
    run = there.missing()[0]
    there.store.put(run, perform(run, device="counting"))
    there.check_alike()
    with pytest.raises(ValueError, match=r"device kernels \w+, name counting and cpu.*Use the --device"):
        open_plan(SMALL, data, tmp_path / "study").check_alike()
    # nor where a worker of the other kind hands one in
    other = open_plan(SMALL, data, tmp_path / "other", device="counting")
    with ThreadPoolExecutor(1) as pool:
        execute(other, pool, 1, work=perform)
    assert not other.store.all()
    assert all("it was made in another environment than the others" in error for error in other.crashed().values())


@pytest.mark.extra("jinja2", "matplotlib")
def test_a_device_that_is_not_there(tmp_path, capsys):
    assert main(["--device", "tpu", "--out", str(tmp_path / "s")]) == 2
    assert "unknown device 'tpu': choose cpu" in capsys.readouterr().err
    assert not (tmp_path / "s").exists()


@pytest.mark.extra("jinja2", "matplotlib")
def test_a_card_and_a_cluster_are_not_for_one_command(device, tmp_path, capsys):
    assert main(["--device", "counting", "--cluster", "tcp://127.0.0.1:1", "--out", str(tmp_path / "s")]) == 2
    assert "is a card of this machine" in capsys.readouterr().err


def test_the_first_run_goes_alone_and_the_others_side_by_side(device):
    together, lock, most = threading.Barrier(3, timeout=20), threading.Lock(), [0, 0]

    def work(i):
        with lock:
            most[0] += 1
            most[1] = max(most)
        if i:
            together.wait()  # passes only where three are at work at once
        else:
            assert most[0] == 1
        with lock:
            most[0] -= 1
        return i

    with SideBySide("counting", 3) as pool:
        assert pool.submit(work, 0).result() == 0
        assert [f.result() for f in [pool.submit(work, i) for i in (1, 2, 3)]] == [1, 2, 3]
    assert most[1] == 3


def test_a_failed_first_run_is_followed_by_another_first(device):
    with SideBySide("counting", 2) as pool:
        with pytest.raises(ZeroDivisionError):
            pool.submit(lambda: 1 / 0).result()
        assert pool.submit(lambda: 5).result() == 5


def test_what_a_run_held_on_the_card_is_given_back(device):
    class Ring:
        def __init__(self):
            self.itself = self

    held = []

    def work():
        ring = Ring()
        held.append(weakref.ref(ring))

    gc.disable()  # it might come by itself
    try:
        with SideBySide("counting", 2) as pool:
            for _ in range(4):
                pool.submit(work).result()
    finally:
        gc.enable()
    assert [ring() for ring in held] == [None] * 4


def test_where_runs_are_made(device):
    pool, places = local_pool("counting", None, True)
    with pool:
        assert isinstance(pool, SideBySide)
        assert places == AT_ONCE
    pool, places = local_pool("cpu", 1, False)
    with pool:
        assert isinstance(pool, LocalPool)
        assert places == 1


def test_what_differs_is_told_in_words():
    cpu = {"pins": {"none": "Haswell"}}
    gpu = {"pins": {"none": "gpu"}, "device": {"name": "gpu", "card": "NVIDIA H200"}}
    assert differing(cpu, gpu) == [
        "pins unrestricted (Haswell) and unrestricted (gpu)",
        "device cpu and card NVIDIA H200, name gpu",
    ]
    own = {"pins": {"OPENBLAS_CORETYPE": "Zen"}}
    assert differing(cpu, own) == ["pins unrestricted (Haswell) and unrestricted (OPENBLAS_CORETYPE=Zen)"]
