"""Names from other libraries, above all PyTorch, that minidl does not have, with what to write instead.

refuse.py puts this advice into an error. tests/test_field_*.py compare the code in it with PyTorch.
Arguments are in arguments.py.
"""

from __future__ import annotations

FIRST_ONLY = "there are no second derivatives: for a loss on a gradient see tutorials/pages/from-pytorch.md"
_FIRST = (
    "loss.backward(), and then the .grad of each leaf, such as x.grad; zero_grad() clears what that leaves in the "
    f"weights; {FIRST_ONLY}"
)
_DTYPE = "Tensor(t.numpy().astype(...)) changes the dtype, model.to(dtype=...) that of a whole model"
_GRAPH = (
    "copy.deepcopy(net) copies a network, t.numpy().copy() the values of a Tensor; "
    "t.detach() drops the graph, t * 1 keeps the gradient"
)
_SHAPES = "shapes broadcast automatically"
_MADE_ONCE = "with rng = np.random.default_rng(seed), made once"
_RANDOM = f"Tensor(rng.standard_normal(shape, np.float32)), {_MADE_ONCE}"
_NORMAL = f"Tensor(rng.normal(mean, std, shape).astype(np.float32)), {_MADE_ONCE}"
_PADDED = "ops.cat with zeros, or np.pad before the Tensor is made"
_BY_INDEX = "x[:, :, i[:, None], j], with i, j = (np.pad(np.arange(k), p, mode={}) for k in x.shape[2:])"
_REFLECTED, _REPEATED, _ROUND = (_BY_INDEX.format(mode) for mode in ("'reflect'", "'edge'", "'wrap'"))
_UNIFORM = f"Tensor(rng.random(shape, np.float32)), {_MADE_ONCE}"
_ONE_HOT = "np.eye(n, dtype=np.float32)[labels]"
_ONE_MEAN = "x.mean((2, 3)) is the mean of each channel, nn.AvgPool2d(k) gives k times fewer rows and columns"
_BINARY = (
    "-(y * p.clamp(1e-7, 1).log() + (1 - y) * (1 - p).clamp(1e-7, 1).log()).mean(); for logits "
    "ops.binary_cross_entropy_with_logits, where p of 0 or 1 is no problem"
)
_SILU = "x * x.sigmoid()"
_L1 = "ops.abs(a - b).mean()"
_HUBER = "ops.where(d < 1, 0.5 * d * d, d - 0.5).mean(), with d = ops.abs(a - b)"
_SOFTPLUS = "ops.binary_cross_entropy_with_logits(x, 0 * x.data, reduction='none')"
_LAYER_NORM = "(x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()"
_NORM = "(g - g.mean(-1, keepdim=True)) / (g.var(-1, correction=0, keepdim=True) + 1e-5).sqrt()"
_GROUP_NORM = f"({_NORM}).reshape(x.shape), with g = x.reshape(n, groups, -1)"
_INSTANCE_NORM = f"({_NORM}).reshape(x.shape), with g = x.flatten(2)"
_RMS_NORM = "x / ((x * x).mean(-1, keepdim=True) + 1e-6).sqrt()"
_GLU = "a * b.sigmoid(), with a = x[..., :n] and b = x[..., n:]"
_SELU = "1.050701 * ops.where(x > 0, x, 1.673263 * (ops.where(x > 0, 0, x).exp() - 1))"
_HARDSWISH = "x * (x + 3).clamp(0, 6) / 6"
_HARDSIGMOID = "(x + 3).clamp(0, 6) / 6"
_SHUFFLE = "x.reshape(n, c, r, r, h, w).permute(0, 1, 4, 2, 5, 3).reshape(n, c, r * h, r * w)"
_CHANNELS_OUT = "x * drop(np.ones((n, c, 1, 1), x.dtype)), with drop = nn.Dropout(p)"
_ONE_MAX = "x.max((2, 3)) is the largest of each channel, nn.MaxPool2d(k) gives k times fewer rows and columns"
_PATCHES = (
    "x.reshape(n, c, h // k, k, w // k, k).permute(0, 2, 4, 1, 3, 5).reshape(n, -1, c * k * k) are patches side by side"
)
_GATHERED = "t[np.arange(len(t))[:, None], index], along dim 1"
_SCATTERED = "np.eye(n, dtype=t.dtype)[index].T @ t adds row i to row index[i] of n rows"
_SET = "{0} for a weight w, with no_grad(); else t = {1}"
_REWEIGHTED = "p.data[...] = values in each weight, and the old ones back after backward(), not before"
_ONE_PRECISION = "leave it out: the weights' dtype is that of all results; model.to(dtype=...) changes it"
_CLIPPED = "np.clip(p.grad, -c, c, out=p.grad) for each p of net.parameters()"
_OWN_AVERAGE = "optim.average.AveragedAdam; or in a copy a of each p, with no_grad(): a *= 0.99; a += 0.01 * p"
_KL = "(q * (q.clamp(1e-30).log() - log_p)).sum(1).mean(), which is reduction='batchmean'"
_LOGSIGMOID = "-ops.binary_cross_entropy_with_logits(x, 0 * x.data + 1, reduction='none')"
_ELU = "ops.where(x > 0, x, ops.where(x > 0, 0, x).exp() - 1)"
_MISH = f"x * ops.tanh({_SOFTPLUS})"
_COSINE = "(a * b).sum(1) / (a.norm(dim=1).clamp(1e-8) * b.norm(dim=1).clamp(1e-8))"
_ATTENTION = (
    "(q @ k.transpose(-2, -1) / k.shape[-1] ** 0.5).softmax(-1) @ v; for is_causal=True, scores s before the softmax "
    "become ops.where(np.tri(n, dtype=bool), s, -np.inf)"
)
_RANKING = "(margin - y * (a - b)).relu().mean()"
_TRIPLET = "((a - p).norm(dim=1) - (a - n).norm(dim=1) + 1).relu().mean()"
_DRAWN = (
    "a = (logits.numpy() + rng.gumbel(size=logits.shape)).argmax(-1) draws, of log-probability "
    f"ops.log_softmax(logits)[np.arange(n), a], {_MADE_ONCE}"
)
_TWICE = (
    "(x[:, :, :, None, :, None] * np.ones((1, 1, 1, 2, 1, 2), x.dtype)).reshape(n, c, 2 * h, 2 * w) is twice as large"
)
_ENLARGED = f"{_TWICE}, followed by nn.Conv2d"
_SEEDED = "with minidl.seed(0): around the code that draws weights"
_OF_STEP = "lr=lambda k: a learning rate for step k"
_CHOSEN = "x[chosen], labels[chosen]"
_FOCAL = "((1 - (-ls).exp()) ** 2 * ls).mean(), with ls = ops.cross_entropy(z, y, reduction='none')"
_POISSON = "(x.exp() - t * x).mean()"
_GAUSSIAN = "(0.5 * (t.log() + (a - b) ** 2 / t)).mean(), t the variance"
_HINGE = "ops.where(y > 0, a, (1 - a).relu()).mean(), y of -1 and 1"
_MULTI_MARGIN = "((1 + x - x[np.arange(n), y][:, None]).relu().sum(1) - 1).mean() / x.shape[1]"
_SOFT_MARGIN = "ops.binary_cross_entropy_with_logits(x, (y + 1) / 2), y of -1 and 1"
_WEIGHT_NORM = "w = g * v / v.norm(dim=1, keepdim=True), and ops.linear(x, w, b)"
_ADDED = "self.name = layer, or setattr(self, name, layer)"
_RULE = "write it as a rule of your own: tutorials/pages/own-rule.md"
_NLL = "ops.cross_entropy(logits, labels), which applies the softmax itself"
_RECURRENT = "there are no recurrent layers: a loop over the steps with nn.Linear, or a window of steps as features"
_LOADER = "minidl.batches(images, labels, 64, rng)"
_SPLIT = "order = np.random.default_rng(0).permutation(len(x)), then x[order[:n]] and x[order[n:]]"
_GRADS = "each weight's .grad after backward()"
OWN = "compose it from minidl.ops, or write it with tensor.record"

# What programs for PyTorch and others call, and what to write here. A network, an optimizer or a Trainer is asked for
# those of MODELS only: for a forgotten self.dim, "t.ndim" would be no advice.
TENSORS: dict[str, str] = {
    # methods of a Tensor
    "contiguous": "leave it out",
    "tolist": "t.numpy().tolist()", "dim": "t.ndim", "ndimension": "t.ndim", "numel": "t.size", "nelement": "t.size",
    "t": "t.T", "mT": "t.transpose(-2, -1)", "detach_": "t = t.detach()", "is_leaf": "t.node is None",
    "is_cuda": "t.device == 'gpu'",
    "view_as": "t.view(other.shape)", "reshape_as": "t.reshape(other.shape)", "unbind": "list(t)",
    "flip": "t[::-1] along dim 0",
    "long": _DTYPE, "type": _DTYPE, "astype": _DTYPE, "int": _DTYPE,
    "bool": "t != 0",
    "mm": "a @ b", "bmm": "a @ b", "dot": "a @ b", "matmul": "a @ b", "pow": "t ** n", "square": "t ** 2",
    "add": "a + b", "sub": "a - b", "mul": "a * b", "div": "a / b", "neg": "-t",
    "eq": "a == b", "ne": "a != b", "lt": "a < b", "le": "a <= b", "gt": "a > b", "ge": "a >= b",
    "amax": "t.max(dim)", "amin": "t.min(dim)",
    "argmin": "(-t).argmax(dim)", "expand": _SHAPES, "expand_as": _SHAPES,
    "broadcast_to": _SHAPES, "repeat": "ops.cat([t, t], dim)",
    "chunk": "slices, t[a:b]", "split": "slices, t[a:b]", "gather": _GATHERED, "take_along_axis": _GATHERED,
    "masked_fill": "ops.where(mask, value, t)", "clip": "t.clamp(min, max)", "swapaxes": "t.transpose(dim0, dim1)",
    "ravel": "t.flatten()", "any": "(t != 0).any()", "all": "(t != 0).all()",
    "values": "t.max(dim) and t.min(dim) give only the values", "indices": "t.argmax(dim)",
    "median": "np.median(t.numpy()), for an even count the mean of the middle two, where PyTorch takes the smaller",
    "absolute": "ops.abs(t)", "sign": "np.sign(t.numpy())", "round": "np.round(t.numpy())",
    "register_hook": "backward() fills the .grad of leaves, and of t after t.retain_grad(); change it before the step",
    "grad_fn": "t.node",
    "isnan": "np.isnan(t)", "isfinite": "np.isfinite(t)",
    "sort": "t[np.argsort(t.numpy())] of a vector",
    "topk": "np.argsort(-t.numpy())[..., :k] are the indices",
    "cleargrad": "t.grad = None", "zero_": "t.grad = None, or t.data[...] = 0", "assign": "t.data[...] = values",
    "add_": _SET.format("w += u", "t + u"), "sub_": _SET.format("w -= u", "t - u"),
    "mul_": _SET.format("w *= u", "t * u"), "div_": _SET.format("w /= u", "t / u"),
    "uniform_": f"p.data[...] = rng.uniform(low, high, p.shape), {_MADE_ONCE}",
    "normal_": f"p.data[...] = rng.normal(mean, std, p.shape), {_MADE_ONCE}",
    "where": "ops.where(mask, t, value)", "functional_call": _REWEIGHTED, "func": _REWEIGHTED,
    "realize": "leave it out: nothing is lazy", "creator": "t.node", "linear": "ops.linear(t, weight, bias)",
    "new_zeros": "Tensor(np.zeros(shape, np.float32))", "new_ones": "Tensor(np.ones(shape, np.float32))",
    "copy_": "t.data[...] = values", "fill_": "t.data[...] = value", "scatter_add": _SCATTERED,
    "scatter": f"{_ONE_HOT} are one-hot rows; {_SCATTERED}",
    "take": "t.flatten()[indices]", "expand_dims": "t.unsqueeze(dim)", "moveaxis": "t.permute(*dims)",
    "multiply": "a * b", "divide": "a / b", "true_divide": "a / b", "subtract": "a - b", "negative": "-t",
    "stop_gradient": "t.detach()",
    "index_select": "t[indices]", "masked_select": "t[mask]", "roll": "ops.cat([t[-k:], t[:-k]]) along dim 0",
    # functions
    "zeros_like": "Tensor(np.zeros_like(t))", "ones_like": "Tensor(np.ones_like(t))",
    "full": "Tensor(np.full(shape, value, np.float32))",
    "eye": "Tensor(np.eye(n, dtype=np.float32))", "linspace": "np.linspace", "randint": "np.random.default_rng(seed)",
    "set_num_threads": "with minidl.use_threads(n):", "float32": "np.float32", "float64": "np.float64",
    "int64": "np.int64",
    "randn_like": _RANDOM, "rand_like": _UNIFORM, "empty": "Tensor(np.empty(shape, np.float32))",
    "is_tensor": "isinstance(t, Tensor)", "randperm": "np.random.default_rng(seed).permutation(n)",
    "tensor": "Tensor(array.copy())", "as_tensor": "Tensor(array)", "from_numpy": "Tensor(array)",
    "zeros": "Tensor(np.zeros(shape, np.float32))",
    "ones": "Tensor(np.ones(shape, np.float32))", "arange": "np.arange", "rand": _UNIFORM, "randn": _RANDOM,
    "concatenate": "ops.cat",
    "KFold": "parts = np.array_split(np.random.default_rng(0).permutation(len(x)), k)", "Subset": _CHOSEN,
    "WeightedRandomSampler": f"chosen = rng.choice(len(x), n, p=w / w.sum()), then {_CHOSEN}",
    "ModelCheckpoint": "an Observer whose after_epoch(record) keeps the best net.state_dict(), for net.load_state_dict",
    "Callback": "minidl.Observer", "set_seed": _SEEDED,
    "Generator": "np.random.default_rng(seed)", "DataLoader": _LOADER, "TensorDataset": _LOADER,
    "random_split": _SPLIT, "train_test_split": _SPLIT,
    "manual_seed": _SEEDED,
    "autograd": f"{_FIRST}; minidl.tensor.record makes an operation of your own",
    "hessian": FIRST_ONLY,
    "enable_grad": "minidl.grad_mode.enable_grad()", "is_grad_enabled": "minidl.grad_mode.is_recording()",
    "inference_mode": "with minidl.no_grad():", "set_grad_enabled": "with minidl.no_grad():",
    "l1_loss": _L1,
    "binary_cross_entropy": _BINARY,
    "silu": _SILU, "swish": _SILU, "amp": _ONE_PRECISION, "autocast": _ONE_PRECISION, "GradScaler": _ONE_PRECISION,
    "MNIST": "minidl.load_mnist()", "datasets": "minidl.load_mnist()",
    "adaptive_avg_pool2d": _ONE_MEAN, "outer": "a[:, None] * b[None]",
    "logsumexp": "m.squeeze(dim) + (t - m).exp().sum(dim).log(), with m = t.data.max(dim, keepdims=True)",
    "view": "ops.reshape",
    "nll_loss": _NLL, "one_hot": _ONE_HOT,
    "einsum": "ops.matmul, with transpose and reshape", "batch_norm2d": "ops.batch_norm",
    "grad": _FIRST, "value_and_grad": _FIRST,
    "vmap": "operations take a whole batch, along the first axis", "jit": "leave it out: nothing is traced",
    "Value": "Tensor(2.0, requires_grad=True)", "Variable": "Tensor(array, requires_grad=True)",
    "Function": "write an operation of your own with minidl.tensor.record",
    "layers": "minidl.nn", "losses": "ops.cross_entropy and ops.mse_loss", "optimizers": "minidl.optim",
    "EarlyStopping": "an Observer whose after_epoch(record) returns True ends the training",
    "to_categorical": f"labels stay whole numbers; {_ONE_HOT} are one-hot rows",
    "StandardScaler": "(x - x_train.mean(0)) / np.where(s > 0, s, 1), with s = x_train.std(0)",
    "load_digits": "load_mnist()",
    "accuracy_score": "(predicted == labels).mean()", "accuracy": "(logits.argmax(1) == labels).mean()",
    "concat": "ops.cat([a, b], dim)", "hstack": "ops.cat([a, b], 1)", "vstack": "ops.cat([a, b], 0)",
    "tile": "ops.cat([t, t], dim)", "movedim": "t.permute(*dims)", "reciprocal": "1 / t", "rsqrt": "1 / t.sqrt()",
    "log1p": "record('log1p', np.log1p(t.data), (t, lambda g: g / (1 + t.data), t)), of minidl.tensor",
    "log2": "t.log() / np.log(2)", "log10": "t.log() / np.log(10)",
    "expm1": "record('expm1', np.expm1(t.data), (t, lambda g: g * np.exp(t.data), t)), of minidl.tensor",
    "relu6": "t.clamp(0, 6)",
    "softplus": _SOFTPLUS, "logsigmoid": _LOGSIGMOID, "LogSigmoid": _LOGSIGMOID,
    "elu": _ELU, "ELU": _ELU,
    "normalize": "x / x.norm(dim=1, keepdim=True).clamp(1e-12)",
    "pairwise_distance": "(a - b + 1e-6).norm(dim=-1)", "PairwiseDistance": "(a - b + 1e-6).norm(dim=-1)",
    "cdist": "(a[:, None] - b[None]).norm(dim=-1)", "cosine_similarity": _COSINE, "CosineSimilarity": _COSINE,
    "kl_div": _KL, "KLDivLoss": _KL, "smooth_l1_loss": _HUBER, "huber_loss": _HUBER,
    "embedding": "table[indices]", "layer_norm": _LAYER_NORM, "tril": "t * np.tril(np.ones(t.shape, t.dtype))",
    "triu": "t * np.triu(np.ones(t.shape, t.dtype))", "argsort": "np.argsort(t.numpy())",
    "allclose": "np.allclose(a, b)", "equal": "np.array_equal(a, b)", "lerp": "a + w * (b - a)",
    "clamp_min": "t.clamp(min=0.5)", "clamp_max": "t.clamp(max=0.5)",
    "hardtanh": "x.clamp(-1, 1)", "Hardtanh": "x.clamp(-1, 1)", "mish": _MISH, "Mish": _MISH,
    "index_add": "np.eye(n, dtype=t.dtype)[index].T @ t",
    "repeat_interleave": "t[np.arange(len(t)).repeat(n)] along dim 0",
    "scaled_dot_product_attention": _ATTENTION, "MultiheadAttention": f"with nn.Linear for q, k and v, {_ATTENTION}",
    "TransformerEncoderLayer": f"with nn.Linear for q, k and v, {_ATTENTION}", "margin_ranking_loss": _RANKING,
    "TransformerEncoder": f"with nn.Linear for q, k and v, {_ATTENTION}",
    "Transformer": f"with nn.Linear for q, k and v, {_ATTENTION}",
    "MultiMarginLoss": _MULTI_MARGIN, "multi_margin_loss": _MULTI_MARGIN,
    "MarginRankingLoss": _RANKING, "triplet_margin_loss": _TRIPLET, "TripletMarginLoss": _TRIPLET,
    "PoissonNLLLoss": _POISSON, "poisson_nll_loss": _POISSON, "GaussianNLLLoss": _GAUSSIAN,
    "gaussian_nll_loss": _GAUSSIAN, "HingeEmbeddingLoss": _HINGE, "hinge_embedding_loss": _HINGE,
    "SoftMarginLoss": _SOFT_MARGIN, "soft_margin_loss": _SOFT_MARGIN, "focal_loss": _FOCAL, "FocalLoss": _FOCAL,
    "Softsign": "x / (1 + ops.abs(x))", "softsign": "x / (1 + ops.abs(x))", "Swish": _SILU, "weight_norm": _WEIGHT_NORM,
    "multinomial": _DRAWN, "bernoulli": f"rng.random(p.shape) < p, {_MADE_ONCE}", "distributions": _DRAWN,
    "cumsum": "t @ np.triu(np.ones((n, n), t.dtype)) along the last dim",
    "interpolate": _TWICE, "pad": _PADDED, "ZeroPad2d": _PADDED, "normal": _NORMAL,
    "ReflectionPad2d": _REFLECTED, "ReplicationPad2d": _REPEATED, "CircularPad2d": _ROUND,
    "LazyLinear": "nn.Linear(in_features, out_features)", "LazyConv2d": "nn.Conv2d(in_channels, out_channels, 3)",
    "sin": "record('sin', np.sin(x.data), (x, lambda g: g * np.cos(x.data), x)), of minidl.tensor",
    "cos": "record('cos', np.cos(x.data), (x, lambda g: -g * np.sin(x.data), x)), of minidl.tensor",
    "dist": "(a - b).norm()", "addmm": "a @ b + c",
    "GroupNorm": _GROUP_NORM, "group_norm": _GROUP_NORM, "InstanceNorm2d": _INSTANCE_NORM,
    "instance_norm": _INSTANCE_NORM, "RMSNorm": _RMS_NORM, "rms_norm": _RMS_NORM, "GLU": _GLU, "glu": _GLU,
    "SELU": _SELU, "selu": _SELU, "PixelShuffle": _SHUFFLE, "pixel_shuffle": _SHUFFLE, "Dropout2d": _CHANNELS_OUT,
    "dropout2d": _CHANNELS_OUT, "AdaptiveMaxPool2d": _ONE_MAX, "adaptive_max_pool2d": _ONE_MAX,
    "ConvTranspose2d": _ENLARGED, "conv_transpose2d": _ENLARGED, "Unfold": _PATCHES, "unfold": _PATCHES,
    "Hardswish": _HARDSWISH, "hardswish": _HARDSWISH, "Hardsigmoid": _HARDSIGMOID, "hardsigmoid": _HARDSIGMOID,
    "conv1d": "ops.conv2d(x[:, :, None], w[:, :, None], b)[:, :, 0] of signals (N, C, L)", "Softmax2d": "nn.Softmax(1)",
    "prod": "t.log().sum(dim).exp(), if all are above 0", "addcmul": "t + value * a * b",
    "addcdiv": "t + value * a / b", "diagonal": "t[np.arange(n), np.arange(n)]",
    "var_mean": "t.var(dim), t.mean(dim)", "narrow": "slices, t[a:b]", "new_tensor": "Tensor(...)",
    "gumbel_softmax": "((t + rng.gumbel(size=t.shape).astype(t.dtype)) / tau).softmax(-1)",
    "full_like": "Tensor(np.full_like(t, value))", "new_full": "Tensor(np.full(shape, value, np.float32))",
}  # fmt: skip

MODELS: dict[str, str] = {
    "cpu": ".to('cpu')", "cuda": ".to('gpu')", "device": 'Tensor(array, device="gpu") and net.to("gpu")',
    "clone": _GRAPH, "copy": _GRAPH, "float": _DTYPE, "double": _DTYPE, "half": _DTYPE,
    "save": "net.save(path)", "load": "net.load(path)",
    "requires_grad_": "t.requires_grad = True, or to freeze a weight p.requires_grad = False",
    # optimizers
    "clip_grad_norm_": "max_norm= of an optimizer clips", "clip_grad_value_": _CLIPPED,
    "swa_utils": _OWN_AVERAGE, "AveragedModel": _OWN_AVERAGE, "EMA": _OWN_AVERAGE,
    "CosineAnnealingWarmRestarts": _OF_STEP,
    "minimize": "zero_grad(), loss.backward(), step()", "apply_gradients": "step(), which reads each weight's .grad",
    "param_groups": "optimizer.lr is the learning rate, and may be set: optimizer.lr = 0.01",
    "add_param_group": "pass all groups when it is built", "defaults": "its attributes, such as optimizer.lr",
    "state": "state_dict()", "get_lr": "optimizer.lr", "get_last_lr": "optimizer.lr",
    "lr_scheduler": "lr= takes a schedule; optim has LinearLR and others; optim.torch.wrap takes PyTorch's",
    "StepLR": "lr=parse_schedule('step:every=1000,factor=0.1', lr=0.1, total_steps=n)", "Momentum": "SGD(momentum=0.9)",
    "CosineAnnealingLR": "lr=parse_schedule('cosine', lr=0.1, total_steps=n)",
    "LambdaLR": _OF_STEP, "MultiStepLR": _OF_STEP,
    "CyclicLR": f"{_OF_STEP}; PyTorch's moves the momentum too, optimizer.momentum = m",
    "PolynomialLR": _OF_STEP, "ConstantLR": _OF_STEP, "MultiplicativeLR": _OF_STEP,
    "SequentialLR": _OF_STEP, "ChainedScheduler": _OF_STEP, "ExponentialDecay": _OF_STEP, "CosineDecay": _OF_STEP,
    "PiecewiseConstantDecay": _OF_STEP, "LearningRateScheduler": _OF_STEP,
    "SAM": "two backward(): after the first w.data += e and zero_grad(), after the second w.data -= e and step()",
    "ReduceLROnPlateau": "optimizer.lr = optimizer.lr / 10 after epochs without progress; Hybrid's Plateau() switches",
    # layers and models
    "Input": "each layer takes its own: nn.Linear(in_features, out_features)", "Model": "nn.Module",
    "Activation": "nn.ReLU() and others", "BatchNormalization": "nn.BatchNorm2d(channels) or nn.BatchNorm1d(features)",
    "GlobalAveragePooling2D": _ONE_MEAN, "SparseCategoricalCrossentropy": "nn.CrossEntropyLoss()",
    "CategoricalCrossentropy": "nn.CrossEntropyLoss(), with labels.argmax(1) of one-hot rows",
    "BinaryCrossentropy": "nn.BCEWithLogitsLoss(), which takes logits", "MeanSquaredError": "nn.MSELoss()",
    "Conv1d": "nn.Conv2d(c, k, (1, n)) of signals (N, C, L) as x[:, :, None]",
    "MaxPool1d": "nn.MaxPool2d((1, n)) of signals (N, C, L) as x[:, :, None]",
    "AvgPool1d": "nn.AvgPool2d((1, n)) of signals (N, C, L) as x[:, :, None]",
    "LSTM": _RECURRENT, "GRU": _RECURRENT, "RNN": _RECURRENT,
    "LayerNorm": _LAYER_NORM, "Softplus": _SOFTPLUS, "SmoothL1Loss": _HUBER, "HuberLoss": _HUBER, "Upsample": _TWICE,
    "ReLU6": "x.clamp(0, 6)", "PReLU": "ops.where(x > 0, x, a * x), with a = nn.Parameter(np.float32([0.25]))",
    "Unflatten": "x.reshape(n, ...)", "Conv3d": "there are only 2-d convolutions", "LSTMCell": _RECURRENT,
    "GRUCell": _RECURRENT, "RNNCell": _RECURRENT, "NAdam": _RULE, "RAdam": _RULE, "Adadelta": _RULE, "Adamax": _RULE,
    "Rprop": _RULE, "Lion": _RULE, "LAMB": _RULE, "Lookahead": _RULE, "ASGD": _OWN_AVERAGE,
    "LBFGS": "scipy.optimize.minimize, with the loss as a function of all weights: tutorials/pages/from-pytorch.md",
    "Nesterov": "SGD(momentum=0.9, nesterov=True)", "AMSGrad": "Adam(amsgrad=True)",
    "get_weights": "state_dict()", "set_weights": "load_state_dict(state)",
    "save_weights": "save(path)", "load_weights": "load(path)",
    "count_params": "sum(p.size for p in net.parameters())", "trainable_variables": "parameters()",
    "trainable_weights": "parameters()", "kernel": "weight", "cleargrads": "p.grad = None for each p of parameters()",
    "predict_proba": "minidl.predict(net, images), or net(x).softmax(1)",
    "score": "minidl.evaluate(net, (x, y)).accuracy", "History.history": "history.of('train_loss')",
    "Trainer.score": "trainer.evaluate((x, y)).accuracy", "partial_fit": "trainer.fit(1), which continues",
    "loss_curve_": "trainer.metrics['train_loss']", "coefs_": "the .weight of each nn.Linear, (out, in)",
    "Linear.W": "weight", "Linear.b": "bias", "Linear.w": "weight", "Sequential.layers": "net[i], or a loop over net",
    "Dense": "nn.Linear(in_features, out_features)", "SiLU": _SILU, "AdaptiveAvgPool2d": _ONE_MEAN,
    "L1Loss": _L1, "BCELoss": _BINARY,
    "NLLLoss": _NLL,
    "LogSoftmax": "ops.log_softmax(x, dim)", "Identity": "nn.Sequential(), which changes nothing",
    "functional": "minidl.ops", "init": "a layer's arguments init and rng",
    "utils": f"max_norm= of an optimizer clips the norm, {_CLIPPED} the values; minidl.batches loads",
    "Batches.dataset": "the arrays that you gave, whose number is len(labels)",
    "Trainer.train": ".fit(epochs)",
    "callbacks": "trainer.fit(epochs, observers=[...]), each a minidl.Observer",
    "history": "what trainer.fit(epochs) returns",
    "reset_parameters": "a new layer, net[0] = nn.Linear(...), before the optimizer is built",
    "insert": "nn.Sequential(*net[:i], layer, *net[i:])", "extend": "append(layer) for each",
    "Sequential.add": "net.append(layer)",
    "pop": "net[:-1], without the last layer", "summary": "print(net)",
    "fit": "Trainer(net, optimizer, data).fit(epochs)", "compile": "Trainer(net, optimizer, data)",
    "evaluate": "minidl.evaluate(net, examples)", "predict": "minidl.predict(net, images)",
    "zero_grad": "optimizer.zero_grad(), or p.grad = None for each p of net.parameters()",
    "modules": "named_modules()", "children": "named_children()",
    "buffers": "state_dict()", "_buffers": "state_dict()", "add_module": _ADDED, "register_module": _ADDED,
    "_modules": f"named_children(); to add one {_ADDED}", "_parameters": "named_parameters()",
    "register_parameter": "self.name = nn.Parameter(...)", "register_buffer": "self.name = Tensor(...)",
    "register_forward_hook": "with model.watched(see):", "apply": "a loop over named_modules()",
    "register_backward_hook": _GRADS,
    "register_full_backward_hook": _GRADS,
    "Embedding": "self.table = nn.Parameter(array), and in forward self.table[indices]",
    "ParameterList": "an attribute for each", "ModuleDict": "nn.ModuleList, or an attribute for each",
    "ParameterDict": "an attribute for each", "named_buffers": "state_dict()",
    "get_submodule": "dict(net.named_modules())[name]", "get_parameter": "dict(net.named_parameters())[name]",
    "DataParallel": "minidl computes on one device",
}  # fmt: skip

ELSEWHERE = TENSORS | MODELS
