"""How much one reads to follow a training step: a promise of the issue that this layout came from."""

from tests.reading_path import bytes_to_batch, calls, lines_of, path, total


def test_a_step_of_a_perceptron_is_read_in_620_lines_of_11_files():
    found = path()
    assert total(found) <= 620, found
    assert len(found) <= 11, list(found)
    names = {name for parts in found.values() for name in parts}
    assert {"Trainer.train_step", "linear", "cross_entropy", "Tensor.backward", "Rule.update", "Adam.rule"} <= names
    assert not any(file.startswith("minidl/fast") for file in found)


def test_the_fast_forms_and_the_data_are_apart():
    fast, plain = path(fast=True), path()
    assert set(plain) <= set(fast)
    assert all(file.startswith("minidl/fast/") for file in set(fast) - set(plain))
    assert "data/idx.py" in bytes_to_batch()


def test_it_counts_each_function_once_with_its_docstring_and_what_is_inside():
    found = lines_of(calls(outer) | calls(outer))
    (parts,) = found.values()
    assert parts == {"outer": 7, "class Small": 4, "Small.method": 3}


class Small:
    """A docstring

    of three lines."""

    def method(self):
        """One."""
        return 1

    def not_called(self):
        return 2


def outer():
    """It calls what is inside."""

    def inner():
        return sum(Small().method() for _ in range(2))

    return inner()
