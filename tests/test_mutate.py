"""The short form of `python -m tests.mutate`: every kind of file damaged, exchanged and edited before its readers."""

import json
import random
import time

import numpy as np

from tests.mutate import FILES, edited, mutate, other_array, places


def test_no_fault_in_the_short_form(tmp_path):
    """Another seed each day; it is in the message."""
    seed = int(time.time()) // 86_400
    counts, faults = mutate(20 * len(FILES), seed, tmp_path)
    assert not faults, f"python -m tests.mutate --seed {seed}: " + "\n".join(faults[:3])
    assert counts["refused"] > 20  # the mutations do reach the readers
    assert counts["put right"] > 10


def test_an_edit_changes_one_place():
    rng, value = random.Random(1), {"a": [{"b": 2}, 3], "c": "x"}
    assert len(list(places(value))) == 5
    changed = [edited(value, rng) for _ in range(200)]
    assert value == {"a": [{"b": 2}, 3], "c": "x"}
    assert sum(json.dumps(each) != json.dumps(value) for each in changed) > 180


def test_other_arrays_are_other():
    rng, array = random.Random(1), np.arange(6, dtype=np.float32).reshape(2, 3)
    found = [other_array(array, rng) for _ in range(100)]
    assert {each.dtype for each in found} > {array.dtype}
    assert {each.shape for each in found} > {array.shape}
    np.testing.assert_array_equal(array, np.arange(6, dtype=np.float32).reshape(2, 3))
