"""Programs around minidl: what a server is sent, what a configuration holds, what other libraries take and give."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from minidl import Examples, Splits, Tensor, Trainer, evaluate, load_mnist, load_run, nn, ops, predict, split
from minidl.optim import SGD, Adam, AfterSteps, Crossing, Gap, Hybrid, Projected, schedule
from minidl.train import main as train
from minidl.training.checkpoint import CheckpointError
from minidl.weights import WeightsError

DATA = load_mnist("mnist5k")


def net(features: int = 784, classes: int = 10) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(features, classes, rng=0))


# ---- what predict is given ----


class TorchLike:
    """As PyTorch's tensors and pandas' columns: a dtype that is not NumPy's, and an array on request."""

    dtype = object()

    def __init__(self, values: np.ndarray) -> None:
        self.values = values

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return self.values


def test_predict_takes_what_evaluate_takes() -> None:
    model, images = net(), DATA.test_images[:3]
    want = predict(model, images)
    pictures = [Image.fromarray(image) for image in images]
    for given in (TorchLike(images), pictures, (images / 255).tolist(), [TorchLike(x) for x in images / 255]):
        np.testing.assert_allclose(predict(model, given), want, rtol=1e-5, atol=1e-7)


def test_no_images_have_no_rows_but_the_classes() -> None:
    none = predict(net(), DATA.test_images[:0])
    assert none.shape == (0, 10)
    assert none.argmax(1).shape == (0,)
    assert len(predict(net(), [])) == 0


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("digit.png", "not a str"),
        (b"\x89PNG", "not a bytes"),
        (None, "not a NoneType"),
        ({"images": [[0.0]]}, "not a dict"),
        (["a.png", "b.png"], r"not <U5 of shape \(2,\)"),
        ([[["0.5"] * 28] * 28], r"not <U3 of shape \(1, 28, 28\)"),
        ([[[None] * 28] * 28], r"not object of shape \(1, 28, 28\)"),
        (np.zeros(784), r"not float64 of shape \(784,\)"),
    ],
)
def test_what_holds_no_pixels_is_named(given: Any, words: str) -> None:
    with pytest.raises(TypeError, match=f"predict takes the pixels of images.* {words}; read an image file with np"):
        predict(net(), given)


class Anywhere(nn.Module):
    """Takes images of every size: no error says that these are others."""

    def __init__(self) -> None:
        self.conv, self.last = nn.Conv2d(1, 4, 3, padding=1, rng=0), nn.Linear(4, 10, rng=1)

    def forward(self, x: Any) -> Any:
        return self.last(self.conv(x).relu().mean((2, 3)))


def test_a_run_tells_of_images_of_another_size(tmp_path: Path) -> None:
    """A colour picture, as a page uploads it, and rows of pixels: both are images to this network, but not these."""
    model, images = Anywhere(), DATA.test_images[:3]
    trainer = Trainer(model, Adam(model.parameters()), split(DATA), folder=tmp_path / "run")
    run = load_run(tmp_path / "run", Anywhere)
    colour = np.asarray(Image.fromarray(images[0]).convert("RGB"))
    for it in (trainer, run):
        with pytest.warns(UserWarning, match=r"images of 28x3, the network was trained on 28x28: .*convert"):
            assert len(it.predict(colour)) == 28
        with pytest.warns(UserWarning, match=r"images of 3x784, the network .*reshape\(-1, 28, 28\)"):
            assert len(it.predict(images.reshape(3, 784))) == 1
        for given in (images, images[0], images[:, None], images[:0], []):
            assert it.predict(given).shape[0] in (3, 1, 0)  # and no warning, which is an error here


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((np.arange(4), np.zeros((4, 28, 28), np.uint8)), r"uint8 of shape \(4, 28, 28\): the images come first"),
        ((np.zeros((2, 28, 28)), np.array([1.0, np.nan])), "some are NaN: leave out the examples without a label"),
        ((np.zeros((2, 28, 28)), np.array([1.0, 0.0])), r"labels.astype\(int\); for regression"),
        ((np.zeros((2, 28, 28)),) * 4, r"a pair \(images, labels\), not a tuple of 4"),
    ],
)
def test_examples_that_are_none_are_told_apart(given: Any, words: str) -> None:
    """Swapped; a column of pandas with gaps; what scikit-learn's train_test_split returns."""
    model = net()
    for use in (lambda: evaluate(model, given), lambda: Trainer(model, Adam(model.parameters()), given)):
        with pytest.raises(ValueError, match=words):
            use()


# ---- NumPy's numbers, as a configuration or a search over settings has them ----


def test_numbers_of_numpys_make_the_same_run(tmp_path: Path) -> None:
    runs = []
    for name, kind, real in (("python", int, float), ("numpy", np.int64, np.float64)):
        data = split(DATA, real(0.5), kind(3))
        model = net()
        Trainer(model, Adam(model.parameters(), lr=real(0.01)), data, kind(500), kind(1), tmp_path / name)
        run = load_run(tmp_path / name)
        run.fit(1, verbose=False)
        runs.append(run.model.state_dict())
    for name, right in runs[0].items():
        np.testing.assert_array_equal(runs[1][name], right)


@pytest.mark.parametrize(
    "make",
    [
        lambda params, real: Adam(params, lr=schedule.cosine(real(0.001), np.int64(100))),
        lambda params, real: Adam(params, lr=schedule.step(real(0.001), every=np.int64(5), factor=real(0.5))),
        lambda params, real: Hybrid(params, Adam(), SGD(), AfterSteps(np.int64(2)), lr_after=real(0.05)),
        lambda params, real: Hybrid(params, Adam(), SGD(lr=0.05), Crossing("val_accuracy", real(0.1))),
        lambda params, real: Hybrid(params, Adam(), SGD(lr=0.05), Gap(real(0.01)) | Projected(rtol=real(0.1))),
    ],
)
@pytest.mark.parametrize("real", [np.float32, np.float64, np.array])
def test_an_optimizer_of_numpys_numbers_resumes_with_the_same_bits(tmp_path: Path, make: Any, real: Any) -> None:
    data, straight = split(DATA, counts=(256, 64)), net()
    Trainer(straight, make(straight.parameters(), real), data).fit(3, verbose=False)
    model = net()
    Trainer(model, make(model.parameters(), real), data, folder=tmp_path / "run").fit(1, verbose=False)
    run = load_run(tmp_path / "run")
    run.fit(2, verbose=False)
    for name, value in straight.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], value)


@pytest.mark.parametrize("bad", [np.float32(-1), np.array([0.1, 0.2]), [0.1]])
def test_a_rate_after_the_switch_is_looked_at_whatever_made_it(bad: Any) -> None:
    with pytest.raises(ValueError, match="lr_after must be"):
        Hybrid(net().parameters(), Adam(), SGD(), AfterSteps(1), lr_after=bad)


@pytest.mark.parametrize("counts", [(np.int64(200), np.int32(50)), np.array([200, 50]), [200, 50]])
def test_counts_of_numpys_are_found_again(tmp_path: Path, counts: Any) -> None:
    model = net()
    Trainer(model, Adam(model.parameters()), split(DATA, counts=counts), folder=tmp_path / "run")
    found = load_run(tmp_path / "run").splits
    np.testing.assert_array_equal(found.train.labels, split(DATA, counts=(200, 50)).train.labels)


def test_own_splits_may_count_as_numpy_does(tmp_path: Path) -> None:
    x, y = DATA.train_images[:50], DATA.train_labels[:50]
    part = Examples(x, y)
    splits = Splits(part, part, part, y.max() + np.int64(1), np.array(x.shape[1:]))  # type: ignore[arg-type]
    model = net()
    Trainer(model, SGD(model.parameters(), lr=0.1), splits, folder=tmp_path / "run").fit(1, verbose=False)
    assert load_run(tmp_path / "run").image_size == (28, 28)


X, Y = Tensor(np.ones((2, 3), np.float32)), np.array([0, 1])


@pytest.mark.parametrize("given", ["1e-5", None, [0.1]])
@pytest.mark.parametrize(
    ("take", "words"),
    [
        (nn.Dropout, r"Dropout: p must be in \[0, 1\)"),
        (lambda p: ops.dropout(X, p, np.random.default_rng(0)), r"dropout: p must be in \[0, 1\)"),
        (lambda eps: nn.BatchNorm2d(3, eps=eps), "BatchNorm2d: eps must be above 0"),
        (lambda eps: ops.batch_norm(X, None, None, None, None, training=True, eps=eps), "eps must be above 0"),
        (lambda e: ops.cross_entropy(X, Y, label_smoothing=e), r"label_smoothing must be in \[0, 1\]"),
        (AfterSteps, "the number of steps must be a whole number >= 1"),
        (lambda n: schedule.cosine(0.1, n), "total_steps must be a whole number >= 1"),
    ],
)
def test_a_text_in_place_of_a_number_is_shown_as_one(take: Any, words: str, given: Any) -> None:
    """YAML takes 1e-5 for a text, and a line without a value for None."""
    with pytest.raises(ValueError, match=rf"{words}, got {re.escape(repr(given))}$"):
        take(given)


# ---- the examples of a run ----


def test_other_splits_of_the_same_data_are_not_trained_on(tmp_path: Path) -> None:
    """What the network has learned by would be what it is chosen by."""
    model = net()
    Trainer(model, SGD(model.parameters(), lr=0.1), split(DATA), folder=tmp_path / "run").fit(1, verbose=False)
    for other in (split(DATA, seed=1), split(DATA, 0.2), split(DATA, counts=(3600, 400))):
        with pytest.raises(
            CheckpointError, match=r"was trained on mnist5k split by .*'seed': 0, .* these data are split by"
        ):
            load_run(tmp_path / "run", data=other).fit(1, verbose=False)
    for same in (split(DATA), DATA, "mnist5k", None):
        assert len(load_run(tmp_path / "run", data=same).splits.val) == 400


def test_the_loaded_network_is_the_one_that_goes_on(tmp_path: Path) -> None:
    """Weights that are averaged, a part that is frozen, a name for the network: `fit` and `save` once began anew."""
    model = net()
    Trainer(model, SGD(model.parameters(), lr=0.1), split(DATA), folder=tmp_path / "own").fit(1, verbose=False)
    command = ["--dataset", "mnist5k", "--opt", "sgd", "--epochs", "1", "--out", str(tmp_path / "command")]
    assert train(command) == 0
    for name in ("own", "command"):
        run = load_run(tmp_path / name)
        mine = run.model
        mine.load_state_dict({name: value * 0.5 for name, value in mine.state_dict().items()})
        half = mine.state_dict()
        for name, value in load_run(run.save(tmp_path / f"{run.folder.name}-half")).model.state_dict().items():
            np.testing.assert_array_equal(value, half[name])
        first = next(mine.parameters())
        first.requires_grad = False
        run.fit(1, verbose=False)
        assert run.model is mine
        np.testing.assert_array_equal(first.numpy(), next(iter(half.values())))
        assert any((value != half[name]).any() for name, value in mine.state_dict().items())


class Sharp(Trainer):
    """Sharpness-aware minimization (Foret et al. 2021): the gradient at the worst point nearby."""

    def train_step(self, x: Any, labels: Any) -> Any:
        logits, loss, correct = self._forward(x, labels)
        self._note(loss, correct, x, self.optimizer.lr)
        self.optimizer.zero_grad()
        loss.backward()
        flat = self.optimizer.flat
        w = flat.w.copy()
        flat.w[...] += 0.05 * flat.g / np.linalg.norm(flat.g)
        self.optimizer.zero_grad()
        ops.cross_entropy(self.model(x), labels).backward()
        flat.w[...] = w
        self.optimizer.step()
        return logits, loss


def test_a_run_by_a_trainer_of_ones_own_says_so_when_it_is_loaded(tmp_path: Path) -> None:
    """A plain Trainer took the next steps, in silence."""
    straight, model = net(), net()
    Sharp(straight, SGD(straight.parameters(), lr=0.1), split(DATA)).fit(2, verbose=False)
    Sharp(model, SGD(model.parameters(), lr=0.1), split(DATA), folder=tmp_path / "run").fit(1, verbose=False)
    run = load_run(tmp_path / "run")
    with pytest.warns(UserWarning, match=r"was trained by Sharp, .* write run.trainer.__class__ = Sharp before run"):
        run.trainer.__class__ = Sharp
    run.fit(1, verbose=False)
    for name, value in straight.state_dict().items():
        np.testing.assert_array_equal(run.model.state_dict()[name], value)


class Counting(nn.Module):
    """Keeps numbers of its own beside float32 weights, in float64 as NumPy makes them."""

    def __init__(self) -> None:
        self.last, self.costs = nn.Linear(784, 10, rng=0), Tensor(np.array([1.5, 2.5]))

    def forward(self, x: Any) -> Any:
        return self.last(x.flatten(1))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_run_with_numbers_of_another_dtype_is_loaded(tmp_path: Path, dtype: Any) -> None:
    model = Counting().to(dtype=dtype) if dtype == np.float64 else Counting()
    Trainer(model, Adam(model.parameters()), split(DATA), folder=tmp_path / "run")
    found = load_run(tmp_path / "run", Counting).model.state_dict()
    assert (found["last.weight"].dtype, found["costs"].dtype) == (dtype, np.float64)


@pytest.mark.parametrize("seed", [None, -1, 0.5, True, "0"])
def test_a_split_that_no_seed_gives_again_is_refused(seed: Any) -> None:
    with pytest.raises(ValueError, match=r"the seed of a split must be a whole number, 0 or more, so that .* got"):
        split(DATA, seed=seed)


# ---- files of other programs ----


def test_weights_of_a_kind_that_numpy_lacks_are_no_damage(tmp_path: Path) -> None:
    """As PyTorch's bfloat16; the file is written by hand: its header's length, the header, the numbers."""
    header = b'{"0.weight":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    (tmp_path / "w.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(WeightsError, match=r"^\S*w.safetensors has tensors of dtype BF16, .* write float32"):
        net().load(tmp_path / "w.safetensors")
