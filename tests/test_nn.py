"""Layers and models: names, initial weights, modes, saving and loading."""

import copy
import subprocess
import sys

import numpy as np
import pytest

import minidl
from minidl import Tensor, gradcheck, nn, ops
from minidl.module import evaluating
from minidl.optim import SGD
from minidl.training.models import MODELS, build_model, count_parameters


def small() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1, rng=0), nn.BatchNorm2d(2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(8, 3, rng=1),
    )  # fmt: skip


def test_parameters_are_named_as_in_pytorch():
    assert [name for name, _ in small().named_parameters()] == [
        "0.weight", "0.bias", "1.weight", "1.bias", "5.weight", "5.bias",
    ]  # fmt: skip
    assert set(small().state_dict()) - dict(small().named_parameters()).keys() == {
        "1.running_mean", "1.running_var", "1.num_batches_tracked",
    }  # fmt: skip


def test_a_model_of_ones_own():
    class Residual(nn.Module):
        def __init__(self):
            self.inner = nn.Sequential(nn.Linear(3, 3, rng=0), nn.Tanh())
            self.scale = Tensor(np.ones(1), requires_grad=True)

        def forward(self, x):
            return x + self.inner(x) * self.scale

    model = Residual()
    assert {name for name, _ in model.named_parameters()} == {"scale", "inner.0.weight", "inner.0.bias"}
    assert gradcheck(model.to(dtype=np.float64), [np.random.default_rng(0).normal(size=(2, 3))])
    with pytest.raises(NotImplementedError, match=r"Module has no forward"):
        nn.Module()(Tensor([1.0]))


def test_linear_and_conv_weights_have_pytorchs_layout():
    assert nn.Linear(5, 3).weight.shape == (3, 5)
    assert nn.Conv2d(2, 4, (3, 5)).weight.shape == (4, 2, 3, 5)
    assert nn.Linear(5, 3, bias=False).bias is None


@pytest.mark.parametrize(("init", "variance"), [("kaiming", 2 / 400), ("xavier", 2 / (400 + 300))])
def test_initial_weights_have_the_variance_of_the_papers(init, variance):
    weight = nn.Linear(400, 300, init=init, rng=0).weight.data
    assert weight.dtype == np.float32
    assert weight.var() == pytest.approx(variance, rel=0.02)
    assert weight.mean() == pytest.approx(0, abs=4 * (variance / weight.size) ** 0.5)
    fan_out = 50 * 9
    conv = nn.Conv2d(40, 50, 3, init=init, rng=0).weight.data
    assert conv.var() == pytest.approx(2 / 360 if init == "kaiming" else 2 / (360 + fan_out), rel=0.05)


def test_initial_weights_may_be_pytorchs():
    """As torch.nn.Linear and Conv2d draw them: uniform between -1/sqrt(fan_in) and 1/sqrt(fan_in)."""
    for weight, fan_in in (
        (nn.Linear(400, 300, init="pytorch", rng=0).weight.data, 400),
        (nn.Conv2d(40, 50, 3, init="pytorch", rng=0).weight.data, 360),
    ):
        bound = fan_in**-0.5
        assert 0.999 * bound < abs(weight).max() <= bound
        assert weight.var() == pytest.approx(bound**2 / 3, rel=0.02)


def test_an_unknown_init_is_refused():
    with pytest.raises(ValueError, match="'xavier'"):
        nn.Linear(2, 2, init="glorot")


def test_the_same_seed_gives_the_same_weights_and_no_seed_gives_others():
    for name in MODELS:
        a, b, c = (build_model(name, (28, 28), 10, seed).state_dict() for seed in (3, 3, 4))
        assert all(np.array_equal(a[k], b[k]) for k in a)
        first = next(key for key in a if key.endswith(".weight"))
        assert not np.array_equal(a[first], c[first])
    assert not np.array_equal(nn.Linear(3, 3).weight.data, nn.Linear(3, 3).weight.data)


def test_nothing_draws_from_numpys_global_generator():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 (to see that nobody uses it)
    model = build_model("goodfit", (8, 8), 3)
    model(Tensor(np.ones((2, 1, 8, 8), np.float32))).sum().backward()
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_models_of_the_design():
    assert count_parameters(build_model("mlp", (28, 28), 10)) == 784 * 256 + 256 + 256 * 128 + 128 + 128 * 10 + 10
    assert count_parameters(build_model("cnn", (28, 28), 10)) == 160 + 4640 + 1568 * 128 + 128 + 1290
    for name in MODELS:
        size = (12, 13) if name == "race" else (9, 13)
        assert build_model(name, size, 4)(Tensor(np.ones((2, 1, *size), np.float32))).shape == (2, 4)
    with pytest.raises(ValueError, match="3x28"):
        build_model("cnn", (3, 28), 10)
    with pytest.raises(ValueError, match="11x28 are too small for race: use images of 12x12 or more"):
        build_model("race", (11, 28), 10)
    with pytest.raises(ValueError, match="choose from linear"):
        build_model("resnet", (28, 28), 10)


def test_state_dict_is_a_copy_and_loading_is_in_place():
    model, other = small(), small()
    model[0].weight.data += 1
    state = model.state_dict()
    held = other[0].weight.data
    other.load_state_dict(state)
    assert other[0].weight.data is held
    assert np.array_equal(held, model[0].weight.data)
    state["0.weight"][:] = 0
    assert held.any()
    assert model[0].weight.data.any()


def test_a_state_dict_that_does_not_fit_changes_nothing():
    model = small()
    before = model.state_dict()
    state = {k: v + 1 for k, v in before.items()}
    with pytest.raises(ValueError, match=r"5.weight has shape \(3, 9\), this model needs \(3, 8\)"):
        model.load_state_dict({**state, "5.weight": np.ones((3, 9))})
    missing = {k: v for k, v in state.items() if k != "0.bias"}
    with pytest.raises(KeyError, match=r"missing \['0.bias'\], unexpected \['x'\]"):
        model.load_state_dict({**missing, "x": np.ones(1)})
    assert all(np.array_equal(before[k], v) for k, v in model.state_dict().items())


def test_train_and_eval_reach_every_layer():
    model = nn.Sequential(nn.Sequential(nn.Dropout(0.5, rng=0)), nn.Linear(4, 4))
    x = Tensor(np.ones((3, 4)))
    assert (model[0](x).data == 0).any()
    model.eval()
    assert np.array_equal(model[0](x).data, x.data)
    assert model.train()[0][0].training


def test_a_layer_inside_may_stay_in_evaluation():
    """As torchvision's frozen batch norms do: PyTorch's train() calls that of each layer."""

    class Frozen(nn.BatchNorm2d):
        def train(self, mode=True):
            super().train(False)  # and nothing is returned

    model = nn.Sequential(nn.Sequential(nn.Conv2d(1, 2, 3, rng=0), Frozen(2)), nn.Flatten(), nn.Dropout(0.5, rng=1))
    with evaluating(model.train()):
        assert not model[2].training
    assert (model.training, model[0][1].training, model[2].training) == (True, False, True)
    model(np.ones((4, 1, 5, 5), np.float32))
    assert (model[0][1].running_mean.numpy() == 0).all()
    assert model[0][1].eval() is model[0][1]


def test_batch_norm_layer_uses_the_batch_in_training_and_running_statistics_in_evaluation():
    layer = nn.BatchNorm1d(3)
    x = Tensor(np.random.default_rng(0).normal(5, 2, (64, 3)).astype(np.float32))
    for _ in range(200):
        y = layer(x)
    assert np.allclose(y.data.mean(0), 0, atol=1e-6)
    assert layer.num_batches_tracked == 200
    layer.eval()
    before = layer.state_dict()
    assert np.allclose(layer(x).data, y.data, atol=0.02)
    assert all(np.array_equal(before[k], v) for k, v in layer.state_dict().items())
    with pytest.raises(ValueError, match=r"BatchNorm2d: x \(64, 3\) must have 4 axes"):
        nn.BatchNorm2d(3)(x)


def test_to_changes_the_dtype_of_parameters_and_buffers():
    model = small().to(dtype=np.float64)
    assert {v.dtype for k, v in model.state_dict().items() if "tracked" not in k} == {np.dtype(np.float64)}
    assert model(Tensor(np.ones((2, 1, 4, 4)))).dtype == np.float64


def test_to_refuses_a_dtype_of_no_floats_and_keeps_a_gradient_where_nothing_moves():
    model = nn.Linear(3, 2, rng=0)
    for wrong in ("int64", np.uint8, bool, complex):
        with pytest.raises(TypeError, match="a model's weights are floats"):
            model.to(dtype=wrong)
    model(Tensor(np.ones((1, 3), np.float32))).sum().backward()
    model.to("cpu").to(dtype="float32")
    np.testing.assert_array_equal(model.weight.grad, np.ones((2, 3)))
    assert model.to(dtype="float64").weight.grad is None


def test_a_network_without_weights_is_on_the_cpu():
    images = np.zeros((2, 1, 3), np.uint8)
    np.testing.assert_allclose(minidl.predict(nn.Flatten(), images), np.full((2, 3), 1 / 3), rtol=1e-6)
    assert minidl.evaluate(nn.Flatten(), (images, np.array([0, 1]))).loss == pytest.approx(np.log(3))
    with pytest.raises(ValueError, match="the optimizer has another model's parameters"):
        minidl.Trainer(nn.Flatten(), SGD(nn.Linear(3, 3, rng=0).parameters()), (images, np.array([0, 1])))


def test_gelu_knows_its_words_when_it_is_made():
    with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'erf'"):
        nn.GELU("erf")
    code = "import sys, minidl; minidl.nn.GELU(); print('scipy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


def test_a_deep_copy_is_independent():
    model = small()
    twin = copy.deepcopy(model)
    twin[0].weight.data += 1
    assert not np.array_equal(twin[0].weight.data, model[0].weight.data)


def test_printing_shows_the_layers():
    text = repr(small())
    first, *rows = text.splitlines()
    assert first == f"Sequential, {sum(p.size for p in small().parameters()):,} parameters"
    assert "0  Conv2d(1, 2, (3, 3), stride=(1, 1), padding=(1, 1))  2x1x3x3, 2" in rows[0]
    assert rows[0].endswith(" 20")
    assert rows[5].split() == ["5", "Linear(8,", "3)", "3x8,", "3", "27"]


def test_layers_call_their_operations():
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 6))
    t = Tensor(x)
    assert np.array_equal(nn.MaxPool2d(2)(t).data, ops.max_pool2d(t, 2).data)
    assert np.array_equal(nn.AvgPool2d(3, 1, 1)(t).data, ops.avg_pool2d(t, 3, 1, 1).data)
    assert np.array_equal(nn.Sigmoid()(t).data, ops.sigmoid(t).data)
    assert np.array_equal(nn.Tanh()(t).data, np.tanh(x))
    assert nn.Flatten()(t).shape == (2, 108)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda: nn.Linear(0, 3), ValueError, "in_features must be 1 or more, got 0"),
        (lambda: nn.Linear(3, -1), ValueError, "out_features must be 1 or more, got -1"),
        (lambda: nn.BatchNorm1d(3, eps=0), ValueError, "eps must be above 0, got 0"),
        (lambda: nn.BatchNorm1d(3, momentum=-0.1), ValueError, "momentum must be in \\[0, 1\\], .* got -0.1"),
        (lambda: nn.BatchNorm2d(3, momentum=99), ValueError, "momentum must be in \\[0, 1\\], .* got 99"),
        (lambda: nn.BatchNorm2d(3, momentum="0.1"), ValueError, "momentum must be in \\[0, 1\\], .* got '0.1'"),
        (lambda: nn.Linear(3.0, 2), TypeError, "in_features must be a whole number, got 3.0"),
        (lambda: nn.Conv2d(1, 0, 3), ValueError, "out_channels must be 1 or more, got 0"),
        (lambda: nn.Conv2d(1, 2, (3, 0)), ValueError, "kernel_size must be 1 or more, got 0"),
        (lambda: nn.Conv2d(1, 2, 3, stride=0), ValueError, "stride must be 1 or more, got 0"),
        (lambda: nn.Conv2d(1, 2, 3, padding=-1), ValueError, "padding must be 0 or more, got -1"),
        (lambda: nn.BatchNorm2d("3"), TypeError, "num_features must be a whole number, got '3'"),
        (lambda: nn.AvgPool2d(0), ValueError, "kernel_size must be 1 or more, got 0"),
    ],
)
def test_a_layers_sizes(make, error, says):
    with pytest.raises(error, match=says):
        make()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("layers", [[], [nn.ReLU()]])
def test_batch_norm_of_other_channels(training, layers):
    net = nn.Sequential(nn.BatchNorm2d(1), *layers).train(training)
    with pytest.raises(ValueError, match=r"x \(4, 3, 2, 2\) has 3 channels, but the vectors are for 1"):
        net(Tensor(np.ones((4, 3, 2, 2), np.float32)))
    np.testing.assert_array_equal(net[0].running_var.numpy(), [1])  # nothing has moved
