"""What PyTorch's layers and operations take beyond minidl's, and what to do instead.

An argument that has no meaning here is refused by its name. Otherwise a user would learn after a training run that a
`dilation` was ignored. At the value that PyTorch gives it by default it changes nothing, and passes.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

_NEW = "leave it out: results are new arrays"
_WEIGHTED = "in a loop of your own: (w[y] * ops.cross_entropy(z, y, reduction='none')).sum() / w[y].sum()"
_REDUCTION = "say reduction='mean', 'sum' or 'none'"
BEYOND: dict[str, tuple[Any, str]] = {  # argument: (PyTorch's default, what to do instead)
    "activation": (None, "it is a layer of its own: nn.Linear(4, 8), nn.ReLU()"),
    "axis": (NotImplemented, "here it is called dim"),
    "batch_size": (NotImplemented, "the Trainer takes it: Trainer(net, optimizer, data, batch_size=32)"),
    "callbacks": (None, "here they are observers=[...], each a minidl.Observer"),
    "ceil_mode": (False, "pad the images, so that the windows leave no rest"),
    "create_graph": (False, "there are no second derivatives; a difference of two gradients is near one"),
    "class_weight": (None, _WEIGHTED),
    "count_include_pad": (True, "the border's zeros count in the mean"),
    "device": (None, "model.to(device) moves a whole model"),
    "dilation": (1, "a larger window, whose weights are zero in between, is the same"),
    "divisor_override": (None, "multiply the result"),
    "dtype": (None, "array.astype(dtype) first; model.to(dtype=...) changes a whole model"),
    "epochs": (NotImplemented, "trainer.fit(epochs) takes them"),
    "filters": (NotImplemented, "nn.Conv2d(in_channels, out_channels, kernel_size)"),
    "from_logits": (True, "the loss takes logits: leave the softmax out of the network"),
    "groups": (1, "convolve each group of channels by itself, and ops.cat the results"),
    "ignore_index": (-100, "leave those examples out: logits[keep], labels[keep]"),
    "input_shape": (None, "each layer takes its own: nn.Linear(in_features, out_features)"),
    "keepdims": (NotImplemented, "here it is called keepdim"),
    "inputs": (None, "requires_grad = False on the other leaves leaves them out"),
    "inplace": (False, _NEW),
    "loss": (None, "a Trainer's is cross-entropy; with another one write a loop of your own"),
    "metrics": (None, "a Trainer gives loss and accuracy; others are counted by an observer, or of trainer.predict(x)"),
    "out": (None, _NEW),
    "padding_mode": ("zeros", "pad the images before they are made Tensors (np.pad)"),
    "reduce": (None, _REDUCTION),
    "return_indices": (False, "the largest values alone are returned"),
    "sample_weight": (None, _WEIGHTED),
    "shuffle": (False, "rng=np.random.default_rng(seed), made once, draws another order in each epoch"),
    "fit.shuffle": (True, "a Trainer draws another order in each epoch"),
    "Trainer.shuffle": (True, "a Trainer draws another order in each epoch"),
    "size_average": (None, _REDUCTION),
    "strict": (True, "load {**net.state_dict(), **some}, in which all names are the network's"),
    "track_running_stats": (True, "ops.batch_norm(x, training=True) keeps none"),
    "training": (NotImplemented, "a layer knows it: nn.Dropout, with net.train() and net.eval()"),
    "ddof": (NotImplemented, "here it is called correction"),
    "units": (NotImplemented, "nn.Linear(in_features, out_features)"),
    "validation_data": (
        None,
        "a Trainer takes Splits(train, val, test, classes, (height, width)), of Examples(x, y)",
    ),
    "validation_split": (0.0, "split(load_mnist(), val_fraction=0.1); of arrays of your own Splits(...)"),
    "unbiased": (True, "correction=0 divides by n, as unbiased=False does"),
    "weight": (None, "with reduction='none' each loss can be weighted: (weights * losses).mean()"),
}


_DTYPE = "Tensor(t.numpy().astype(...)) has another dtype, model.to(dtype=...) a whole model"
_GRAPH = "t.numpy().copy() copies the values, t.detach() cuts them off, t * 1 goes on with the gradient"
_SHAPES = "shapes broadcast by themselves"
_RANDOM = "Tensor(np.random.default_rng(seed).standard_normal(shape, np.float32))"
_ONE_MEAN = "x.mean((2, 3)) is the mean of each channel"
_BINARY = "-ops.where(y == 1, p, 1 - p).log().mean(), for labels y of 0 and 1"
_BINARY_LOGITS = "(ops.relu(z) - z * y + (1 + ops.exp(-ops.abs(z))).log()).mean()"
_SILU = "x * x.sigmoid()"
_L1 = "ops.abs(a - b).mean()"
_NLL = "ops.cross_entropy(logits, labels), which takes the softmax itself"
_RECURRENT = "there are no recurrent layers: a loop over the steps with nn.Linear, or a window of steps as features"
_GRADS = "each weight's .grad after backward()"
OWN = "put it together from what minidl.ops has, or write it with tensor.record"

ELSEWHERE: dict[str, str] = {  # what else other libraries' programs call, and what to write here
    # methods of a Tensor
    "cpu": ".to('cpu')", "cuda": ".to('gpu')", "clone": _GRAPH, "copy": _GRAPH, "contiguous": "leave it out",
    "tolist": "t.numpy().tolist()", "dim": "t.ndim", "ndimension": "t.ndim", "numel": "t.size", "nelement": "t.size",
    "t": "t.T", "mT": "t.transpose(-2, -1)", "detach_": "t = t.detach()", "is_leaf": "t.node is None",
    "is_cuda": "t.device == 'gpu'",
    "view_as": "t.view(other.shape)", "reshape_as": "t.reshape(other.shape)", "unbind": "list(t)", "flip": "t[::-1]",
    "float": _DTYPE, "double": _DTYPE, "half": _DTYPE, "long": _DTYPE, "type": _DTYPE, "astype": _DTYPE, "int": _DTYPE,
    "bool": "t != 0",
    "mm": "a @ b", "bmm": "a @ b", "dot": "a @ b", "matmul": "a @ b", "pow": "t ** n", "square": "t ** 2",
    "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-t",
    "eq": "a == b", "ne": "a != b", "lt": "a < b", "le": "a <= b", "gt": "a > b", "ge": "a >= b",
    "std": "t.var(dim).sqrt()", "norm": "(t ** 2).sum().sqrt()", "amax": "t.max(dim)", "amin": "t.min(dim)",
    "argmin": "(-t).argmax(dim)", "expand": _SHAPES, "expand_as": _SHAPES,
    "broadcast_to": _SHAPES, "repeat": "ops.cat([t, t], dim)",
    "chunk": "slices, t[a:b]", "split": "slices, t[a:b]", "gather": "t[rows, columns]",
    "masked_fill": "ops.where(mask, value, t)", "clip": "t.clamp(min, max)", "swapaxes": "t.transpose(dim0, dim1)",
    "ravel": "t.flatten()", "any": "(t != 0).any()", "all": "(t != 0).all()",
    "values": "t.max(dim) and t.min(dim) are the values alone", "indices": "t.argmax(dim)",
    "median": "np.median(t.numpy())", "sign": "np.sign(t.numpy())", "round": "np.round(t.numpy())",
    "register_hook": "backward() fills the .grad of leaves; change it before the step",
    "requires_grad_": "t.requires_grad = True, or for a weight that rests p.requires_grad = False",
    "retain_grad": "model.watched shows what is in between",
    "grad_fn": "t.node",
    "isnan": "np.isnan(t)", "isfinite": "np.isfinite(t)", "sort": "np.sort(t.numpy())", "topk": "np.argsort(t.numpy())",
    "cleargrad": "t.grad = None", "zero_": "t.grad = None, or t.data[...] = 0", "assign": "t.data[...] = values",
    "realize": "leave it out: nothing is put off", "creator": "t.node", "linear": "ops.linear(t, weight, bias)",
    "new_zeros": "Tensor(np.zeros(shape, np.float32))", "new_ones": "Tensor(np.ones(shape, np.float32))",
    "index_select": "t[indices]", "masked_select": "t[mask]", "roll": "ops.cat([t[-k:], t[:-k]])",
    # functions
    "zeros_like": "Tensor(np.zeros_like(t))", "ones_like": "Tensor(np.ones_like(t))", "full": "Tensor(np.full(...))",
    "eye": "Tensor(np.eye(n, dtype=np.float32))", "linspace": "np.linspace", "randint": "np.random.default_rng(seed)",
    "set_num_threads": "with minidl.use_threads(n):", "float32": "np.float32", "float64": "np.float64",
    "int64": "np.int64",
    "randperm": "np.random.default_rng(seed).permutation(n)",
    "tensor": "Tensor(...)", "as_tensor": "Tensor(...)", "from_numpy": "Tensor(array)",
    "zeros": "Tensor(np.zeros(...))",
    "ones": "Tensor(np.ones(...))", "arange": "np.arange", "rand": _RANDOM, "randn": _RANDOM, "concatenate": "ops.cat",
    "manual_seed": "with minidl.seed(0): around what draws weights", "save": "net.save(path)", "load": "net.load(path)",
    "autograd": "backward() and the leaves' .grad; an operation of your own is written with minidl.tensor.record",
    "enable_grad": "minidl.grad_mode.enable_grad()", "is_grad_enabled": "minidl.grad_mode.is_recording()",
    "inference_mode": "with minidl.no_grad():", "set_grad_enabled": "with minidl.no_grad():",
    "device": 'Tensor(array, device="gpu") and net.to("gpu")', "l1_loss": _L1,
    "binary_cross_entropy": _BINARY, "binary_cross_entropy_with_logits": _BINARY_LOGITS,
    "silu": _SILU, "adaptive_avg_pool2d": _ONE_MEAN, "outer": "a[:, None] * b",
    "logsumexp": "m + (t - m).exp().sum(dim, keepdim=True).log(), with m = t.max(dim, keepdim=True)",
    "maximum": "ops.where(a > b, a, b)", "minimum": "ops.where(a < b, a, b)", "view": "ops.reshape",
    "nll_loss": _NLL, "one_hot": "np.eye(n)[labels]",
    "einsum": "ops.matmul, with transpose and reshape", "batch_norm2d": "ops.batch_norm",
    "grad": "loss.backward(), and then the .grad of each leaf, such as w.grad",
    "value_and_grad": "loss.backward(), and then the .grad of each leaf, such as w.grad",
    "vmap": "operations take a whole batch, along the first axis", "jit": "leave it out: nothing is traced",
    "Value": "Tensor(2.0, requires_grad=True)", "Variable": "Tensor(array, requires_grad=True)",
    "Function": "an operation of your own is written with minidl.tensor.record",
    "layers": "minidl.nn", "losses": "ops.cross_entropy and ops.mse_loss", "optimizers": "minidl.optim",
    "callbacks": "trainer.fit(epochs, observers=[...]), each a minidl.Observer",
    "EarlyStopping": "an Observer whose after_epoch(record) returns True ends the training",
    "to_categorical": "labels stay whole numbers; np.eye(n)[labels] are one-hot rows",
    "train_test_split": "order = np.random.default_rng(0).permutation(len(x)), then x[order[:n]] and x[order[n:]]",
    "StandardScaler": "(x - x_train.mean(0)) / x_train.std(0)", "load_digits": "load_mnist()",
    "accuracy_score": "(predicted == labels).mean()", "accuracy": "(logits.argmax(1) == labels).mean()",
    # optimizers
    "minimize": "zero_grad(), loss.backward(), step()", "apply_gradients": "step(), which reads each weight's .grad",
    "param_groups": "optimizer.lr is the rate, and may be set: optimizer.lr = 0.01",
    "add_param_group": "give all groups when it is built", "defaults": "its attributes, such as optimizer.lr",
    "state": "state_dict()",
    "lr_scheduler": "lr= takes a schedule; optim has LinearLR and others; optim.torch.wrap takes PyTorch's",
    "StepLR": "lr=parse_schedule('step:every=1000,factor=0.1', lr=0.1, total_steps=n)", "Momentum": "SGD(momentum=0.9)",
    "CosineAnnealingLR": "lr=parse_schedule('cosine', lr=0.1, total_steps=n)",
    "LambdaLR": "lr=lambda k: a rate for step k", "MultiStepLR": "lr=lambda k: a rate for step k",
    "ReduceLROnPlateau": "optimizer.lr = optimizer.lr / 10 after epochs without progress; Hybrid's Plateau() switches",
    # layers and models
    "Input": "each layer takes its own: nn.Linear(in_features, out_features)", "Model": "nn.Module",
    "Activation": "nn.ReLU() and others", "BatchNormalization": "nn.BatchNorm2d(channels) or nn.BatchNorm1d(features)",
    "GlobalAveragePooling2D": _ONE_MEAN, "SparseCategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "CategoricalCrossentropy": "nn.CrossEntropyLoss(), with labels.argmax(1) of one-hot rows",
    "BinaryCrossentropy": _BINARY_LOGITS, "MeanSquaredError": "nn.MSELoss()",
    "Conv1d": "nn.Conv2d(c, k, (1, n)) of signals (N, C, L) as x[:, :, None]",
    "MaxPool1d": "nn.MaxPool2d((1, n)) of signals (N, C, L) as x[:, :, None]",
    "AvgPool1d": "nn.AvgPool2d((1, n)) of signals (N, C, L) as x[:, :, None]",
    "LSTM": _RECURRENT, "GRU": _RECURRENT, "RNN": _RECURRENT,
    "LayerNorm": "(x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()",
    "get_weights": "state_dict()", "set_weights": "load_state_dict(state)",
    "count_params": "sum(p.size for p in net.parameters())", "trainable_variables": "parameters()",
    "trainable_weights": "parameters()", "kernel": "weight", "cleargrads": "p.grad = None for each p of parameters()",
    "predict_proba": "minidl.predict(net, images), or net(x).softmax(1)",
    "score": "minidl.evaluate(net, (x, y)).accuracy", "History.history": "history.of('train_loss')",
    "Trainer.score": "trainer.evaluate((x, y)).accuracy",
    "Linear.W": "weight", "Linear.b": "bias", "Linear.w": "weight", "Sequential.layers": "net[i], or a loop over net",
    "Dense": "nn.Linear(in_features, out_features)", "SiLU": _SILU, "AdaptiveAvgPool2d": _ONE_MEAN,
    "L1Loss": _L1, "BCELoss": _BINARY, "BCEWithLogitsLoss": _BINARY_LOGITS,
    "NLLLoss": _NLL,
    "LogSoftmax": "ops.log_softmax(x, dim)", "Identity": "nn.Sequential(), which changes nothing",
    "functional": "minidl.ops", "init": "a layer's arguments init and rng",
    "utils": "max_norm= of an optimizer clips, minidl.batches loads",
    "Trainer.train": ".fit(epochs)", "history": "what trainer.fit(epochs) returns",
    "insert": "nn.Sequential(*net[:i], layer, *net[i:])", "extend": "append(layer) for each",
    "Sequential.add": "net.append(layer)",
    "pop": "net[:-1], without the last layer", "summary": "print(net)",
    "fit": "Trainer(net, optimizer, data).fit(epochs)", "compile": "Trainer(net, optimizer, data)",
    "evaluate": "minidl.evaluate(net, examples)", "predict": "minidl.predict(net, images)",
    "zero_grad": "optimizer.zero_grad(), or p.grad = None for each p of net.parameters()",
    "modules": "named_modules()", "children": "named_children()",
    "buffers": "state_dict()", "add_module": "self.name = layer", "register_module": "self.name = layer",
    "register_parameter": "self.name = nn.Parameter(...)", "register_buffer": "self.name = Tensor(...)",
    "register_forward_hook": "with model.watched(see):", "apply": "a loop over named_modules()",
    "register_backward_hook": _GRADS,
    "register_full_backward_hook": _GRADS,
    "Embedding": "self.table = nn.Parameter(array), and in forward self.table[indices]",
    "ParameterList": "an attribute for each", "ModuleDict": "nn.ModuleList, or an attribute for each",
    "DataParallel": "minidl computes on one device",
}  # fmt: skip


class Named:
    """A class in which users may look for PyTorch's names: a missing one says what to write instead."""

    __slots__ = ()
    _otherwise = ""  # what to do about a name that is not listed here

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # a property of the user's, in which another name is missing
                return object.__getattribute__(self, name)
            known = [each for each in dir(type(self)) if each[0] != "_"] if type(self)._otherwise else ()
            raise missing(type(self).__name__, name, type(self)._otherwise, known)


def missing(where: str, name: str, otherwise: str = OWN, known: Iterable[str] = ()) -> AttributeError:
    """The error for a name that `where`, such as minidl.ops, does not have: with what to write instead, or which of
    the `known` names is like it."""
    said = ELSEWHERE.get(f"{where}.{name}") or ELSEWHERE.get(name, "")  # some mean another thing there
    if said or name.startswith("_"):
        remedy = said
    elif near := _near(name, known):
        remedy = near
    elif name.endswith("_"):
        remedy = "nothing is changed in place: t = t + 1 makes a new one, p.data[...] = values sets a weight"
    else:
        remedy = otherwise
    return AttributeError(f"{where} has no '{name}'" + (f": {remedy}" if remedy else ""))


def _near(name: str, known: Iterable[str]) -> str:
    """Which of the names is meant, where they differ in capitals and underscores only; else those that begin with it;
    else the one with most of its letters."""
    plain = {each: each.replace("_", "").lower() for each in known}
    bare = name.replace("_", "").lower()
    same = [each for each in plain if plain[each] == bare]
    if same and not name.endswith("_"):
        return f"it is called {same[0]}"
    begin = [each for each in plain if len(bare) > 2 and plain[each].startswith(bare) and plain[each] != bare]
    letters = difflib.get_close_matches(bare, plain.values(), n=1, cutoff=0.8) if len(bare) > 4 else []
    found = begin or [each for each in plain if plain[each] in letters and plain[each] != bare]
    return f"nearest to it is {' or '.join(found)}" if found else ""


def refuse(name: str, arguments: Mapping[str, Any], more: Sequence[Any] = ()) -> None:
    """Raise TypeError for the first of these arguments of `name` that would change something, and for `more` that have
    no name."""
    if more and hasattr(more[0], "shape"):
        raise TypeError(f"{name}: a layer is made first, and then called with what it computes of: nn.{name}()(x)")
    if more:
        raise TypeError(f"{name}: {more[0]!r} is one positional argument too many; others have names, bias=False, "
                        "and PyTorch's inplace=True is left out")  # fmt: skip
    for argument, value in arguments.items():
        default, remedy = BEYOND.get(f"{name}.{argument}") or BEYOND.get(argument, (NotImplemented, ""))
        if not any(type(value) is type(same) and value == same for same in (default, (default, default))):
            raise TypeError(f"{name} has no argument '{argument}'" + (f": {remedy}" if remedy else ""))


def to_labels(labels: Any) -> str:
    """What makes whole numbers 0, 1, ... of an array of labels of another kind."""
    if labels.ndim == 2 and labels.shape[1] > 1:
        return "labels.argmax(1) of one-hot rows"
    if labels.dtype.kind in "OUS":
        return "np.unique(labels, return_inverse=True)[1] numbers the names"
    if labels.dtype.kind == "f":
        return "labels.astype(int); to learn numbers, write a loop of your own with ops.mse_loss"
    return "labels.ravel()" if labels.ndim == 2 else "labels.astype(int)"


def to_classes(labels: Any) -> str:
    """The same for a cross-entropy, which soft labels have too."""
    if labels.ndim == 2:
        return to_labels(labels) + "; with soft ones -(labels * ops.log_softmax(logits)).sum(1).mean()"
    names = labels.dtype.kind in "OUS"
    return to_labels(labels) if names else "give an array of them, labels.astype(int), and no Tensor"


def to_rows(x: Any, w: Any) -> str:
    """How images become the rows that a weight takes, where they would fit."""
    fits = x.ndim > 2 and w.ndim == 2 and math.prod(x.shape[1:]) == w.shape[1]
    return ": nn.Flatten(), or x.flatten(1), makes rows of it" if fits else ""


def refuse_for_tensor(requires_grad: object, other: Mapping[str, Any]) -> None:
    """Raise TypeError for what Tensor(data, requires_grad, device) does not take."""
    refuse("Tensor", other)
    raise TypeError(
        f"Tensor: requires_grad must be True or False, got {requires_grad!r}: sizes go to np.zeros((3, 4)), "
        "a dtype is the array's own, array.astype(dtype), a device has its name, device='gpu'"
    )
