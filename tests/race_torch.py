"""The race to 99 % in PyTorch alone: one epoch of MNIST, as one writes it there, with minidl's settings.

    python tests/race_torch.py FOLDER SEED THREADS

prints {"test_accuracy": ..., "seconds": ...}, the seconds of the epoch. FOLDER has the four files of MNIST. The order
of the images is minidl's for this seed; the weights are PyTorch's own.
"""

import gzip
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

BATCH = 256


def read(folder: str, part: str) -> torch.Tensor:
    """A file of MNIST: images (N, 28, 28) or labels (N,)."""
    path = Path(folder) / f"{part}-ubyte.gz"
    data = gzip.decompress(path.read_bytes()) if path.exists() else path.with_suffix("").read_bytes()
    shape = [int.from_bytes(data[i : i + 4], "big") for i in range(4, 4 + 4 * data[3], 4)]
    return torch.from_numpy(np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape).copy())


def network() -> nn.Sequential:
    """See minidl.training.models.race."""
    return nn.Sequential(
        nn.Conv2d(1, 24, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Conv2d(24, 32, 3), nn.MaxPool2d(2), nn.ReLU(),
        nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def main(folder: str, seed: int, threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(seed)
    train, test = (read(folder, f"{part}-images-idx3").float() / 255 for part in ("train", "t10k"))
    train_labels, test_labels = (read(folder, f"{part}-labels-idx1").long() for part in ("train", "t10k"))
    mean, std = train.mean(), train.std()
    train, test = ((images[:, None] - mean) / std for images in (train, test))
    order = np.random.default_rng(seed).permutation(len(train))  # all of them: nothing is set aside
    order = order[np.random.default_rng([seed, 1, 0]).permutation(len(train))]
    batches = torch.from_numpy(order).split(BATCH)

    model, loss = network(), nn.CrossEntropyLoss()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, betas=(0.7, 0.9), fused=True)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=len(batches), cycle_momentum=False)
    start = time.perf_counter()
    for batch in batches:
        optimizer.zero_grad()
        loss(model(train[batch]), train_labels[batch]).backward()
        optimizer.step()
        cycle.step()
    seconds = time.perf_counter() - start
    with torch.no_grad():
        guesses = torch.cat([model(images).argmax(1) for images in test.split(1000)])
    accuracy = (guesses == test_labels).double().mean().item()
    print(json.dumps({"test_accuracy": accuracy, "seconds": seconds}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
