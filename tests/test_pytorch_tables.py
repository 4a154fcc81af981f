"""PyTorch's own tables of samples, for every operation and layer that minidl has: answered rightly, or refused by name.

The tables are torch.testing's: op_db (OpInfo) and module_db. A sample's arguments get PyTorch's names, and minidl's
function is called by those. What it answers must be PyTorch's value and gradients, in float64 and float32, with fast
forms and without; what it refuses must say which argument or shape it can't take. `-s` prints the counts.
"""

from __future__ import annotations

import contextlib
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest

from minidl import Tensor, nn, ops, reference_only
from tests.torch_internals import table

torch = pytest.importorskip("torch")
pytest.importorskip("expecttest")  # torch.testing's tables need it
pytestmark = [pytest.mark.pytorch, pytest.mark.filterwarnings("ignore")]

DTYPES = {"float64": 1e-9, "float32": 2e-4}  # and how far an answer may be off, of the largest value


class Op(NamedTuple):
    """The minidl function of one of PyTorch's, PyTorch's argument names behind the first, and how many are answered."""

    ours: Callable[..., Any]
    names: str
    answered: int


def swapped(op: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x, other: op(other, x)


def taking(op: Callable[..., Any], renamed: dict[str, str]) -> Callable[..., Any]:
    """op where it has other names than PyTorch."""
    return lambda x, **kwargs: op(x, **{renamed.get(name, name): value for name, value in kwargs.items()})


def dropout(x: Tensor, p: float = 0.5, training: bool = True, **other: Any) -> Tensor:
    return nn.Dropout(p, rng=0, **other).train(training)(x)


OPS = {
    "abs": Op(ops.abs, "", 1),
    "add": Op(ops.add, "b alpha", 9),
    "sub": Op(ops.sub, "b alpha", 9),
    "mul": Op(ops.mul, "b", 9),
    "div": Op(ops.div, "b rounding_mode", 9),
    "__radd__": Op(swapped(ops.add), "other", 9),
    "__rsub__": Op(swapped(ops.sub), "other", 9),
    "__rmul__": Op(swapped(ops.mul), "other", 9),
    "__rdiv__": Op(swapped(ops.div), "other", 9),
    "__rpow__": Op(swapped(ops.pow), "other", 9),
    "__rmatmul__": Op(swapped(ops.matmul), "other", 15),
    "neg": Op(ops.neg, "", 1),
    "pow": Op(ops.pow, "b", 9),
    "matmul": Op(ops.matmul, "b", 15),
    "exp": Op(ops.exp, "", 3),
    "log": Op(ops.log, "", 3),
    "sqrt": Op(ops.sqrt, "", 1),
    "clamp": Op(ops.clamp, "min max", 0),
    "where": Op(lambda x, condition, other: ops.where(condition, x, other), "condition other", 6),
    "nn.functional.relu": Op(ops.relu, "inplace", 4),
    "nn.functional.leaky_relu": Op(ops.leaky_relu, "negative_slope inplace", 9),
    "nn.functional.gelu": Op(ops.gelu, "approximate", 8),
    "sigmoid": Op(ops.sigmoid, "", 3),
    "tanh": Op(ops.tanh, "", 1),
    "softmax": Op(ops.softmax, "dim dtype", 7),
    "log_softmax": Op(ops.log_softmax, "dim dtype", 7),
    "sum": Op(ops.sum, "dim keepdim dtype", 19),
    "mean": Op(ops.mean, "dim keepdim dtype", 19),
    "amax": Op(ops.max, "dim keepdim", 19),
    "amin": Op(ops.min, "dim keepdim", 19),
    "var": Op(ops.var, "dim unbiased keepdim correction", 11),
    "argmax": Op(ops.argmax, "dim keepdim", 13),
    "reshape": Op(lambda x, shape: ops.reshape(x, shape), "shape", 7),
    "view": Op(lambda x, shape: x.view(shape), "shape", 7),
    "flatten": Op(ops.flatten, "start_dim end_dim", 6),
    "transpose": Op(ops.transpose, "dim0 dim1", 8),
    "permute": Op(lambda x, dims: ops.permute(x, dims), "dims", 4),
    "squeeze": Op(ops.squeeze, "dim", 13),
    "unsqueeze": Op(ops.unsqueeze, "dim", 9),
    "cat": Op(ops.cat, "dim", 8),
    "stack": Op(ops.stack, "dim", 9),
    "__getitem__": Op(ops.getitem, "index", 16),
    "nn.functional.linear": Op(ops.linear, "weight bias", 18),
    "nn.functional.conv2d": Op(ops.conv2d, "weight bias stride padding dilation groups", 3),
    "nn.functional.max_pool2d": Op(
        ops.max_pool2d, "kernel_size stride padding dilation ceil_mode return_indices", 144
    ),
    "nn.functional.avg_pool2d": Op(
        ops.avg_pool2d, "kernel_size stride padding ceil_mode count_include_pad divisor_override", 1
    ),
    "nn.functional.batch_norm": Op(
        ops.batch_norm, "running_mean running_var weight bias training momentum eps", 7
    ),
    "nn.functional.dropout": Op(dropout, "p training inplace", 9),
    "nn.functional.mse_loss": Op(
        taking(ops.mse_loss, {"other": "target"}), "target size_average reduce reduction", 6
    ),
    "nn.functional.cross_entropy": Op(
        taking(ops.cross_entropy, {"target": "labels"}),
        "target weight size_average ignore_index reduce reduction label_smoothing", 4,
    ),
    **{
        name: Op(lambda x, other, name=name: getattr(x, f"__{name}__")(other), "other", 4)
        for name in ("eq", "ne", "lt", "le", "gt", "ge")
    },
}  # fmt: skip
LAYERS = {
    "Linear": 6, "Conv2d": 2, "BatchNorm1d": 2, "BatchNorm2d": 4, "Dropout": 0, "Flatten": 1, "ReLU": 8, "Tanh": 6,
    "Sigmoid": 8, "MaxPool2d": 2, "AvgPool2d": 6, "LeakyReLU": 10, "GELU": 6, "Softmax": 6,
    "CrossEntropyLoss": 12, "MSELoss": 16,
}  # fmt: skip # layers of module_db, and how many of its samples are answered at least

# ---- PyTorch's values as minidl's ----


def ours(value: Any, made: dict[int, Tensor]) -> Any:
    """Float tensors as Tensors, noted by PyTorch's id; others as arrays; dtypes by name."""
    if isinstance(value, torch.Tensor):
        array = value.detach().numpy().copy()
        if array.dtype.kind != "f":
            return array
        made[id(value)] = Tensor(array, requires_grad=value.requires_grad)
        return made[id(value)]
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple, torch.Size):
        return [ours(v, made) for v in value] if isinstance(value, list) else tuple(ours(v, made) for v in value)
    return value


def tensors(value: Any) -> Iterator[Any]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, (list, tuple, dict)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from tensors(each)


def same(what: str, got: Any, wanted: Any, tolerance: float) -> None:
    got, wanted = np.asarray(got), np.asarray(wanted)
    assert got.shape == wanted.shape, f"{what}: shape {got.shape}, not {wanted.shape}"
    size = max(1.0, np.abs(wanted[np.isfinite(wanted)]).max(initial=0.0))
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * size, err_msg=what)


def compare(what: str, call: Callable[[], Any], theirs: Callable[[], Any], leaves: list[Any], made: dict[int, Tensor],
            tolerance: float, words: list[str]) -> bool:  # fmt: skip
    """Whether minidl answers, with PyTorch's value and gradients; else it names one of the words."""
    refused, y = "", None
    try:
        y = call()
    except (TypeError, ValueError) as error:
        refused = str(error)
    if y is None:
        assert any(word in refused for word in words), f"{what}: refused, but not by name: {refused}"
        return False
    value, other = y.data if isinstance(y, Tensor) else y, theirs()
    same(what, value, other.detach().numpy(), tolerance)
    if isinstance(y, Tensor) and other.requires_grad:
        g = np.cos(np.arange(y.size)).reshape(y.shape).astype(y.dtype)
        y.backward(g)
        learning = [t for t in leaves if t.requires_grad]
        grads = torch.autograd.grad(other, learning, torch.from_numpy(g), allow_unused=True)
        for t, grad in zip(learning, grads, strict=True):
            mine = made[id(t)].grad
            wanted = np.zeros(t.shape) if grad is None else grad.numpy()
            same(f"{what}: gradient", np.zeros(t.shape) if mine is None else mine, wanted, tolerance)
    return True


@pytest.fixture(scope="module", params=["fast", "reference"])
def form(request: pytest.FixtureRequest) -> Iterator[str]:
    with contextlib.nullcontext() if request.param == "fast" else reference_only():
        yield request.param


def words_of(names: list[str], values: Any) -> list[str]:
    """What a refusal may name: an argument that was given, a shape, or how many positions there are."""
    return [*names, *(str(tuple(t.shape)) for t in tensors(values)), "dim", "labels"]


@pytest.fixture(scope="module")
def op_db() -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for op in table("common_methods_invocations", "op_db"):
        if op.name in OPS and op.variant_test_name != "without_cudnn":
            found.setdefault(op.name, []).append(op)
    return found


@pytest.mark.parametrize("name", OPS)
def test_samples_of_an_operation(name: str, form: str, op_db: dict[str, list[Any]]) -> None:
    answered: Counter[str] = Counter()
    asked = 0
    for dtype, tolerance in DTYPES.items():
        torch.manual_seed(0)
        for info in op_db[name]:
            for sample in info.sample_inputs("cpu", getattr(torch, dtype), requires_grad=info.supports_autograd):
                names = OPS[name].names.split()
                made: dict[int, Tensor] = {}
                given = {**dict(zip(names, sample.args, strict=False)), **sample.kwargs}
                if name == "nn.functional.dropout" and given.get("training", True) and given.get("p", 0.5) > 0:
                    continue  # random: see test_ops.py
                asked += 1
                x, mine = ours(sample.input, made), {key: ours(value, made) for key, value in given.items()}
                leaves = list(tensors((sample.input, given)))
                how = {key: value for key, value in given.items() if not isinstance(value, torch.Tensor)}
                answered[dtype] += compare(
                    f"{name} of {[tuple(t.shape) for t in leaves]}, {how}",
                    lambda x=x, mine=mine: OPS[name].ours(x, **mine),
                    lambda info=info, sample=sample: info.op(sample.input, *sample.args, **sample.kwargs),
                    leaves, made, tolerance, words_of(list(given), leaves),
                )  # fmt: skip
    print(f"{name}, {form}: {sum(answered.values())} of {asked} answered, {asked - sum(answered.values())} refused")
    assert min(answered.values()) >= OPS[name].answered, answered


@pytest.fixture(scope="module")
def module_db() -> dict[str, Any]:
    return {info.name.removeprefix("nn."): info for info in table("common_modules", "module_db")}


@pytest.mark.parametrize("name", LAYERS)
def test_samples_of_a_layer(name: str, form: str, module_db: dict[str, Any]) -> None:
    if name not in module_db:
        pytest.skip(f"module_db of PyTorch {torch.__version__} has no {name}")
    answered, asked, info = Counter(), 0, module_db[name]
    arguments = list(inspect.signature(info.module_cls.__init__).parameters)[1:]
    for dtype, tolerance in DTYPES.items():
        for training in (True, False):
            torch.manual_seed(0)
            kind = getattr(torch, dtype)
            for sample in info.module_inputs_func(
                info, device="cpu", dtype=kind, requires_grad=True, training=training
            ):
                if sample.forward_input is None:
                    continue
                asked += 1
                made: dict[int, Tensor] = {}
                how = sample.constructor_input
                given = {**dict(zip(arguments, how.args, strict=False)), **how.kwargs}
                theirs = info.module_cls(*how.args, **how.kwargs).to(kind).train(training)
                inputs = sample.forward_input
                x, *rest = [*inputs.args, *inputs.kwargs.values()]
                leaves = [*tensors((x, rest)), *theirs.parameters()]
                state = {key: value.numpy().copy() for key, value in theirs.state_dict().items()}
                mine_in, mine_rest = ours(x, made), ours(rest, made)

                def call(
                    given: Any = given,
                    state: Any = state,
                    made: Any = made,
                    theirs: Any = theirs,
                    x: Any = mine_in,
                    rest: Any = mine_rest,
                ) -> Any:
                    layer = getattr(nn, name)(**given).to(dtype=np.dtype(dtype)).train(training)  # noqa: B023
                    layer.load_state_dict(state)
                    mine = dict(layer.named_parameters())
                    made.update((id(p), mine[key]) for key, p in theirs.named_parameters())
                    return layer(x, *rest)

                answered[dtype] += compare(
                    f"{name}({given})", call, lambda theirs=theirs, x=x, rest=rest: theirs(x, *rest), leaves, made,
                    tolerance, words_of([*given, name], [x, *rest]),
                )  # fmt: skip
    print(f"nn.{name}, {form}: {sum(answered.values())} of {asked} answered, {asked - sum(answered.values())} refused")
    assert min(answered[dtype] for dtype in DTYPES) >= LAYERS[name], answered
