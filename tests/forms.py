"""What the tests of field reports share: everything runs with the fast forms and without.

`PENDING` marks what a fast form does not do yet.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, no_fast, reference_only
from minidl.fast import compiled

FORMS = {"fast": contextlib.nullcontext, "no_fast": no_fast, "reference": reference_only}


@pytest.fixture(params=FORMS, autouse=True)
def form(request: pytest.FixtureRequest) -> Iterator[None]:
    with FORMS[request.param]():
        yield


IN_NUMPY = pytest.mark.xfail(strict=False, reason="fast form in NumPy")
PENDING = pytest.mark.parametrize(
    "form",
    [pytest.param("fast", marks=() if compiled() else IN_NUMPY), pytest.param("no_fast", marks=IN_NUMPY), "reference"],
    indirect=True,
)


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


def equal(got: Any, wanted: Any, rtol: float = 1e-12) -> None:
    got = got.data if isinstance(got, Tensor) else got
    np.testing.assert_allclose(got, wanted, rtol=rtol, atol=0)
    assert np.shape(got) == np.shape(wanted)
