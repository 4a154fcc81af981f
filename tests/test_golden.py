"""The bits hold: the first steps of each optimizer have the losses of golden.json, to rounding (see golden.py)."""

from contextlib import nullcontext

import pytest

from minidl import no_fast
from minidl.training.run import BITS
from tests.golden import AT, MODELS, OPTIMIZERS, golden, in_double, ours, pytorchs

CASES = [(model, opt) for model in MODELS for opt in OPTIMIZERS]


def test_the_file_is_of_these_bits():
    """Raised BITS? `python -m tests.golden --update` makes the file anew, from PyTorch."""
    assert golden()["bits"] == BITS
    assert golden()["steps"] == list(AT)


LOOPS = pytest.mark.parametrize("loops", [pytest.param(True, marks=pytest.mark.extra("numba")), False])


@LOOPS
@pytest.mark.parametrize(("model", "opt"), CASES)
def test_losses_are_golden(model, opt, loops):
    """By the compiled loops up to the eighth step: at SGD's rate of 0.1 theirs part for good where two numbers all but
    tie, as ours in NumPy might. In float64, below, they don't."""
    with nullcontext() if loops else no_fast():
        losses, _ = ours(model, opt)
    to = -1 if loops else None
    assert losses[:to] == pytest.approx(golden()["losses"][model][opt][:to], rel=5e-5)


@LOOPS
@pytest.mark.parametrize(("model", "opt"), CASES)
def test_losses_are_golden_in_double(model, opt, loops):
    with nullcontext() if loops else no_fast():
        _, batches = ours(model, opt)
        assert in_double(model, opt, batches) == pytest.approx(golden()["losses"][model][opt], rel=1e-9)


@pytest.mark.pytorch
@pytest.mark.parametrize(("model", "opt"), [case for case in CASES if case[0] == "mlp"])
def test_the_file_is_what_pytorch_says(model, opt):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    _, batches = ours(model, opt)
    assert pytorchs(model, opt, batches) == pytest.approx(golden()["losses"][model][opt], rel=1e-9)
