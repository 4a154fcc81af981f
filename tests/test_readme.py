"""The README's Python code runs, and the files that it names are there."""

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_the_training_example_learns():
    scope: dict = {}
    exec(next(block for block in BLOCKS if "train_step" in block), scope)
    rng = np.random.default_rng(0)
    x, labels = rng.random((32, 1, 28, 28), dtype=np.float32), rng.integers(0, 10, 32)
    losses = [scope["train_step"](x, labels) for _ in range(60)]
    assert losses[-1] < 0.1 * losses[0]


def test_the_operation_of_ones_own():
    block = next(block for block in BLOCKS if "gradcheck" in block)
    exec(block, {})
    with pytest.raises(AssertionError):
        exec(block.replace("g * 2 * x.data", "g * x.data"), {})


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_links_lead_somewhere(path):
    assert (ROOT / path).exists()


@pytest.mark.pytorch
def test_the_example_for_pytorch_switches():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    torch.manual_seed(0)
    scope: dict = {}
    exec(next(block for block in BLOCKS if "import wrap" in block), scope)
    assert scope["optimizer"].phase == "sgd"
    assert scope["optimizer"].lr < 0.05, "the scheduler went on"
