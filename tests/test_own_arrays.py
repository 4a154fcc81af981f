"""Arrays and tables of a user's own: the right values, or one line that says what to do."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minidl import Tensor, Trainer, evaluate, load_run, nn, ops, predict, seed
from minidl.data import DataError, Examples, Splits, batches
from minidl.handwriting.columns import read_columns
from minidl.optim import SGD

X = np.random.default_rng(0).integers(0, 256, (12, 4, 4)).astype(np.uint8)
Y = np.arange(12) % 3


def trainer(data: Any) -> Trainer:
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    return Trainer(net, SGD(net.parameters(), lr=0.1), data, batch_size=4)


# ---- pixels ----


@pytest.mark.parametrize("signed", [X.astype(int) - 128, X.view(np.int8), X.astype(np.int64) - 1])
def test_whole_numbers_below_zero_are_not_standardized(signed: Any) -> None:
    with pytest.warns(UserWarning, match=r"range from -\d+ to \d+ \(int.*are not scaled"):
        trainer((signed, Y))


def test_the_advice_to_divide_leaves_nothing_to_warn_about() -> None:
    wide = X.astype(np.uint16) * 257
    with pytest.warns(UserWarning, match=rf"not scaled: divide them yourself, x / {wide.max()}"):
        trainer((wide, Y))
    with pytest.warns(UserWarning, match="give bytes .* or divide them yourself, x / 255"):
        trainer((X.astype(np.uint16), Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scaled in (wide / wide.max(), (X - X.mean()) / X.std(), (X > 127).astype(int), X):
            trainer((scaled, Y))


def test_bytes_that_are_black_and_white_already_are_told() -> None:
    with pytest.warns(UserWarning, match=r"bytes up to 1, and bytes are divided by 255.*x.astype\(np.float32\)"):
        trainer(((X > 127).astype(np.uint8), Y))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(((X > 127).astype(np.uint8).astype(np.float32), Y))  # as the warning says
        trainer((np.zeros_like(X), Y))


def test_images_as_targets_are_not_left_unscaled_silently() -> None:
    for targets in (X, X.reshape(12, 16)):
        with pytest.warns(UserWarning, match="not these targets, which are bytes up to 25"):
            batches(X, targets, 4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        x, same = next(batches(X / np.float32(255), X / np.float32(255), 4))  # as the warning says
        np.testing.assert_array_equal(x.numpy()[:, 0], same)
        batches(X, (X > 127).astype(np.uint8), 4)  # masks of two classes
        batches(X[:0], X[:0], 4)


# ---- arrays of objects ----


def test_a_table_with_columns_of_several_types_is_numbers() -> None:
    mixed = np.array([[1, 2.5, True], [4, 5.5, False]], object)  # np.asarray(DataFrame)
    x, _ = next(batches(mixed, [0, 1], 2))
    np.testing.assert_array_equal(x.numpy(), [[1, 2.5, 1], [4, 5.5, 0]])
    assert Examples(X.astype(object), Y).images.dtype == np.float64


def test_what_is_not_real_numbers_is_rejected_in_one_line() -> None:
    column = np.empty(12, object)
    column[:] = list(X)  # a pandas column of images
    for images, words in (
        (column, r"arrays within an array: np.stack\(list\(images\)\)"),
        (X.astype(str), "inputs must be real numbers, these are <U"),
        (X.astype(complex), "inputs must be real numbers, these are complex"),
        (np.array([["a", None]] * 12, object), "inputs must be numbers: "),
    ):
        for use in (lambda x: trainer((x, Y)), lambda x: batches(x, Y, 4), lambda x: Examples(x, Y)):
            with pytest.raises(DataError, match=words):
                use(images)
    np.testing.assert_array_equal(np.stack(list(column)), X)  # as the error says


def test_a_trainer_needs_images() -> None:
    loop, pixels = (
        r"for rows of features write a loop of your own, .*from-pytorch.md$",
        r"rows of pixels become images by ",
    )
    digits = pixels + r"x.reshape\(-1, 8, 8\)$"  # scikit-learn's, by load_digits(return_X_y=True)
    for flat, words in ((X[:, 0, 0], loop), (X.reshape(12, 16), loop), (np.ones((12, 64), np.float32), digits)):
        with pytest.raises(
            ValueError, match=rf"images must be .*, these are \({', '.join(map(str, flat.shape))},?\): {words}"
        ):
            trainer((flat, Y))


# ---- labels ----


def test_labels_without_a_value_are_named_by_the_loss_too() -> None:
    with pytest.raises(TypeError, match="some are NaN: leave out the examples without a label"):
        ops.cross_entropy(np.zeros((2, 3), np.float32), np.array([1.0, np.nan]))


# ---- Splits ----


def test_splits_take_pairs_as_a_trainer_does() -> None:
    pairs: Any = (X[:6], Y[:6]), (X[6:9], Y[6:9].tolist()), (X[:0], Y[:0])
    examples = [Examples(*pair) for pair in pairs]
    records = [trainer(Splits(*parts, 3, (4, 4))).fit(1, verbose=False) for parts in (pairs, examples)]
    for a, b in zip(*records, strict=True):
        assert a | {"seconds": 0} == b | {"seconds": 0}
    none: Any = None
    with pytest.raises(DataError, match=r"a pair \(images, labels\), not a NoneType"):
        Splits(*pairs[:2], none, 3, (4, 4))


def test_splits_that_are_not_as_they_say_are_rejected_before_the_first_step() -> None:
    part, wrong = Examples(X, Y), Examples(X, Y + 1)
    for parts in ((wrong, part, part), (part, wrong, part), (part, part, wrong)):
        with pytest.raises(ValueError, match="a label is 3, but these Splits have 3 classes: labels count from 0 to 2"):
            trainer(Splits(*parts, 3, (4, 4)))
    size: Any
    for size in (4, (1, 4, 4)):
        with pytest.raises(DataError, match=r"image_size must be \(height, width\), such as x.shape\[-2:\], got"):
            Splits(part, part, part, 3, size)
    with pytest.raises(ValueError, match=r"of images 8x8, \(height, width\), but the images are 4x4"):
        trainer(Splits(part, part, part, 3, (8, 8)))
    with pytest.raises(ValueError, match=r"the images are 4x1.*x.transpose\(0, 3, 1, 2\)"):
        trainer(Splits(Examples(X[..., None], Y), part, part, 3, (4, 4)))
    with pytest.raises(ValueError, match="labels must be whole numbers, these are float64"):
        trainer(Splits(part, Examples(X, Y.astype(float)), part, 3, (4, 4)))


# ---- loaders and tables ----


def test_a_loader_shows_its_length_and_names_its_data() -> None:
    loader = batches(X, Y, 5)
    assert repr(loader) == "batches (x, labels), 3 in an epoch"
    with pytest.raises(AttributeError, match=r"Batches has no 'dataset': .*len\(labels\)"):
        len(loader.dataset)  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["pixel{}", "{}", "p_{}"])
def test_pixel_columns_that_were_sorted_by_name_are_put_in_order(tmp_path: Path, name: str) -> None:
    values = X.reshape(12, 16)
    order = sorted(range(16), key=lambda k: name.format(k))  # pixel0, pixel1, pixel10, ...
    head = ",".join(["label", *(name.format(k) for k in order)])
    np.savetxt(tmp_path / "x.csv", np.c_[Y, values[:, order]], "%d", ",", header=head, comments="")
    labels, pixels = read_columns(tmp_path / "x.csv")
    np.testing.assert_array_equal(pixels, values)
    np.testing.assert_array_equal(labels, Y)


def test_pixel_columns_that_name_a_row_and_a_column_keep_their_order(tmp_path: Path) -> None:
    head = ",".join(["label", *(f"{column}x{row}" for row in range(4) for column in range(4))])
    np.savetxt(tmp_path / "x.csv", np.c_[Y, X.reshape(12, 16)], "%d", ",", header=head, comments="")
    np.testing.assert_array_equal(read_columns(tmp_path / "x.csv")[1], X.reshape(12, 16))


def test_a_tensor_of_objects_and_a_history_say_what_to_write() -> None:
    mixed = np.array([[1, 2.5, True]], object)
    with pytest.raises(TypeError, match=r"dtype object: array.astype\(np.float32\)"):
        Tensor(mixed)
    np.testing.assert_array_equal(Tensor(mixed.astype(np.float32)).numpy(), [[1, 2.5, 1]])
    history = trainer((X, Y)).fit(2, verbose=False)
    with pytest.raises(AttributeError, match=r"History has no 'val_loss': history\['val_loss'\] lists a quantity"):
        history.val_loss  # type: ignore[attr-defined] # noqa: B018
    assert len(history["val_loss"]) == 2


# ---- who evaluates what ----


def test_a_trainer_in_place_of_its_network_is_told() -> None:
    one: Any = trainer((X, Y))
    other: Any = object()
    for use in (lambda model: evaluate(model, (X, Y)), lambda model: predict(model, X)):
        with pytest.raises(TypeError, match=r"must be a Module of minidl.nn, not a Trainer: give its .model$"):
            use(one)
        with pytest.raises(TypeError, match=r"must be a Module of minidl.nn, not a object$"):
            use(other)
        with pytest.raises(TypeError, match=r"is the class Linear itself: write Linear\(\)"):
            use(nn.Linear)
    assert predict(one.model, X).shape == (12, 3)


def test_images_and_labels_to_evaluate_on_are_one_argument() -> None:
    one: Any = trainer((X, Y))
    for use in (one.evaluate, lambda *data: evaluate(one.model, *data)):
        with pytest.raises(DataError, match=r"or a pair \(images, labels\), not a ndarray"):
            use(X, Y)
        assert use((X, Y), 5).accuracy == use((X, Y)).accuracy


def test_a_loaded_run_warns_at_the_users_line(tmp_path: Path) -> None:
    with seed(0):
        net = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    wide = X.astype(np.int64)
    with pytest.warns(UserWarning, match="not scaled"):
        Trainer(net, SGD(net.parameters(), lr=1e-6), (wide, Y), folder=tmp_path / "run").fit(1, verbose=False)
    run = load_run(tmp_path / "run", data=(wide, Y))
    with pytest.warns(UserWarning, match="not scaled") as told:
        run.fit(1, verbose=False)
    assert {warning.filename for warning in told} == {__file__}


class Colours(nn.Module):
    """A network of three channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 2, 3)
        self.out = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(ops.relu(self.conv(x)).flatten(1))


def test_a_run_on_colour_images_is_loaded_by_its_class(tmp_path: Path) -> None:
    images = np.random.default_rng(1).random((12, 3, 4, 4), np.float32)
    with seed(0):
        net = Colours()
    Trainer(net, SGD(net.parameters(), lr=0.1), (images, Y), folder=tmp_path / "run").fit(1, verbose=False)
    for model in (Colours, f"{__file__}:Colours"):
        run = load_run(tmp_path / "run", model=model)
        np.testing.assert_array_equal(run.predict(images), predict(net, images))
    with pytest.raises(ValueError, match=r"the weights of .*run do not fit Other"):
        load_run(tmp_path / "run", model=Other)


class Other(nn.Module):
    """Another network: its weights have other names."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.flatten(1))
