"""What users of PyTorch, Keras and NumPy write otherwise: each call says what to write, and the page on it is right."""

from __future__ import annotations

import io
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, nn, ops
from minidl.elsewhere import ELSEWHERE
from minidl.optim import SGD
from tests.test_field_habits import X, Y, network

PAGE = Path(__file__).parents[1] / "tutorials" / "pages" / "from-pytorch.md"


# ---- the page ----


def rows() -> list[list[str]]:
    """The lines of its table of values: PyTorch's ways to write it, then ours."""
    table = PAGE.read_text("utf-8").split("|---|---|\n")[1].split("\n\n")[0]
    return [re.findall("`(.*?)`", line) for line in table.splitlines()]


@pytest.mark.pytorch
@pytest.mark.parametrize("row", rows(), ids=lambda row: row[-1])
def test_both_sides_of_the_page_agree(row: list[str]) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(1)
    z, t, w = rng.normal(size=(6, 4)), rng.integers(0, 2, (6, 4)).astype(float), np.array([0.5, 2, 1])
    soft, x = rng.dirichlet(np.ones(3), 6), rng.normal(size=(6, 4))
    net = network().to(dtype=np.float64)
    theirs = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)).double()
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in net.state_dict().items()})
    there = {name: torch.from_numpy(value) for name, value in {"z": z, "t": t, "w": w, "soft": soft, "y": Y}.items()}
    there |= {"x": torch.tensor(x, requires_grad=True), "net": theirs, "F": torch.nn.functional, "torch": torch}
    here = {"z": Tensor(z), "t": t, "w": w, "soft": soft, "y": Y, "x": Tensor(x, requires_grad=True), "net": net}
    here |= {"F": ops, "np": np, "p": Tensor(z).sigmoid()}
    there["p"] = there["z"].sigmoid()
    for names in (there, here):
        (names["x"] ** 3).sum().backward()
    *calls, ours = row
    value = eval(ours, here)
    for call in calls:
        wanted = eval(call, there)
        wanted = wanted.detach().numpy() if isinstance(wanted, torch.Tensor) else wanted
        np.testing.assert_allclose(value.numpy() if isinstance(value, Tensor) else value, wanted, rtol=1e-7)


def test_a_column_that_is_always_the_same_is_standardized_to_0() -> None:
    """As scikit-learn's StandardScaler has it; a plain division by the deviation would make NaN of MNIST's rim."""
    x = np.array([[0.0, 1], [0, 3], [0, 5]])
    (row,) = re.findall(r"`StandardScaler\(\)` \| `(.*?)`, with `(.*?)`", PAGE.read_text("utf-8"))
    for formula, deviation in (row, ELSEWHERE["StandardScaler"].split(", with ")):
        names = {"x": x, "x_train": x, "np": np}
        names["s"] = eval(deviation.removeprefix("s = "), names)
        np.testing.assert_allclose(eval(formula, names), [[0, -(1.5**0.5)], [0, 0], [0, 1.5**0.5]])


def test_the_loop_of_the_page_learns(capsys: pytest.CaptureFixture[str]) -> None:
    code = PAGE.read_text("utf-8").split("```python\n")[1].split("```")[0]
    exec(code, {})
    assert re.search(r"epoch 2: loss \d\.\d{3}, validation accuracy 0\.[89]", capsys.readouterr().out)


def test_the_loop_of_a_table_learns(capsys: pytest.CaptureFixture[str]) -> None:
    exec(PAGE.read_text("utf-8").split("```python\n")[3].split("```")[0], {})
    assert float(capsys.readouterr().out.split()[-1]) < 0.01  # a sine varies by 0.5


def test_the_logger_of_the_page_gets_numbers() -> None:
    class Writer:  # as TensorBoard's, which takes no Tensors
        def __init__(self) -> None:
            self.found: dict[str, list[tuple[int, float]]] = {}
            self.closed = False

        def add_scalar(self, name: str, value: float, step: int) -> None:
            assert type(value) in (int, float)
            self.found.setdefault(name, []).append((step, value))

        def close(self) -> None:
            self.closed = True

    names: dict[str, Any] = {"Observer": minidl.Observer}
    exec(PAGE.read_text("utf-8").split("```python\n")[4].split("```")[0], names)
    net, writer = nn.Sequential(nn.Flatten(), nn.Linear(784, 10, rng=0)), Writer()
    data = minidl.split(minidl.load_mnist("mnist5k"), counts=(64, 16))
    trainer = minidl.Trainer(net, SGD(net.parameters(), lr=0.1), data, batch_size=32)
    history = trainer.fit(2, [names["Log"](writer)], verbose=False)
    trainer.fit(1, [names["Log"](writer)], validate=False, verbose=False)
    assert [step for step, _ in writer.found["loss"]] == [1, 2, 3, 4, 5, 6]
    assert writer.found["epoch/val_loss"] == list(enumerate(history["val_loss"], 1))
    assert writer.closed


@pytest.mark.extra("scipy")
def test_scipy_finds_the_weights_as_the_page_says() -> None:
    from scipy.optimize import check_grad, minimize

    net = network()
    names: dict[str, Any] = {"net": net, "x": X.astype(np.float64), "y": Y, "np": np, "ops": ops, "minimize": minimize}
    exec(PAGE.read_text("utf-8").split("```python\n")[5].split("```")[0], names)
    loss_at, found = names["loss_at"], names["found"]
    assert ops.cross_entropy(net(names["x"]), Y).item() == found.fun < 0.1 * loss_at(names["start"])[0]
    assert check_grad(lambda w: loss_at(w)[0], lambda w: loss_at(w)[1], names["start"]) < 1e-6
    with pytest.raises(AttributeError, match=r"no 'LBFGS': scipy.optimize.minimize, .*from-pytorch.md"):
        minidl.optim.LBFGS  # noqa: B018


@pytest.mark.pytorch
@pytest.mark.parametrize("activation", ["Tanh", "LeakyReLU"])
def test_the_penalty_of_a_gradient_is_pytorchs(activation: str) -> None:
    """Loss and gradients of WGAN-GP's critic (Gulrajani et al. 2017, Algorithm 1), also where it has kinks."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(4)
    layer, theirs_layer = getattr(nn, activation), getattr(torch.nn, activation)
    net = nn.Sequential(nn.Linear(4, 64, rng=0), layer(), nn.Linear(64, 64, rng=1), layer(), nn.Linear(64, 1, rng=2))
    theirs = torch.nn.Sequential(
        torch.nn.Linear(4, 64), theirs_layer(), torch.nn.Linear(64, 64), theirs_layer(), torch.nn.Linear(64, 1)
    )
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in net.state_dict().items()})
    theirs.double()
    shapes = {"between": (500, 4), "real": (500, 4), "fake": (500, 4)}
    data = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    names = {"np": np, "nn": nn, "ops": ops, "Tensor": Tensor, "net": net, "optimizer": SGD(net.parameters())}
    exec(PAGE.read_text("utf-8").split("```python\n")[2].split("```")[0], names | data)
    between, real, fake = (torch.tensor(data[name], dtype=torch.float64, requires_grad=True) for name in data)
    (slopes,) = torch.autograd.grad(theirs(between).sum(), between, create_graph=True)
    loss = theirs(fake).mean() - theirs(real).mean() + 10 * ((slopes.norm(dim=1) - 1) ** 2).mean()
    loss.backward()
    for ours, wanted in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad, wanted.grad.numpy(), rtol=1e-3, atol=1e-5)


@pytest.mark.pytorch
def test_the_derivative_of_a_network_is_pytorchs() -> None:
    """Of a physics-informed network: its loss needs the derivative with respect to the input."""
    torch = pytest.importorskip("torch")
    net = nn.Sequential(nn.Linear(1, 16, rng=0), nn.Tanh(), nn.Linear(16, 1, rng=1)).to(dtype=np.float64)
    theirs = torch.nn.Sequential(torch.nn.Linear(1, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    theirs.load_state_dict({name: torch.from_numpy(value) for name, value in net.state_dict().items()})
    t = np.random.default_rng(5).random((32, 1))
    names: dict[str, Any] = {"np": np, "nn": nn, "ops": ops, "net": net}
    exec(PAGE.read_text("utf-8").split("```python\n")[2].split("\n\n\n")[0], names)
    ((names["slope"](t, np.ones_like(t)) + net(t)) ** 2).mean().backward()  # u' = -u
    there = torch.tensor(t, requires_grad=True)
    (slopes,) = torch.autograd.grad(theirs(there).sum(), there, create_graph=True)
    ((slopes + theirs(there)) ** 2).mean().backward()
    for ours, wanted in zip(net.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(ours.grad, wanted.grad.numpy(), rtol=1e-12)


# ---- the messages ----


def test_predict_is_called_also_where_the_module_was_imported() -> None:
    import minidl.predict as module
    from minidl import predict
    from minidl.evaluation import predict as wanted

    assert predict is module
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3, rng=0))
    images = np.random.default_rng(0).random((5, 2, 3), dtype=np.float32)
    np.testing.assert_array_equal(predict(net, images), wanted(net, images))
    np.testing.assert_array_equal(predict(net, images, batch_size=2), wanted(net, images, 2))


def test_rows_are_not_taken_for_one_image() -> None:
    from minidl.evaluation import predict

    with pytest.raises(
        ValueError, match=r"predict: the network gave \(1, 1, 6, 3\) for images .*net\(x\).softmax\(1\)"
    ):
        predict(network(), X)


class Wrong(nn.Module):
    def __init__(self, give: Any) -> None:
        self.give = give

    def forward(self, x: Tensor) -> Any:
        return self.give(x)


@pytest.mark.parametrize(
    ("give", "gave"),
    [
        (lambda x: x.reshape(-1, 3), r"\(10, 3\)"),
        (lambda x: x.flatten(1)[::2], r"\(3, 6\)"),
        (lambda x: (x.flatten(1), x), "tuple"),
    ],
)
def test_predictions_are_one_row_for_each_image(give: Any, gave: str) -> None:
    from minidl.evaluation import predict

    images = np.ones((5, 2, 3), np.float32)
    with pytest.raises(ValueError, match=rf"^predict: the network gave {gave} for images \(5, 1, 2, 3\), not \(N, cl"):
        predict(Wrong(give), images)


# ---- Keras's calls, and NumPy's functions ----


def test_kerass_calls_are_named() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3, rng=0))
    images = np.random.default_rng(0).random((6, 2, 3), dtype=np.float32)
    trainer = minidl.Trainer(net, SGD(net.parameters(), lr=0.1), (images, Y))
    for thing, name, words in (
        (net, "add", r"net.append\(layer\)"),
        (net, "pop", r"net\[:-1\]"),
        (net, "fit", r"Trainer\(net, optimizer, data\).fit\(epochs\)"),
        (net, "compile", r"Trainer\(net, optimizer, data\)"),
        (net, "evaluate", r"minidl.evaluate\(net, examples\)"),
        (net, "predict", r"minidl.predict\(net, images\)"),
        (trainer, "train", r".fit\(epochs\)"),
        (trainer, "history", r"what trainer.fit\(epochs\) returns"),
        (Tensor(X), "add", r"a \+ b"),
    ):
        with pytest.raises(AttributeError, match=rf"has no '{name}': {words}"):
            getattr(thing, name)
    with pytest.raises(ValueError, match=r"^epochs must be a whole number, .* got an array: the Trainer already has"):
        trainer.fit(images, Y)
    with pytest.raises(ValueError, match=r"^batch_size must be .* got an array: images and labels are one argument"):
        minidl.Trainer(net, SGD(net.parameters(), lr=0.1), images, Y)
    with pytest.raises(TypeError, match=r"sample_weight.*\(weights \* ops.cross_entropy"):  # by example, not by class
        trainer.fit(1, sample_weight=np.ones(len(Y)))


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda w: np.dot(w, w), "a @ b"),
        (lambda w: np.maximum(w, 0), "minidl.ops.maximum"),
        (lambda w: np.square(w), r"t \*\* 2"),
        (lambda w: np.clip(w, 0, 1), r"t.clamp\(min, max\)"),
        (lambda w: np.exp(w), "minidl.ops.exp"),
        (lambda w: np.median(w), "what minidl.ops has"),
        (lambda w: np.cumsum(w), r"t @ np.triu\(.*\) along the last dim"),
    ],
)
def test_numpys_functions_say_what_keeps_the_gradient(call: Any, words: str) -> None:
    with pytest.warns(UserWarning, match=rf"gives only the values: {words} keeps the gradient"):
        call(Tensor(X[:4], requires_grad=True))


@pytest.mark.extra("scipy")
def test_scipys_functions_do_not_lose_a_gradient_without_a_word() -> None:
    """PyTorch refuses; here a loss with one of these lacked that part of its gradient."""
    import scipy.fft
    import scipy.io
    import scipy.linalg
    import scipy.ndimage
    import scipy.optimize
    import scipy.special

    w = Tensor(X[:3, :3], requires_grad=True)
    for call in (scipy.special.logsumexp, scipy.special.softmax, scipy.linalg.inv, scipy.fft.fft, np.fft.fft,
                 lambda t: scipy.ndimage.gaussian_filter(t, 1)):  # fmt: skip
        for t in (w, w * 1):
            with pytest.warns(UserWarning, match="gives only the values.*: what minidl.ops has keeps") as told:
                call(t)
            assert {each.filename for each in told} == {__file__}
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                call(t.detach())

    def loss(values: np.ndarray) -> tuple[Tensor, Any]:
        t = Tensor(values, requires_grad=True)
        y = ((t - 1) ** 2).sum()
        y.backward()
        return y, t.grad

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = scipy.optimize.minimize(loss, w.reshape(-1), jac=True)
        scipy.io.savemat(io.BytesIO(), {"w": w})
    np.testing.assert_allclose(found.x, 1, rtol=1e-4)


@pytest.mark.parametrize("name", ["around", "ceil", "fix", "floor", "rint", "round", "sign", "trunc"])
def test_numpys_steps_lose_no_gradient(name: str) -> None:
    """As in predictions, np.round(p): PyTorch's round has the gradient 0 too."""
    p = Tensor(X, requires_grad=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "numpy.fix is deprecated")  # since NumPy 2.5
        np.testing.assert_array_equal(getattr(np, name)(p), getattr(np, name)(X))


def test_the_larger_and_the_smaller_of_two_arrays_are_named() -> None:
    for op, words in (("max", "ops.maximum"), ("min", "ops.minimum")):
        with pytest.raises(TypeError, match=rf"^{op}: dim must be .*; for two arrays {words}\(a, b\)$"):
            getattr(ops, op)(Tensor(X), Tensor(X))
    with pytest.raises(TypeError, match=r"^sum: dim must be one or several axes, got an array$"):
        ops.sum(Tensor(X), X)


# ---- PyTorch's arguments ----


def test_weights_of_pytorchs_parameters() -> None:
    torch = pytest.importorskip("torch")
    theirs, net = torch.nn.Sequential(torch.nn.Linear(4, 5), torch.nn.ReLU(), torch.nn.Linear(5, 3)), network()
    net.load_state_dict(dict(theirs.named_parameters()))  # which need a gradient
    np.testing.assert_allclose(net(X).numpy(), theirs(torch.from_numpy(X)).detach().numpy(), atol=1e-6)


def test_one_input_is_checked_whole() -> None:
    shapes = []

    def f(x: Tensor) -> Tensor:
        shapes.append(x.shape)
        return x * x

    for x in (Tensor(X[:2], requires_grad=True), X[:2]):
        assert minidl.gradcheck(f, x)
    assert set(shapes) == {(2, 4)}


def test_arguments_by_place_stop_where_pytorchs_order_differs() -> None:
    for make in (
        lambda: nn.ReLU(True),
        lambda: nn.LeakyReLU(0.2, True),
        lambda: nn.Dropout(0.5, True),
        lambda: nn.Conv2d(1, 6, 5, 1, 2, True),
    ):
        with pytest.raises(
            TypeError, match=r"^\w+: True is one positional argument too many; pass others by name, bias=False"
        ):
            make()
    with pytest.raises(TypeError, match="Softmax has no argument 'axis': here it is called dim"):
        nn.Softmax(axis=1)
    for rng in (True, None, 3):
        with pytest.raises(TypeError, match=rf"dropout: rng must be a generator, got {rng}; .*nn.Dropout knows"):
            ops.dropout(Tensor(X), 0.5, rng)
    with pytest.raises(TypeError, match="dropout: rng must be a generator, got None"):
        ops.dropout(Tensor(X), 0.5)


def test_a_parameter_is_made_of_a_tensor_too() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.by = nn.Parameter(Tensor(np.full((4,), 2.0, np.float32)))
            self.frozen = nn.Parameter(Tensor(np.ones(4, np.float32)) * 3, requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return x * self.by + self.frozen

    net = Scale()
    net(X).sum().backward()
    assert [name for name, _ in net.named_parameters()] == ["by", "frozen"]
    np.testing.assert_allclose(net.by.grad, X.sum(0), rtol=1e-6)
    assert net.frozen.grad is None
    t = Tensor(X)
    assert nn.Parameter(t).data is t.data
    assert not t.requires_grad


def test_a_name_that_is_missing_in_a_property_is_named_itself() -> None:
    class Broken(nn.Module):
        @property
        def inner(self) -> Any:
            return self.forgotten

        @property
        def array(self) -> Any:
            return np.zeros(3).forgotten

    with pytest.raises(AttributeError, match="Broken has no 'forgotten'"):
        _ = Broken().inner
    with pytest.raises(AttributeError, match="ndarray' object has no attribute 'forgotten'"):
        _ = Broken().array


@pytest.mark.parametrize("wrong", [4, np.float64, "gpu", None, (2, 3)])
def test_what_stands_in_the_place_of_requires_grad(wrong: Any) -> None:
    """torch.Tensor(3, 4) are sizes, np.array(x, np.float64) has a dtype: here it silently asked for a gradient."""
    with pytest.raises(TypeError, match=r"^Tensor: requires_grad must be True or False, got .*device='gpu'"):
        Tensor(X, wrong)
    assert Tensor(X, True).requires_grad is True
    assert Tensor(X, False).requires_grad is False


def test_the_variance_has_pytorchs_and_numpys_options() -> None:
    with pytest.raises(TypeError, match="var has no argument 'unbiased': correction=0 divides by n, as unbiased=False"):
        Tensor(X).var(0, unbiased=False)
    with pytest.raises(TypeError, match="var has no argument 'ddof': here it is called correction"):
        Tensor(X).var(0, ddof=0)
    np.testing.assert_allclose(Tensor(X).var(0, unbiased=True).numpy(), X.var(0, ddof=1), rtol=1e-6)
    np.testing.assert_allclose(Tensor(X).var(0, correction=0).numpy(), X.var(0), rtol=1e-6)


def test_a_layer_is_not_deleted() -> None:
    net = network()
    with pytest.raises(TypeError, match=r"net\[:-1\] is a network without the last one"):
        del net[-1]
    assert len(net) == 3


# ---- what is not here says what to do ----


def test_what_is_not_here_is_named() -> None:
    loss = ops.cross_entropy(network()(X), Y)
    with pytest.raises(TypeError, match="no argument 'create_graph': there are no second derivatives"):
        loss.backward(create_graph=True)
    with pytest.raises(TypeError, match="no argument 'inputs': requires_grad = False on the other leaves"):
        loss.backward(inputs=[Tensor(X)])
    loss.backward(create_graph=False, inputs=None)
    for ask in (lambda: Tensor(X, dtype=np.float64), lambda: Tensor(X).to(dtype=np.float64)):
        with pytest.raises(TypeError, match=r"no argument 'dtype': array.astype\(dtype\) first"):
            ask()
    for thing in (network(), Tensor(X)):
        with pytest.raises(minidl.DeviceError, match=r"unknown device 'cuda': choose cpu, gpu \(CUDA\) or auto$"):
            thing.to("cuda")
        with pytest.raises(
            minidl.DeviceError, match=r"unknown device .*float64.*; a dtype is passed by name, net.to\(dt"
        ):
            thing.to(np.float64)
    for wrong in (network(), "weights.npz", [X]):
        with pytest.raises(
            TypeError, match=r"load_state_dict takes values by name, such as net.state_dict\(\), not a "
        ):
            network().load_state_dict(wrong)
    w = Tensor(X)
    for value in (np.float32(1), Tensor(X)):
        w.data = value
        with pytest.raises(TypeError, match=r"expected a NumPy or CuPy array, got .*w.data\[...\] = values"):
            w + 1


def test_soft_labels_are_named_and_the_remedy_is_right() -> None:
    torch = pytest.importorskip("torch")
    soft = np.random.default_rng(2).dirichlet(np.ones(4), 6).astype(np.float32)
    with pytest.raises(TypeError, match=r"labels.argmax\(1\) for one-hot rows; for soft ones (.*)$") as told:
        ops.cross_entropy(X, soft)
    remedy = str(told.value).split("for soft ones ")[1]
    wanted = torch.nn.functional.cross_entropy(torch.from_numpy(X), torch.from_numpy(soft)).item()
    value = eval(remedy, {"labels": soft, "logits": Tensor(X), "ops": ops})
    assert value.item() == pytest.approx(wanted, rel=1e-6)


def test_a_layer_takes_anothers_place() -> None:
    net = network()
    names = list(net.state_dict())
    net[-1] = nn.Linear(5, 7, rng=2)
    assert list(net.state_dict()) == names
    np.testing.assert_array_equal(net(X).numpy(), nn.Sequential(*network()[:-1], nn.Linear(5, 7, rng=2))(X).numpy())
    with pytest.raises(TypeError, match="layer 1 is not a Module but 'relu'"):
        net[1] = ops.relu
    with pytest.raises(IndexError):
        net[3] = nn.ReLU()
    layers = nn.ModuleList([nn.Linear(2, 2, rng=0)])
    layers[0] = nn.Linear(3, 3, rng=0)
    assert layers[0].weight.shape == (3, 3)
