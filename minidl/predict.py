"""Classify images with a trained run: `python -m minidl.predict RUN IMAGE...`.

Called from Python as `predict(model, images)`, it is the function of minidl.evaluation, which raises
ValueError if the network's output is not (N, classes).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minidl import evaluation, ops
from minidl.backend import Array, DeviceError, get_backend, no_fast
from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain, matching, place, readable
from minidl.data.outputs import PICTURE, check_output
from minidl.data.polarity import LIGHT_ON_DARK
from minidl.grad_mode import no_grad
from minidl.handwriting.look import frame_of, look
from minidl.module import Module, device_of
from minidl.program.load import load_run, model_of
from minidl.tensor import Tensor
from minidl.training.config import Options
from minidl.training.options import add_options
from minidl.training.own_file import changed
from minidl.training.restore import load_run_checkpoint
from minidl.training.results import CHECKPOINT, stranger


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status, BAD_INPUT if any file could not be classified."""
    return command("minidl.predict", lambda stop: predict(argv))


def predict(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = make_parser()
    args = parser.parse_intermixed_args(argv)  # options may stand between RUN and IMAGE
    args.images = matching(args.images)
    if args.page:
        return draw(args, parser)
    if not args.images:
        parser.error("the following arguments are required: IMAGE")
    try:
        if args.show:
            from minidl.handwriting.shown import MOST, show  # this import takes as long as everything else

            check_output(args.show, "predict", PICTURE, "--show", args.images)
        model, size = load_model(args.run, get_backend(args.device).name, args.model)
        data = load_run_checkpoint(args.run / CHECKPOINT).state["data"]
        frame, names, polarity = frame_of(data), data.get("class_names", ()), data.get("polarity", LIGHT_ON_DARK)
    except (ValueError, OSError, DeviceError) as error:
        return complain(error, BAD_INPUT, parser.prog)
    seen, count, status = [], 0, DONE
    with no_fast() if "no_fast" in args else nullcontext():
        for path in args.images:
            try:
                for image in look(path, size, frame, args.how, polarity):
                    chances = classify(model, image.pixels)
                    note = f"  [{image.note}]" if image.note else ""
                    print(readable(f"{image.name}: {describe(chances, names)}{note}"))
                    count += 1
                    if args.show and count <= MOST:
                        seen.append((image, chances))
            except (ValueError, OSError, TypeError, ArithmeticError, MemoryError) as error:  # the others may be fine
                sys.stdout.flush()
                status = complain(error, BAD_INPUT, parser.prog)
    if seen:
        try:
            show(args.show, seen, names)
        except OSError as error:
            return complain(f"--show {args.show} can't be written: {error}", FAILED, parser.prog)
        left_out = f", the first {MOST} of {count} images" if count > MOST else ""
        print(f"what the network saw: {args.show}{left_out}")
    return status


def draw(args: argparse.Namespace, parser: Parser) -> int:
    """Write the drawing page; returns the exit status."""
    if len(args.images) > 1 or args.show or args.how != "auto":
        parser.error("--page FILE.html takes one run or two, no images, --show, --as-is or --normalize")
    from minidl.handwriting.page import write_page

    try:
        check_output(args.page, "predict", option="--page")
        runs = [load_run(run, model=args.model) for run in (args.run, *args.images)]
    except (ValueError, OSError) as error:
        return complain(error, BAD_INPUT, parser.prog)
    try:
        write_page(args.page, runs)
    except ValueError as error:
        return complain(error, BAD_INPUT, parser.prog)
    except OSError as error:
        return complain(f"--page {args.page} can't be written: {error}", FAILED, parser.prog)
    print(f"drawing page: {args.page} ({args.page.stat().st_size / 1e6:.1f} MB; open it in a browser)")
    return DONE


def make_parser() -> Parser:
    """The command line."""
    parser = Parser(
        prog="minidl.predict",
        description="Classify images with a trained run: pictures of your own handwriting (PNG, JPEG, TIFF, BMP, GIF, "
        "WebP, PNM) or IDX files. For a network trained on MNIST, pictures are preprocessed as MNIST was: each digit "
        "is separated from the paper, inverted to light on dark, scaled to 20 pixels and centred by its mass. Pictures "
        "of the training size are only inverted if needed. Each output line says what was done.",
        epilog="example: python -m minidl.predict runs/20261123-101500-cnn-hybrid digit.jpg --show seen.png",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=place, metavar="RUN", help="run folder, written by minidl.train or a Trainer")
    parser.add_argument(
        "images",
        type=place,
        nargs="*",
        metavar="IMAGE",
        help="picture, or IDX file of images; with --page, a second run",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        "--as-is", dest="how", action="store_const", const="as-is", default="auto",
        help="use pictures as they are: not inverted, cropped or centred, only scaled to the training size",
    )  # fmt: skip
    how.add_argument(
        "--normalize", dest="how", action="store_const", const="normalize",
        help="preprocess every picture like MNIST, also those of the training size and for networks trained on other "
        "data",
    )  # fmt: skip
    parser.add_argument(
        "--page", type=place, metavar="FILE.html",
        help="write a drawing page, where the network classifies as you draw; two networks side by side: "
        "predict RUN RUN --page FILE.html",
    )  # fmt: skip
    parser.add_argument("--show", type=place, metavar="FILE.png", help="write a picture of what the network saw")
    parser.add_argument("--device", default="cpu", metavar="D", help="cpu, gpu or auto (default: cpu)")
    parser.add_argument(
        "--model",
        metavar="FILE:NAME",
        help="your own network: its class, for a Trainer's run; for another, where its file is now, if it has moved",
    )
    add_options(parser, Options, only=["no_fast"])
    return parser


def load_model(run: Path, device: str = "cpu", given: str | None = None) -> tuple[Module, tuple[int, int]]:
    """The trained model of a run folder, ready to predict on `device`, and its image size (height, width).

    given  FILE.py:NAME of its class, for a Trainer's run with a user-defined class
    """
    checkpoint = load_run_checkpoint(run / CHECKPOINT)
    if note := stranger(run, checkpoint.state):
        print(readable(f"note: {note}"), file=sys.stderr)
    if note := changed(given or checkpoint.state["config"]["model"], checkpoint.state.get("files") or {}, str(run)):
        print(readable(f"note: {note}"), file=sys.stderr)
    height, width = checkpoint.state["model"]["image_size"]
    return model_of(run, checkpoint, given).to(device).eval(), (height, width)


def classify(model: Module, pixels: Array) -> Array:
    """The probability of each class (classes,) for one image (H, W) with values in [0, 1]."""
    with no_grad(), np.errstate(over="ignore", invalid="ignore"):  # `describe` reports an overflow
        return ops.softmax(model(Tensor(pixels[None, None].astype(np.float32), device=device_of(model)))).numpy()[0]


def describe(probabilities: Array, names: Sequence[str] = ()) -> str:
    """The most likely class and the next one, in words. Raises ValueError for probabilities that are not finite."""
    if not np.isfinite(probabilities).all():
        raise ValueError("the network's output is not finite: its weights are, but they overflow on this image")
    if len(probabilities) == 1:
        return f"{names[0] if names else 0} ({probabilities[0]:.1%}; there is no other class)"
    first, second = (-probabilities).argsort(kind="stable")[:2]  # ties go to the first, as in accuracy
    most, next_ = (names[k] if k < len(names) else k for k in (first, second))
    return f"{most} ({probabilities[first]:.1%}; next {next_}, {probabilities[second]:.1%})"


class _Command(ModuleType):
    """This module, callable. Importing it binds it to the name `minidl.predict`, which otherwise is the function."""

    def __call__(self, model: Module, images: Any, *more: Any, **named: Any) -> Array:
        """`predict(model, images)`: see minidl.evaluation."""
        return evaluation.predict(model, images, *more, **named)


sys.modules[__name__].__class__ = _Command

if __name__ == "__main__":
    sys.exit(main())
