"""What a student would write in PyTorch instead of `python -m minidl.train --model mlp --opt adam --epochs N`.

The same network, data, split, batch size and evaluation, and the same files at the end: metrics, weights, curves.
`python -m tests.bench --costs` times both as whole commands, imports included.

    MINIDL_DATA=FOLDER python -m tests.peer_script OUT [EPOCHS]
"""

import gzip
import json
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn


def read_idx(path: Path) -> np.ndarray:
    raw = path.read_bytes() if path.exists() else gzip.decompress(path.with_name(path.name + ".gz").read_bytes())
    dims = raw[3]
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(dims)]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * dims).reshape(shape)


def load(folder: Path, part: str) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.from_numpy(read_idx(folder / f"{part}-images-idx3-ubyte").copy()).float().div(255).reshape(-1, 784)
    return images, torch.from_numpy(read_idx(folder / f"{part}-labels-idx1-ubyte").astype(np.int64))


def evaluate(model: nn.Module, x: torch.Tensor, y: torch.Tensor) -> tuple[float, float]:
    with torch.no_grad():
        logits = model(x)
        return nn.functional.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def main() -> None:
    begin, out, epochs = time.perf_counter(), Path(sys.argv[1]), int((*sys.argv, 1)[2])
    out.mkdir(parents=True)
    folder = Path(os.environ["MINIDL_DATA"])
    torch.manual_seed(0)
    (x, y), (x_test, y_test) = load(folder, "train"), load(folder, "t10k")
    order = torch.randperm(len(x))
    x_val, y_val, x, y = x[order[:6000]], y[order[:6000]], x[order[6000:]], y[order[6000:]]
    model = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    curve, record = [], {}
    for _ in range(epochs):
        losses = 0.0
        for batch in torch.randperm(len(x)).split(128):
            loss = nn.functional.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += loss.item() * len(batch)
        val_loss, val_accuracy = evaluate(model, x_val, y_val)
        record = {"epoch_loss": losses / len(x), "val_loss": val_loss, "val_accuracy": val_accuracy}
        curve.append(losses / len(x))
    for name, images, labels in (("train", x, y), ("test", x_test, y_test)):
        record[f"{name}_loss"], record[f"{name}_accuracy"] = evaluate(model, images, labels)
    torch.save(model.state_dict(), out / "model.pt")
    figure = Figure()
    FigureCanvasAgg(figure)
    figure.subplots().plot(range(1, epochs + 1), curve, marker="o")
    figure.savefig(out / "curves.png")
    (out / "summary.json").write_text(json.dumps(record))
    print(record, f"{time.perf_counter() - begin:.1f} s")


if __name__ == "__main__":
    main()
