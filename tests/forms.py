"""What the tests of field reports share: everything runs with the fast forms and without."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, no_fast, reference_only

FORMS = {"fast": contextlib.nullcontext, "no_fast": no_fast, "reference": reference_only}


@pytest.fixture(params=FORMS, autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    with FORMS[request.param]():
        yield


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


def equal(got: Any, wanted: Any, rtol: float = 1e-12) -> None:
    got = got.data if isinstance(got, Tensor) else got
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=0)
    assert np.shape(got) == np.shape(wanted)
