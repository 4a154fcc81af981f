"""How programs of PyTorch's users call networks and Tensors: arrays as inputs, several inputs, near names, slips."""

from __future__ import annotations

import copy
import json
import pickle
import re
import subprocess
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import minidl
from minidl import Tensor, Trainer, nn, ops, optim
from minidl.data.splits import Examples, Splits
from minidl.optim import SGD, Adam

ROOT = Path(__file__).parents[1]
IMAGES = np.random.default_rng(0).random((4, 1, 2, 3), dtype=np.float32)


class Net(nn.Module):
    """It begins with a method of Tensors, which arrays lack, or have under the same name with another meaning."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(6, 2, rng=0)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(x.view(x.size(0), -1)).relu()


def test_arrays_reach_a_network_as_tensors() -> None:
    net = Net()
    wanted = net(Tensor(IMAGES)).numpy()
    np.testing.assert_array_equal(net(IMAGES).numpy(), wanted)
    np.testing.assert_array_equal(net(x=IMAGES).numpy(), wanted)
    np.testing.assert_array_equal(net(IMAGES[::-1]).numpy(), net(Tensor(IMAGES[::-1])).numpy())
    pixels = (IMAGES * 9).astype(np.uint8)
    np.testing.assert_array_equal(net(pixels).numpy(), net(Tensor(pixels)).numpy())
    with pytest.raises(TypeError, match=r"float64 on the cpu and float32 on the cpu: convert .*model.to\(dtype=\)"):
        net(IMAGES.astype(np.float64))


def test_whole_numbers_reach_a_network_as_they_are() -> None:
    class Embedding(nn.Module):
        def __init__(self) -> None:
            self.weight = nn.Parameter(np.arange(10.0).reshape(5, 2))

        def forward(self, words: Any) -> Tensor:
            return self.weight[words]

    words = np.array([[0, 4], [4, 4]])
    rows = Embedding()
    np.testing.assert_array_equal(rows(words).numpy(), rows.weight.numpy()[words])
    rows(words).sum().backward()
    np.testing.assert_array_equal(rows.weight.grad, [[1, 1], [0, 0], [0, 0], [0, 0], [3, 3]])


def test_a_network_of_several_inputs_and_outputs() -> None:
    class Pair(nn.Module):
        def __init__(self) -> None:
            self.one = nn.Linear(3, 2, rng=0)

        def forward(self, a: Tensor, b: Tensor, scale: float = 1.0) -> tuple[Tensor, Tensor]:
            return self.one(a) * scale, self.one(b)

    pair, x = Pair(), IMAGES[0, 0]
    left, right = pair(x, b=x, scale=2.0)
    np.testing.assert_array_equal(left.numpy(), 2 * right.numpy())
    left.sum().backward()
    assert pair.one.weight.grad is not None


def test_a_forward_without_return_is_told() -> None:
    class Forgetful(nn.Module):
        def forward(self, x: Tensor) -> Any:
            x.relu()

    with pytest.raises(TypeError, match=r"Forgetful.forward returned None: end it with `return`"):
        Forgetful()(IMAGES)


def test_losses_take_arrays() -> None:
    logits, labels = IMAGES[:, 0, 0], np.array([0, 1, 2, 0])
    assert nn.CrossEntropyLoss()(logits, labels).item() == ops.cross_entropy(logits, labels).item()
    assert nn.MSELoss()(logits, target=logits + 1).item() == pytest.approx(1)
    assert nn.CrossEntropyLoss().forward(Tensor(logits), labels).shape == ()


def test_size_is_numpys_number_and_pytorchs_call() -> None:
    x = Tensor(IMAGES)
    assert (x.size, x.size(), x.size(0), x.size(-1), x.size(dim=np.int64(2))) == (24, (4, 1, 2, 3), 4, 3, 2)
    assert x.size + 1 == 25
    assert f"{x.size} {x.size:,} {x.size!r}" == "24 24 24"
    assert json.dumps({"n": x.size}) == '{"n": 24}'
    assert pickle.loads(pickle.dumps(x.size)) == copy.deepcopy(x.size) == 24
    assert np.zeros(x.size).shape == (24,)
    with pytest.raises(IndexError):
        x.size(4)


def test_labels_that_are_no_whole_numbers_say_what_to_give() -> None:
    logits, labels = IMAGES[:, 0, 0], np.array([0, 1, 2, 0])
    for wrong, words in (
        (Tensor(labels), r"float32: give an array of integers, .*not a Tensor"),
        (np.eye(3)[labels], r"float64: labels.argmax\(1\) for one-hot rows"),
        (labels.astype(float), r"float64: give an array of integers, labels.astype\(int\)"),
    ):
        with pytest.raises(TypeError, match=f"labels must be integers, not {words}"):
            nn.CrossEntropyLoss()(logits, wrong)
    with pytest.raises(TypeError, match=r"with_logits has no argument 'pos_weight': with reduction='none': \(\(1 \+ "):
        ops.binary_cross_entropy_with_logits(logits, np.ones((6, 3)), pos_weight=np.ones(3))
    with pytest.raises(TypeError, match=r"dropout has no argument 'training': .*nn.Dropout, with net.train\(\)"):
        ops.dropout(Tensor(IMAGES), p=0.5, training=True)


def test_a_parameter_is_not_replaced_by_what_would_not_be_learned() -> None:
    net = Net()
    names = [name for name, _ in net.named_parameters()]
    for frozen in (False, True):
        net.last.weight.requires_grad = not frozen
        with pytest.raises(TypeError, match=r"Linear.weight is a parameter.*nn.Parameter.*weight.data\[...\] = values"):
            net.last.weight = Tensor(np.zeros((2, 6), np.float32))
        for value in (np.zeros((2, 6), np.float32), 0.0, [0.0], net.last.weight * 2):  # PyTorch refuses these too
            with pytest.raises(TypeError, match=r"Linear.weight is a parameter, a .* would not be trained: assign"):
                net.last.weight = value
    net.last.weight = nn.Parameter(np.zeros((2, 6), np.float32))
    assert [name for name, _ in net.named_parameters()] == names
    net.last.bias = None  # as in PyTorch
    assert [name for name, _ in net.named_parameters()] == ["last.weight"]
    np.testing.assert_array_equal(net(IMAGES).numpy(), np.zeros((4, 2)))
    other = copy.deepcopy(net)
    other.last.weight = net.last.weight  # tied
    assert other.last.weight is net.last.weight


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0)])
def test_the_largest_of_nothing_is_refused_by_name(shape: tuple[int, ...]) -> None:
    x = Tensor(np.zeros(shape))
    for name in ("max", "min", "argmax"):
        with pytest.raises(ValueError, match=rf"^{name}: x \({shape[0]},.*\) has no elements over dim None, and so no"):
            getattr(x, name)()
    if shape == (0, 3):
        assert x.max(1).shape == x.min(1).shape == x.argmax(1).shape == (0,)
        with pytest.raises(ValueError, match=r"min: x .* over dim 0"):
            x.min(0)
        with pytest.raises(ValueError, match="min: dim 2 is out of range"):
            x.min(2)


def test_numbers_are_stacked_not_joined() -> None:
    with pytest.raises(ValueError, match=r"a scalar has no axis to join along: ops.stack"):
        ops.cat([Tensor(1.0), Tensor(2.0)])
    np.testing.assert_array_equal(ops.stack([Tensor(1.0), Tensor(2.0)]).numpy(), [1, 2])


# ---- names that are nearly right ----


@pytest.mark.parametrize(
    ("where", "name", "words"),
    [
        (nn, "Conv2D", "it is called Conv2d"),
        (nn, "relu", "it is called ReLU"),
        (nn, "Batchnorm2d", "it is called BatchNorm2d"),
        (nn, "BatchNorm", r"did you mean BatchNorm1d or BatchNorm2d\?"),
        (nn, "MaxPool", r"did you mean MaxPool2d\?"),
        (nn, "Sequental", r"did you mean Sequential\?"),
        (nn, "CrossEntropy", r"did you mean CrossEntropyLoss\?"),
        (nn, "Dense", r"nn.Linear\(in_features"),
        (nn, "LSTM", "there are no recurrent layers"),
        (ops, "crossentropy", "it is called cross_entropy"),
        (ops, "elu", r"ops.where\(x > 0, x, ops.where"),
        (ops, "celu", "compose it from"),
        (ops, "selu", r"1.050701 \* ops.where\(x > 0, x, 1.673263"),
        (ops, "relu_", "nothing is changed in place"),
        (Tensor(1.0), "random_", "nothing is changed in place"),
        (Tensor(1.0), "normal_", r"p.data\[...\] = rng.normal\(mean, std, p.shape\)"),
        (Tensor(1.0), "clamp_", r"computed anew: t.clamp; p.data\[...\] ="),
        (Tensor(1.0), "masked_fill_", r"computed anew: ops.where\(mask, value, t\); "),
        (Tensor(1.0), "geometric_", "computed anew: t = t . 1; "),
        (Tensor(1.0), "floor", "np.floor, without a gradient; for one compose it from minidl.ops"),
        (ops, "cumprod", "np.cumprod, without a gradient; for one "),
        (Tensor(1.0), "sofmax", r"did you mean softmax\?"),
        (SGD(Net().parameters(), lr=0.1), "param_groups", r"optimizer.lr is the learning rate, and may be set"),
        (Adam(), "add_param_group", "when it is built"),
        (Adam(), "whatever", "Adam has no 'whatever'$"),
        (optim, "RMSProp", "it is called RMSprop"),
        (optim, "NAdam", "write it as a rule of your own: .*own-rule.md"),
        (optim, "Shampoo", "a rule of your own"),
        (optim, "lr_scheduler", "lr= takes a schedule"),
        (minidl, "Evaluate", "it is called evaluate"),
        (minidl, "Dataset", "minidl has no 'Dataset'$"),
        (minidl, "from_numpy", r"Tensor\(array\)"),
        (minidl, "relu", "it is minidl.ops.relu"),
        (minidl, "Linear", "it is minidl.nn.Linear"),
        (minidl, "Adam", "it is minidl.optim.Adam"),
        (minidl, "float32", "np.float32"),
        (minidl, "DataLoader", r"minidl.batches\(images, labels, 64, rng\)"),
        (minidl.data, "DataLoader", r"minidl.batches\(images, labels, 64, rng\)"),
        (minidl.data, "MNIST", r"minidl.load_mnist\(\)"),
        (minidl.data, "load_minst", r"minidl.data has no 'load_minst': did you mean load_mnist\?"),
        (Adam(), "get_last_lr", "optimizer.lr"),
        (Net(), "clone", r"copy.deepcopy\(net\) copies a network"),
        (minidl, "random_split", r"permutation\(len\(x\)\)"),
        (minidl, "Generator", "np.random.default_rng"),
        (minidl, "cumprod", "np.cumprod$"),
        (minidl, "meshgrid", "np.meshgrid$"),
        (nn, "LazyLinear", r"nn.Linear\(in_features"),
        (nn, "ReflectionPad2d", "np.pad"),
        (nn, "ZeroPad2d", "ops.cat with zeros"),
    ],
)
def test_a_near_name_is_named(where: Any, name: str, words: str) -> None:
    with pytest.raises(AttributeError, match=words) as told:
        getattr(where, name)
    assert f"has no '{name}'" in str(told.value)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("from minidl import DataLoader", r"minidl.batches\(images, labels, 64, rng\)"),
        ("from minidl import relu", "it is minidl.ops.relu"),
        ("from minidl import whatever", "whatever'$"),
        ("from minidl.data import MNIST", r"minidl.load_mnist\(\)"),
        ("from minidl.nn import functional as F", "minidl.ops$"),
        ("from minidl.nn import Linear, GRU", "there are no recurrent layers"),
        ("from minidl.ops import relu, einsum", "ops.matmul, with transpose"),
        ("from minidl.optim import lr_scheduler", "lr= takes a schedule"),
    ],
)
def test_an_import_is_told_what_to_write(line: str, words: str) -> None:
    with pytest.raises(ImportError, match=f"has no '.*{words}"):
        exec(line, {})


def test_modules_are_imported_from_packages_as_before() -> None:
    lines = ("from minidl import train", "from minidl.data import layout", "from minidl.optim import sgd")
    code = "\n".join([*lines, "import minidl", "assert not hasattr(minidl, 'MNIST') and not hasattr(minidl.nn, 'GRU')"])
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.pytorch
def test_the_remedies_are_right() -> None:
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(1)
    z, y, images = rng.normal(size=(5, 3)) * 4, rng.integers(0, 2, (5, 3)), rng.normal(size=(2, 3, 4, 4))
    names = {"ops": ops, "x": Tensor(z), "z": Tensor(z), "t": Tensor(z), "y": y, "p": Tensor(z).sigmoid(), "dim": 1}
    names |= {"a": Tensor(z), "b": Tensor(y.astype(float))}
    tz, ty = torch.from_numpy(z), torch.from_numpy(y.astype(float))
    for remedy, name, wanted in (
        (minidl.elsewhere.ELSEWHERE["BCELoss"].split(";")[0], "p", F.binary_cross_entropy(tz.sigmoid(), ty)),
        (minidl.elsewhere.ELSEWHERE["l1_loss"], "a", F.l1_loss(tz, ty)),
        (minidl.elsewhere.ELSEWHERE["SiLU"], "x", F.silu(tz)),
    ):
        assert name in remedy
        np.testing.assert_allclose(eval(remedy, names).numpy(), wanted.numpy(), rtol=1e-12)
    lse, m = minidl.elsewhere.ELSEWHERE["logsumexp"].split(", with m = ")
    names["m"] = eval(m, names)
    logs = eval(lse, names | {"t": (t := Tensor(z, requires_grad=True))})
    logs.sum().backward()
    np.testing.assert_allclose(logs.numpy(), tz.logsumexp(1).numpy(), rtol=1e-12)
    np.testing.assert_allclose(t.grad, tz.softmax(1).numpy(), rtol=1e-12)
    mean = minidl.elsewhere.ELSEWHERE["AdaptiveAvgPool2d"].split(" is ")[0]
    wanted = F.adaptive_avg_pool2d(torch.from_numpy(images), 1)[:, :, 0, 0]
    np.testing.assert_allclose(eval(mean, {"x": Tensor(images)}).numpy(), wanted, rtol=1e-12)


INDEX = np.array([3, 0, 3, 1, 3])
COLUMNS = np.array([[0, 1], [1, 1], [2, 0], [0, 0], [2, 1]])
RECIPES = {  # name: what PyTorch gives of x, a and b (5, 3), q and p (rows of probabilities), w (3,)
    "concat": lambda t, F, v: t.cat([v["a"], v["b"]], 1), "hstack": lambda t, F, v: t.hstack([v["a"], v["b"]]),
    "vstack": lambda t, F, v: t.vstack([v["a"], v["b"]]), "tile": lambda t, F, v: t.tile(v["t"], (1, 2)),
    "reciprocal": lambda t, F, v: t.reciprocal(v["t"]), "log1p": lambda t, F, v: t.log1p(v["t"]),
    "rsqrt": lambda t, F, v: t.rsqrt(v["t"]), "log2": lambda t, F, v: t.log2(v["t"]),
    "log10": lambda t, F, v: t.log10(v["t"]), "cdist": lambda t, F, v: t.cdist(v["a"], v["b"]),
    "pairwise_distance": lambda t, F, v: F.pairwise_distance(v["a"], v["b"]),
    "expm1": lambda t, F, v: t.expm1(v["t"]), "relu6": lambda t, F, v: F.relu6(v["t"]),
    "softplus": lambda t, F, v: F.softplus(v["x"]), "logsigmoid": lambda t, F, v: F.logsigmoid(v["x"]),
    "elu": lambda t, F, v: F.elu(v["x"]), "normalize": lambda t, F, v: F.normalize(v["x"]),
    "cosine_similarity": lambda t, F, v: F.cosine_similarity(v["a"], v["b"]),
    "kl_div": lambda t, F, v: F.kl_div(v["log_p"], v["q"], reduction="batchmean"),
    "huber_loss": lambda t, F, v: F.huber_loss(v["a"], v["b"]), "cumsum": lambda t, F, v: t.cumsum(v["t"], -1),
    "sort": lambda t, F, v: v["x"][1].sort().values,
    "flip": lambda t, F, v: v["t"].flip(0), "roll": lambda t, F, v: v["t"].roll(2, 0),
    "take": lambda t, F, v: v["t"].take(t.tensor(COLUMNS)), "where": lambda t, F, v: v["t"].where(v["x"] > 0, v["a"]),
    "add_": lambda t, F, v: v["t"].clone().add_(v["a"]), "sub_": lambda t, F, v: v["t"].clone().sub_(v["a"]),
    "mul_": lambda t, F, v: v["t"].clone().mul_(v["a"]), "div_": lambda t, F, v: v["t"].clone().div_(v["a"]),
    "layer_norm": lambda t, F, v: F.layer_norm(v["x"], (3,)), "dist": lambda t, F, v: t.dist(v["a"], v["b"]),
    "Upsample": lambda t, F, v: F.interpolate(v["images"], scale_factor=2), "sin": lambda t, F, v: t.sin(v["x"]),
    "poisson_nll_loss": lambda t, F, v: F.poisson_nll_loss(v["x"], v["t"]),
    "gaussian_nll_loss": lambda t, F, v: F.gaussian_nll_loss(v["a"], v["b"], v["t"]),
    "hinge_embedding_loss": lambda t, F, v: F.hinge_embedding_loss(v["a"], v["signs"]),
    "soft_margin_loss": lambda t, F, v: F.soft_margin_loss(v["x"], v["signs"].detach()),
    "multi_margin_loss": lambda t, F, v: F.multi_margin_loss(v["x"], t.tensor(INDEX % 3)),
    "softsign": lambda t, F, v: F.softsign(v["x"]), "cos": lambda t, F, v: t.cos(v["x"]),
    "outer": lambda t, F, v: t.outer(v["a"][0], v["b"][0]),
    "gather": lambda t, F, v: t.gather(v["t"], 1, t.tensor(COLUMNS)),
    "scatter_add": lambda t, F, v: t.zeros(4, 3, dtype=t.float64).index_add(0, t.tensor(INDEX), v["t"]),
}  # fmt: skip


@pytest.mark.pytorch
def test_attention_may_be_causal() -> None:
    """Without its mask each position saw those after it, and so the answer."""
    torch = pytest.importorskip("torch")
    q, k, v = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    _, scores, code = re.split("; for is_causal=True, scores (.) before the softmax become ",
                               minidl.elsewhere.ELSEWHERE["scaled_dot_product_attention"])  # fmt: skip
    s = Tensor(q @ k.swapaxes(-2, -1) / 2)
    there = map(torch.from_numpy, (q, k, v))
    wanted = torch.nn.functional.scaled_dot_product_attention(*there, is_causal=True)
    found = eval(code, {"np": np, "ops": ops, "n": 5, scores: s}).softmax(-1) @ v
    np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-12)


def test_sharpness_aware_steps_clear_the_first_gradient() -> None:
    """Foret et al. 2021, Algorithm 1: without zero_grad() in between, the step was along the sum of both gradients."""
    said = minidl.elsewhere.ELSEWHERE["SAM"].split(": after the first ")[1].split(", after the second ")
    w, rho = Tensor([2.0], requires_grad=True), 0.5
    optimizer = SGD([w], lr=0.1)
    names = {"w": w, "zero_grad": optimizer.zero_grad, "step": optimizer.step}
    for lines in said:
        (w**4).sum().backward()
        names["e"] = rho * np.sign(w.grad) if lines is said[0] else names["e"]
        exec(lines.replace(" and ", "; "), names)
    np.testing.assert_allclose(w.numpy(), [2 - 0.1 * 4 * 2.5**3], rtol=1e-6)


def test_other_weights_for_a_while() -> None:
    """PyTorch's functional_call, as MAML of first order needs it."""
    net, other = nn.Linear(2, 1), [np.float32([[3, 4]]), np.float32([5])]
    kept = [p.data.copy() for p in net.parameters()]
    assert minidl.elsewhere.ELSEWHERE["functional_call"].startswith("p.data[...] = values in each weight")
    for p, values in zip(net.parameters(), other, strict=True):
        p.data[...] = values
    x = Tensor(np.float32([[1, 2]]), requires_grad=True)
    (net(x) ** 2).sum().backward()
    for p, values in zip(net.parameters(), kept, strict=True):
        p.data[...] = values
    np.testing.assert_array_equal(x.grad, [[2 * 16 * 3, 2 * 16 * 4]])
    np.testing.assert_array_equal(net.weight.grad, [[2 * 16 * 1, 2 * 16 * 2]])


@pytest.mark.parametrize("thing", [None, {"a": 1}, nn.ReLU()])
def test_what_is_no_array_is_named(thing: Any) -> None:
    """Such as the None of a function without a return: its dtype, object, and astype(np.float32) helped nobody."""
    for call in (Tensor, nn.Linear(2, 2), lambda x: Tensor([1.0]) + x):
        with pytest.raises(TypeError, match=f"a Tensor holds real numbers; this is a {type(thing).__name__}$"):
            call(thing)


def test_several_values_are_neither_true_nor_false() -> None:
    """As in `if mask:` or `h or zeros`, where item() was named, which the user had not written."""
    with pytest.raises(
        ValueError, match=r"of shape \(2,\) is neither true nor false: write `t is not None`, or \(t !="
    ):
        bool(Tensor([1.0, 0.0]))
    assert bool(Tensor([2.0]))
    assert not Tensor(0.0)


def test_a_largest_value_is_a_tensor_in_words_too() -> None:
    with pytest.raises(AttributeError, match=r"^Tensor has no 'values'"):
        Tensor([[1.0, 2.0]]).max(1).values  # noqa: B018
    with pytest.raises(AttributeError, match="it is called Parameter"):
        nn.parameter  # noqa: B018


@pytest.mark.pytorch
@pytest.mark.parametrize("name", ["ReflectionPad2d", "ReplicationPad2d", "CircularPad2d"])
def test_an_image_is_padded_with_its_own_pixels(name: str) -> None:
    """Value and gradient: the advice was to pad with zeros, which is another layer."""
    torch = pytest.importorskip("torch")
    x = Tensor(np.random.default_rng(0).normal(size=(2, 3, 4, 5)), requires_grad=True)
    there = torch.tensor(x.numpy(), requires_grad=True)
    wanted = getattr(torch.nn, name)(2)(there)
    code, given = minidl.elsewhere.ELSEWHERE[name].split(", with ")
    names: dict[str, Any] = {"np": np, "x": x, "p": 2}
    exec(f"{given}\npadded = {code}", names)
    np.testing.assert_array_equal(names["padded"].numpy(), wanted.detach().numpy())
    weights = np.random.default_rng(1).normal(size=wanted.shape)
    (names["padded"] * weights).sum().backward()
    (wanted * torch.tensor(weights)).sum().backward()
    np.testing.assert_allclose(x.grad, there.grad.numpy(), rtol=1e-12)


@pytest.mark.pytorch
@pytest.mark.parametrize("name", RECIPES)
def test_the_recipes_are_pytorchs(name: str) -> None:
    """Value and gradient, at 0 too."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    arrays = {"x": rng.normal(size=(5, 3)) * 3, "a": rng.normal(size=(5, 3)) * 2, "b": rng.normal(size=(5, 3))}
    arrays |= {"t": rng.random((5, 3)) + 0.5, "q": rng.dirichlet(np.ones(3), 5), "images": rng.random((2, 3, 4, 4))}
    arrays["log_p"] = np.log(rng.dirichlet(np.ones(3), 5))
    arrays["x"][0] = [0, 1, 2]
    near = 1e-12
    if name in ("log1p", "expm1"):
        arrays["t"][0], near = 1e-20, 0  # what these functions are for
    if name in ("normalize", "cosine_similarity"):
        arrays["x"][1], arrays["a"][1] = 0, 0
    arrays["q"][0], arrays["signs"] = [0, 1, 0], np.sign(rng.normal(size=(5, 3)))
    here = {key: Tensor(value, requires_grad=True) for key, value in arrays.items()}
    there = {key: torch.tensor(value, requires_grad=True) for key, value in arrays.items()}
    wanted = RECIPES[name](torch, torch.nn.functional, there)
    recipe = re.split(
        r"[,;] (?=of minidl|with [dm] =|t the|y of|along|which|for is)| along| of a vector| is twice| adds row",
        minidl.elsewhere.ELSEWHERE[name],
    )[0]
    sizes = {"n": 2, "c": 3, "h": 4, "w": 4} if name == "Upsample" else {"n": 3}
    names = {**here, "ops": ops, "np": np, "record": minidl.tensor.record, "dim": 1, **sizes}
    if "loss" in name and "y" not in names:
        names["y"] = arrays["signs"]
    if name == "multi_margin_loss":
        names |= {"y": INDEX % 3, "n": 5}
    if name in ("tril", "triu"):
        names["t"] = here["images"]
    if name in ("index_add", "scaled_dot_product_attention", "margin_ranking_loss", "lerp"):
        names |= {
            "index": INDEX,
            "n": 4,
            "q": here["a"],
            "k": here["b"],
            "v": here["t"],
            "y": arrays["signs"],
            "w": 0.5,
        }
        names["margin"] = 1
    if name in ("gather", "scatter_add"):
        names |= {"index": COLUMNS if name == "gather" else INDEX, "n": 4}
    names |= {"indices": COLUMNS, "k": here["b"] if name.startswith("scaled") else 2}
    if name == "sort":
        names["t"] = here["x"][1]
    if name == "where":
        names |= {"mask": here["x"] > 0, "value": here["a"]}
    if name.endswith("_"):
        recipe, names["u"] = recipe.split("else t = ")[1], here["a"]
    if name == "repeat_interleave":
        names["n"] = 2
    if name == "outer":
        names |= {"a": here["a"][0], "b": here["b"][0]}
    if name == "Upsample":
        names["x"] = here["images"]
    if name == "huber_loss":
        names["d"] = ops.abs(here["a"] - here["b"])
    found = eval(recipe, names)
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), rtol=1e-12, atol=near)
    found.sum().backward()
    wanted.sum().backward()
    for key, value in there.items():
        if value.grad is not None:
            known = np.isfinite(value.grad.numpy())  # PyTorch has no gradient of kl_div for a q of 0
            np.testing.assert_allclose(here[key].grad[known], value.grad[known], rtol=1e-9, atol=1e-12, err_msg=key)


def test_layers_know_their_sizes_by_pytorchs_names() -> None:
    head, conv = nn.Linear(4, 3, bias=False), nn.Conv2d(2, 5, (3, 1))
    assert (head.in_features, head.out_features) == (4, 3)
    assert (conv.in_channels, conv.out_channels, conv.kernel_size) == (2, 5, (3, 1))
    assert nn.BatchNorm2d(7).num_features == 7


def test_the_schedules_named_are_pytorchs() -> None:
    torch = pytest.importorskip("torch")
    S = torch.optim.lr_scheduler
    there = {"parse_schedule": optim.parse_schedule, "n": 2000}
    for name, make in (
        ("StepLR", lambda o: S.StepLR(o, 1000, 0.1)),
        ("CosineAnnealingLR", lambda o: S.CosineAnnealingLR(o, 2000)),
    ):
        schedule = eval(minidl.elsewhere.ELSEWHERE[name].removeprefix("lr="), there)
        theirs = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        scheduler = make(theirs)
        for k in range(1500):
            assert schedule(k) == pytest.approx(theirs.param_groups[0]["lr"], rel=1e-6)
            theirs.step()
            scheduler.step()


# ---- weights of another network ----


def test_weights_of_another_network_are_refused_and_both_are_named(tmp_path: Path) -> None:
    deep = nn.Sequential(*[nn.Linear(3, 3, rng=0) for _ in range(5)])
    path = tmp_path / "deep.safetensors"
    deep.save(path)
    net = Net()
    before = net.state_dict()
    with pytest.raises(KeyError) as told:
        net.load(path)
    message = told.value.args[0]
    assert message.startswith(f"{path} holds 10 tensors ")
    assert "these 10 values are not the 2 of this Net: missing ['last.bias', 'last.weight'], unexpected ['0." in message
    assert message.endswith("and 6 more")
    with pytest.raises(ValueError, match=r"deep.safetensors holds.*Sequential.*0.weight has shape \(3, 3\).*\(2, 3\)"):
        nn.Sequential(nn.Linear(3, 2, rng=0), *deep[1:]).load(path)
    with pytest.raises(TypeError, match=r"no argument 'strict': load \{\*\*net.state_dict\(\), \*\*some\}"):
        net.load_state_dict({}, strict=False)
    net.load_state_dict({**net.state_dict(), "last.bias": np.ones(2)}, strict=True)
    np.testing.assert_array_equal(net.last.bias.numpy(), [1, 1])
    np.testing.assert_array_equal(net.last.weight.numpy(), before["last.weight"])


# ---- a softmax before the loss ----


def digits() -> Splits:
    rng = np.random.default_rng(0)
    part = Examples(rng.random((40, 2, 3), dtype=np.float32), rng.integers(0, 3, 40))
    return Splits(part, part, part, 3, (2, 3))


@pytest.mark.parametrize(("last", "word"), [(nn.Softmax(1), "softmax"), (nn.Sigmoid(), "sigmoid")])
def test_a_softmax_before_the_loss_is_told_once(last: nn.Module, word: str) -> None:
    """By a Trainer, and in a loop of one's own."""
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 3, rng=0), last)
    data = digits().train

    def by_trainer() -> None:
        Trainer(net, Adam(net.parameters()), digits(), batch_size=8).fit(2)

    def by_hand() -> None:
        for _ in range(3):
            nn.CrossEntropyLoss()(net(data.images), data.labels)

    for train in (by_trainer, by_hand):
        with warnings.catch_warnings():  # compiling forgets what was told
            warnings.simplefilter("ignore")
            train()
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("default")
            train()
        slips = [str(each.message) for each in told if "ends with a" in str(each.message)]
        assert len(slips) == 1
        assert slips[0].startswith(f"the network ends with a {word}, and the loss, cross-entropy, applies the softmax")


def test_a_network_that_ends_with_logits_is_not_told() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(6, 6, rng=0), nn.Softmax(1), nn.Linear(6, 3, rng=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Trainer(net, SGD(net.parameters(), lr=0.1), digits(), batch_size=8).fit(1)


def test_an_optimizer_of_another_network_is_told_in_a_loop_of_ones_own() -> None:
    optimizer, net = Adam(Net().parameters()), Net()
    net(IMAGES).sum().backward()
    with pytest.warns(UserWarning, match=r"no gradient, .* parameters\(\) the optimizer was built with .*built again"):
        optimizer.step()


@pytest.mark.parametrize("loops", [False, True])
def test_each_intermediate_gradient_of_a_network_by_hand(loops: bool) -> None:
    """As in lectures on backpropagation by hand, and as maps of what a network looks at need it: retain_grad()."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    table, w1, w2 = (rng.normal(size=size).astype(np.float32) for size in ((27, 10), (30, 64), (64, 27)))
    letters, wanted = rng.integers(0, 27, (32, 3)), rng.integers(0, 27, 32)

    def gradients(new: Any) -> dict[str, Any]:
        c, a, b = (new(value) for value in (table, w1, w2))
        made = {"emb": c[letters]}
        made["cat"] = made["emb"].reshape(32, 30)
        made["pre"] = made["cat"] @ a
        made["mean"] = made["pre"].mean(0, keepdim=True)
        made["diff"] = made["pre"] - made["mean"]
        made["var"] = (made["diff"] ** 2).sum(0, keepdim=True) / 31
        made["norm"] = made["diff"] * (made["var"] + 1e-5) ** -0.5
        made["h"] = made["norm"].tanh()
        made["logits"] = made["h"] @ b
        made["probs"] = made["logits"].softmax(1)
        made["loss"] = -made["probs"].log()[np.arange(32), wanted].mean()
        for value in made.values():
            value.retain_grad()
        made["loss"].backward()
        return {name: np.asarray(value.grad) for name, value in made.items()}

    with minidl.no_fast() if not loops else nullcontext():
        here = gradients(lambda value: Tensor(value, requires_grad=True))
    there = gradients(lambda value: torch.tensor(value, requires_grad=True))
    for name, gradient in there.items():
        np.testing.assert_allclose(here[name], gradient, rtol=1e-4, atol=1e-6, err_msg=name)
