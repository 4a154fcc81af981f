"""Arguments from other libraries, above all PyTorch, that minidl does not have, with what to do instead.

refuse.py puts this advice into an error. Names of functions, layers and methods are in elsewhere.py.
"""

from __future__ import annotations

from typing import Any

from minidl.elsewhere import FIRST_ONLY

_NEW = "leave it out: results are new arrays"
_BY_CLASS = "(w[y] * ops.cross_entropy(z, y, reduction='none')).sum() / w[y].sum()"
_KEPT = "the folder of a run is given once, Trainer(net, optimizer, data, folder=...)"
_OF_FIT = "trainer.fit(epochs, observers=[...], verbose=False, validate=False) takes it"
_OF_OPTIMIZER = "the optimizer takes it: Adam(net.parameters(), lr=0.001)"
_OF_TRAINER = "a Trainer's loss is cross-entropy; for another one write a loop of your own"
_OWN_LOOP = "a Trainer takes one step per batch; write a loop of your own"
_REDUCTION = "say reduction='mean', 'sum' or 'none'"

BEYOND: dict[str, tuple[Any, str]] = {  # argument: (PyTorch's default, what to do instead)
    "activation": (None, "it is a layer of its own: nn.Linear(4, 8), nn.ReLU()"),
    "axis": (NotImplemented, "here it is called dim"),
    "batch_size": (NotImplemented, "the Trainer takes it: Trainer(net, optimizer, data, batch_size=32)"),
    "callbacks": (None, "here they are observers=[...], each a minidl.Observer"),
    "ceil_mode": (
        False,
        "pad the images so that the windows reach every pixel, with -inf for a maximum; in a mean, zeros count",
    ),
    "create_graph": (False, FIRST_ONLY),
    "class_weight": (None, "in a loop of your own: (w[y] * ops.cross_entropy(z, y, reduction='none')).mean()"),
    "count_include_pad": (True, "padding zeros count in the mean"),
    "device": (None, "model.to(device) moves a whole model"),
    "dilation": (1, "ops.conv2d(x, weight * mask, bias) is the same, with a larger window and a mask of 0 in between"),
    "divisor_override": (None, "multiply the result"),
    "dtype": (None, "array.astype(dtype) first; model.to(dtype=...) changes a whole model"),
    "epochs": (NotImplemented, "trainer.fit(epochs) takes them"),
    "filters": (NotImplemented, "nn.Conv2d(in_channels, out_channels, kernel_size)"),
    "from_logits": (True, "the loss takes logits: leave the softmax out of the network"),
    "groups": (1, "convolve each group of channels by itself, and ops.cat the results"),
    "ignore_index": (-100, "leave those examples out: logits[keep], labels[keep]"),
    "input_shape": (None, "each layer takes its own: nn.Linear(in_features, out_features)"),
    "keepdims": (NotImplemented, "here it is called keepdim"),
    "inputs": (None, "requires_grad = False on the other leaves excludes them"),
    "inplace": (False, _NEW),
    "loss": (None, _OF_TRAINER),
    "criterion": (None, _OF_TRAINER),
    "loss_fn": (None, _OF_TRAINER),
    "Trainer.label_smoothing": (0.0, _OF_TRAINER),
    "accumulate_grad_batches": (1, _OWN_LOOP),
    "gradient_clip_val": (None, "the optimizer takes it: max_norm="),
    "transform": (None, "an Observer's before_step(step) may change the batch, step.x = Tensor(...)"),
    "scheduler": (None, "the optimizer takes it, lr= a function of the step"),
    "patience": (None, "an Observer whose after_epoch(record) returns True ends the training"),
    "metrics": (None, "a Trainer gives loss and accuracy; compute others in an observer, or from trainer.predict(x)"),
    "num_workers": (0, "leave it out: a batch is a slice of arrays in memory"),
    "pin_memory": (False, "leave it out: a batch is a slice of arrays in memory"),
    "out": (None, _NEW),
    "padding_mode": ("zeros", "pad the images before they are made Tensors (np.pad)"),
    "pos_weight": (None, "with reduction='none': ((1 + (pos_weight - 1) * y) * losses).mean(), for y of 0 and 1"),
    "reduce": (None, _REDUCTION),
    "return_indices": (False, "only the largest values are returned"),
    "sample_weight": (None, "in a loop of your own: (weights * ops.cross_entropy(z, y, reduction='none')).mean()"),
    "shuffle": (False, "rng=np.random.default_rng(seed), made once, draws a new order in each epoch"),
    "fit.shuffle": (True, "a Trainer draws a new order in each epoch"),
    "Trainer.out": (None, _KEPT),
    "fit.out": (None, _KEPT),
    "fit.folder": (None, _KEPT),
    "Trainer.observers": (NotImplemented, _OF_FIT),
    "Trainer.verbose": (NotImplemented, _OF_FIT),
    "Trainer.validate": (NotImplemented, _OF_FIT),
    "Trainer.lr": (NotImplemented, _OF_OPTIMIZER),
    "fit.lr": (NotImplemented, _OF_OPTIMIZER),
    "Trainer.val_fraction": (NotImplemented, "split(load_mnist(), val_fraction=0.1) takes it"),
    "Trainer.shuffle": (True, "a Trainer draws a new order in each epoch"),
    "size_average": (None, _REDUCTION),
    "strict": (True, "load {**net.state_dict(), **some}, with only names that the network has"),
    "track_running_stats": (True, "ops.batch_norm(x, training=True) keeps none"),
    "training": (NotImplemented, "use the layer, nn.Dropout, with net.train() and net.eval()"),
    "ddof": (NotImplemented, "here it is called correction"),
    "units": (NotImplemented, "nn.Linear(in_features, out_features)"),
    "validation_data": (
        None,
        "a Trainer takes Splits(train, val, test, classes, (height, width)), of Examples(x, y)",
    ),
    "validation_split": (0.0, "split(load_mnist(), val_fraction=0.1); for arrays of your own Splits(...)"),
    "unbiased": (True, "correction=0 divides by n, as unbiased=False does"),
    "weight": (None, "with reduction='none' each loss can be weighted: (weights * losses).mean()"),
    "cross_entropy.weight": (None, _BY_CLASS),
    "CrossEntropyLoss.weight": (None, _BY_CLASS),
}
