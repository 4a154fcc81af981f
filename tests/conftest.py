"""Shared by all tests: one hypothesis profile, and the real MNIST where it is at hand."""

import os
import signal
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, settings

from minidl import backend
from tests.counting import Counting
from tests.counting_kernels import COMPILER

# A shell's background job ignores Ctrl-C, and so would every process that a test starts.
signal.signal(signal.SIGINT, signal.default_int_handler)
if hasattr(signal, "SIGHUP"):  # under nohup
    signal.signal(signal.SIGHUP, signal.SIG_DFL)

# The same examples in every run: a failure seen in CI is a failure seen at home.
settings.register_profile(
    "minidl", deadline=None, derandomize=True, max_examples=40, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("minidl")


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """A folder with the four real MNIST files, named by MINIDL_DATA."""
    root = os.environ.get("MINIDL_DATA")
    if not root:
        pytest.skip("full MNIST: set MINIDL_DATA to a folder that holds its four files")
    return Path(root)


@pytest.fixture(params=["reference", "kernels"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Counting:
    """A device named "counting", none of this machine's (counting.py): without the GPU's kernels, and with them."""
    if request.param == "kernels" and COMPILER is None:
        pytest.skip("no C compiler, which runs the GPU's kernels here")
    counting = Counting(kernels=backend.GPU_KERNELS if request.param == "kernels" else None)
    monkeypatch.setitem(backend._loaded, "counting", counting.backend)
    special = SimpleNamespace(erf=partial(counting.call, "erf", backend.erf))  # CuPy has erf elsewhere than NumPy's
    for name in ("cupyx", "cupyx.scipy", "cupyx.scipy.special"):
        monkeypatch.setitem(sys.modules, name, special)
    return counting


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that asks for the full MNIST is marked so: `pytest -m mnist` runs all of them. Extras may be missing."""
    for item in items:
        for mark in item.iter_markers("extra"):
            if missing := [module for module in mark.args if find_spec(module) is None]:
                item.add_marker(pytest.mark.skip(reason=f"needs an extra: no {', '.join(missing)}"))
        if "mnist_root" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.mnist)


@pytest.fixture(scope="module")
def chrome():
    """A browser, the same for all tests of a file."""
    from tests.browser import browser  # here: it needs Selenium

    with browser() as chrome:
        yield chrome
