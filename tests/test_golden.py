"""The bits hold: the first steps of each optimizer have the losses of golden.json, to rounding (see golden.py)."""

import pytest

from minidl.training.run import BITS
from tests.golden import AT, MODELS, OPTIMIZERS, golden, ours, pytorchs

CASES = [(model, opt) for model in MODELS for opt in OPTIMIZERS]


def test_the_file_is_of_these_bits():
    """Raised BITS? `python -m tests.golden --update` makes the file anew, from PyTorch."""
    assert golden()["bits"] == BITS
    assert golden()["steps"] == list(AT)


@pytest.mark.parametrize(("model", "opt"), CASES)
def test_losses_are_golden(model, opt):
    losses, _ = ours(model, opt)
    assert losses == pytest.approx(golden()["losses"][model][opt], rel=5e-5)


@pytest.mark.pytorch
@pytest.mark.parametrize(("model", "opt"), [case for case in CASES if case[0] == "mlp"])
def test_the_file_is_what_pytorch_says(model, opt):
    pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    _, batches = ours(model, opt)
    assert pytorchs(model, opt, batches) == pytest.approx(golden()["losses"][model][opt], rel=1e-9)
