"""The networks of the field are the same network in minidl, PyTorch and JAX."""

import numpy as np
import pytest

from minidl import Tensor, nn, ops
from tests.field import BY_NAME, NETWORKS, NORM, RELU, Network, examples, minidl_net, sizes, torch_net
from tests.field_hand import WRITTEN

SMALL = 8  # images: batch norm of fewer multiplies rounding


def ours(network: Network, dtype):
    """Loss, gradients by name and running statistics of one step without dropout, and the weights before it."""
    net = minidl_net(network, drop=False).to(dtype=dtype)
    before = net.state_dict()
    x, y = examples(network, SMALL)[0]
    loss = ops.cross_entropy(net(Tensor(x.astype(dtype))), y)
    loss.backward()
    gradients = {name: parameter.grad for name, parameter in net.named_parameters()}
    return loss.item(), gradients, net.state_dict(), before


def rounding(network: Network) -> float:
    """What float32 may differ by. Before batch norm a gradient is a small difference of large sums, and with 8 images
    one winner of a pooling that is another one by rounding is seen in it; one ReLU, where nine follow each other."""
    return 2e-2 if NORM in network.layers else 3e-3 if network.layers.count(RELU) >= 9 else 1e-4


def compare(found: dict, expected: dict, tolerance: float) -> None:
    """Each array's distance relative to its length; what is zero in theory, to the longest."""
    assert found.keys() == expected.keys()
    longest = max(np.linalg.norm(value) for value in expected.values())
    for name, value in expected.items():
        distance = np.linalg.norm(found[name] - value)
        assert distance <= tolerance * max(np.linalg.norm(value), 1e-3 * longest), name


def test_names_are_unique_and_every_network_ends_with_its_classes():
    assert len(BY_NAME) == len(NETWORKS) >= 23
    for network in NETWORKS:
        assert len(sizes(network)) == len(network.layers)
        assert network.source


def test_examples_are_the_same_for_everyone():
    network = BY_NAME["odd"]
    (x, y), (again, _) = examples(network, 5)[0], examples(network, 5)[0]
    assert x.shape == (5, 1, 31, 29)
    assert y.max() < 7
    assert np.array_equal(x, again)


@pytest.mark.pytorch
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_pytorch_agrees(network, dtype):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    tolerance = 1e-10 if dtype == "float64" else rounding(network)
    loss, gradients, after, before = ours(network, dtype)
    net = torch_net(network, drop=False).to(getattr(torch, dtype))
    net.load_state_dict({name: torch.from_numpy(value) for name, value in before.items()})
    x, y = examples(network, SMALL)[0]
    their_loss = torch.nn.functional.cross_entropy(net(torch.from_numpy(x.astype(dtype))), torch.from_numpy(y))
    their_loss.backward()
    assert loss == pytest.approx(their_loss.item(), rel=tolerance)
    compare(gradients, {name: parameter.grad.numpy() for name, parameter in net.named_parameters()}, tolerance)
    compare(after, {name: value.numpy() for name, value in net.state_dict().items()}, tolerance)


@pytest.mark.pytorch
@pytest.mark.parametrize("network", WRITTEN, ids=lambda network: network.name)
def test_pytorch_agrees_on_what_is_written_by_hand(network):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch==2.13.0")
    net, theirs = network.make(nn, ops).to(dtype=np.float64), network.make(torch.nn, torch).double()
    theirs.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in net.state_dict().items()})
    x, y = examples(network, SMALL)[0]
    x = x.astype(np.float64)
    loss, their_loss = (
        ops.cross_entropy(net(Tensor(x)), y),
        torch.nn.functional.cross_entropy(theirs(torch.from_numpy(x)), torch.from_numpy(y)),
    )
    loss.backward()
    their_loss.backward()
    assert loss.item() == pytest.approx(their_loss.item(), rel=1e-10)
    found = {name: parameter.grad for name, parameter in net.named_parameters()}
    compare(found, {name: parameter.grad.numpy() for name, parameter in theirs.named_parameters()}, 1e-10)


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
@pytest.mark.parametrize("cpu", [False, True], ids=["channels first", "as on a CPU"])
def test_jax_agrees(network, cpu):
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    from tests.field_jax import jax_net

    loss, gradients, after, _ = ours(network, "float32")
    init, apply = jax_net(network, drop=False, cpu=cpu)
    weights, statistics = init()
    x, y = examples(network, SMALL)[0]

    @jax.jit  # as its users do: at backend level 0 and 1 JAX 0.10.2 has wrong gradients of two of these networks
    def value_and_grad(weights):
        def their_loss(weights):
            logits, moved = apply(weights, statistics, x, jax.random.key(0))
            return -jax.numpy.take_along_axis(jax.nn.log_softmax(logits), y[:, None], 1).mean(), moved

        return jax.value_and_grad(their_loss, has_aux=True)(weights)

    (their_loss, moved), theirs = value_and_grad(weights)
    assert loss == pytest.approx(float(their_loss), rel=1e-4)
    compare(gradients, {name: np.asarray(value) for name, value in theirs.items()}, rounding(network))
    running = {name: value for name, value in after.items() if ".running_" in name}
    assert running.keys() == moved.keys() == statistics.keys()
    if running:
        compare(running, {name: np.asarray(value) for name, value in moved.items()}, rounding(network))
