"""The same checks as on the counting device, on a real GPU with CuPy: `python -m pytest -m gpu`.

A kernel that does not compile there, or differs from the reference, warns, and a warning fails a test.
"""

import numpy as np
import pytest

from minidl import DeviceError, Tensor, reference_only
from minidl.backend import get_backend
from minidl.trainer import evaluate
from minidl.training.build import NAMES
from minidl.training.config import Config, prepare
from minidl.training.models import MODELS
from tests import device_checks as checks
from tests.commands import tiny_dataset

pytestmark = pytest.mark.gpu


@pytest.fixture(scope="module", autouse=True)
def gpu():
    try:
        return get_backend("gpu")
    except DeviceError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return tiny_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(params=["reference", "kernels"])
def form(request):
    """Both forms: the operations as they are written, and the kernels."""
    if request.param == "kernels":
        yield request.param
    else:
        with reference_only():
            yield request.param


@pytest.mark.parametrize("dtype", checks.TOLERANCE)
@pytest.mark.parametrize("name", checks.OPS)
def test_an_operation_is_the_cpus(name, dtype, form):
    checks.check_op(name, "gpu", dtype)


@pytest.mark.parametrize("name", checks.LAYERS)
def test_a_layer_is_the_cpus(name, form):
    checks.check_layer(name, "gpu")


@pytest.mark.parametrize("dtype", checks.TOLERANCE)
@pytest.mark.parametrize("name", checks.RULES)
def test_a_rule_is_the_cpus(name, dtype, form):
    checks.check_rule(name, "gpu", dtype)


@pytest.mark.parametrize("model", MODELS)
def test_each_model_learns_as_on_the_cpu(model, data, form, tmp_path):
    checks.check_model(model, "gpu", tiny_dataset(tmp_path, every=1) if model == "race" else data)


@pytest.mark.parametrize("opt", NAMES)
def test_each_optimizer_trains_as_on_the_cpu(opt, data, form):
    checks.check_optimizer(opt, "gpu", data)


def test_labels_and_weights_cross_as_they_are(gpu):
    x = Tensor(np.arange(6.0), device="gpu")
    assert x.device == "gpu"
    np.testing.assert_array_equal(x.numpy(), np.arange(6.0))
    np.testing.assert_array_equal(x.to("cpu").numpy(), np.arange(6.0))


@pytest.mark.parametrize(("model", "opt"), [("mlp", "hybrid"), ("mlp", "adam"), ("cnn", "hybrid")])
def test_full_runs_end_where_the_cpus_do(model, opt, mnist_root, monkeypatch):
    """Ten epochs on the full MNIST: test accuracies within 0.3 %, and the switch after the same epoch."""
    accuracies, switches = [], []
    for device in ("cpu", "gpu"):
        job = prepare(Config(dataset="mnist", model=model, opt=opt, device=device))
        job.trainer.train_to(job.epochs)
        accuracies.append(evaluate(job.model, job.trainer.splits.test)[1])
        event = job.trainer.optimizer.switch_event
        switches.append(event and event.step)
    assert abs(accuracies[0] - accuracies[1]) <= 0.003
    assert switches[0] == switches[1]
