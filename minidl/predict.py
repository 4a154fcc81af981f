"""Classify images with a trained run: `python -m minidl.predict RUN IMAGE...`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np

from minidl import ops
from minidl.backend import Array, DeviceError, get_backend, no_fast
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, DONE, Parser, complain
from minidl.data import read_idx
from minidl.data.batches import scale
from minidl.grad_mode import no_grad
from minidl.nn import Module
from minidl.program.load import model_of
from minidl.tensor import Tensor
from minidl.training.options import add_options
from minidl.training.restore import load_run_checkpoint
from minidl.training.results import CHECKPOINT
from minidl.training.run import Options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.predict", lambda stop: predict(argv))


def predict(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.predict",
        description="Classify PNG or IDX images with the checkpoint of a run. MNIST is white on black: an image with a "
        "bright border is inverted, one of another size is resized, and the output says so.",
        epilog="example: python -m minidl.predict runs/20261123-101500-cnn-hybrid digit.png",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="run folder that minidl.train wrote")
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG file, or IDX file of images")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, gpu or auto (default: cpu)")
    parser.add_argument(
        "--model", metavar="FILE:NAME", help="the network's class, for a run of a Trainer with a class of your own"
    )
    add_options(parser, Options, only=["no_fast"])
    args = parser.parse_args(argv)
    try:
        model, size = load_model(args.run, get_backend(args.device).name, args.model)
        with no_fast() if "no_fast" in args else nullcontext():
            for path in args.images:
                for name, pixels, note in read_images(path, size):
                    print(f"{name}: {describe(classify(model, pixels))}{note}")
    except (ValueError, OSError, DeviceError) as error:
        return complain(error, BAD_INPUT, parser.prog)
    return DONE


def load_model(run: Path, device: str = "cpu", given: str | None = None) -> tuple[Module, tuple[int, int]]:
    """The trained model of a run folder, ready to predict there, and the image size (height, width) that it takes.

    given  FILE.py:NAME of its class, for a run that a Trainer wrote with a class of the user's own
    """
    checkpoint = load_run_checkpoint(run / CHECKPOINT)
    height, width = checkpoint.state["model"]["image_size"]
    return model_of(run, checkpoint, given).to(device).eval(), (height, width)


def classify(model: Module, pixels: Array) -> Array:
    """The probability of each class (classes,) for one image (H, W) of numbers in [0, 1]."""
    with no_grad():
        device = next((p.device for p in model.parameters()), "cpu")
        return ops.softmax(model(Tensor(pixels[None, None].astype(np.float32), device=device))).numpy()[0]


def describe(probabilities: Array) -> str:
    """The most likely class and the next one, in words."""
    first, second = probabilities.argsort()[::-1][:2]
    return f"{first} ({probabilities[first]:.1%}; next {second}, {probabilities[second]:.1%})"


def read_images(path: Path, size: tuple[int, int]) -> Iterator[tuple[str, Array, str]]:
    """Yield each image of a file: its name, its pixels (H, W) in [0, 1], bright on black, and what was done to it."""
    if path.suffix.lower() == ".png":
        pixels, note = fit(read_png(path), size)
        yield str(path), pixels, note
        return
    images = read_idx(path)
    if images.ndim == 2:
        images = images[None]
    if images.ndim != 3 or images.shape[1:] != size or images.dtype != np.uint8:
        raise ValueError(
            f"{path} holds {images.dtype} of shape {images.shape}, this model takes uint8 images of {size[0]}x{size[1]}"
        )
    for i, image in enumerate(scale(images)):
        yield f"{path}[{i}]", image, ""


def read_png(path: Path) -> Array:
    """Brightness (H, W) in [0, 1] of a PNG file; transparent parts count as white paper."""
    from matplotlib.image import imread  # takes a quarter of a second: only where a PNG is read

    try:
        image = imread(path)
    except FileNotFoundError:
        raise
    except Exception as error:  # a PNG decoder raises many types; all mean that the file is no sound PNG
        raise ValueError(f"{path} can't be read as a PNG image: {error}") from error
    if image.dtype.kind == "u":
        image = image / np.iinfo(image.dtype).max
    if image.ndim == 2:
        return np.asarray(image)
    if image.shape[2] in (2, 4):
        alpha = image[..., -1:]
        image = image[..., :-1] * alpha + (1 - alpha)
    return np.asarray(image @ [0.299, 0.587, 0.114] if image.shape[2] == 3 else image[..., 0])  # ITU-R BT.601 luma


def fit(image: Array, size: tuple[int, int]) -> tuple[Array, str]:
    """The image as the model knows them, and what was done to it, in words."""
    done = []
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if border.mean() > 0.5:
        image = 1 - image
        done.append("inverted")
    if image.shape != size:
        from PIL import Image  # matplotlib brings it along

        done.append(f"resized from {image.shape[0]}x{image.shape[1]}")
        picture = Image.fromarray(image.astype(np.float32))
        image = np.asarray(picture.resize((size[1], size[0]), Image.Resampling.BOX))
    return image, f"  [{', '.join(done)}]" if done else ""


if __name__ == "__main__":
    sys.exit(main())
