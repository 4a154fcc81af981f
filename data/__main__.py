"""A data set from a folder of images: `python -m minidl.data FOLDER OUT`, then `minidl.train --dataset OUT`."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from minidl.cli.command import command
from minidl.cli.parser import BAD_INPUT, DONE, FAILED, Parser, complain, place
from minidl.data.idx import DataError
from minidl.handwriting.collect import POLARITIES, Collected, check_out, collect, write_dataset
from minidl.handwriting.folders import find_pictures
from minidl.handwriting.tables import collect_tables, tables_in
from minidl.telling import is_terminal, typed

EXAMPLE = """example:
  python -m minidl.data pictures mine --size 28 --test-share 0.2
  python -m minidl.train --dataset mine --model cnn
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.data", lambda stop: make(argv))


def make(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.data",
        description="Make a data set from a folder of images. FOLDER holds one folder of images per class, or two\n"
        "folders, train and test, that hold such folders. It may also be a CSV file like Kaggle's MNIST, a folder\n"
        "of such files, or an .npz file like Keras's. OUT gets four IDX files and the names of the classes.",
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    what = "folder of images, one subfolder per class, or one of the others above"
    parser.add_argument("folder", type=place, metavar="FOLDER", help=what)
    parser.add_argument("out", type=place, metavar="OUT", help="folder to write to")
    parser.add_argument(
        "--size", type=_size, metavar="N", help="height and width, such as 28 or 20x16 (default: the "
        "images' own, if all have the same and it is at most 64x64; else 28)",
    )  # fmt: skip
    parser.add_argument(
        "--test-share", type=_share, default=0.2, metavar="F", help="fraction of each class that is set aside for "
        "testing (default: 0.2)",
    )  # fmt: skip
    parser.add_argument(
        "--polarity", choices=POLARITIES, default="auto", help="auto: invert all images if most are dark on "
        "light, since MNIST is light on dark; invert: invert all; keep: invert none (default: auto)",
    )  # fmt: skip
    parser.add_argument(
        "--class-names", metavar="A,B,...", help="names of the classes, in the order of their folders (default: the "
        "folders' names)",
    )  # fmt: skip
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="draws the test images (default: 0)")
    args = parser.parse_args(argv)
    names = None if args.class_names is None else [name.strip() for name in args.class_names.split(",")]
    try:
        if args.out.resolve() == args.folder.resolve():
            raise DataError(f"{args.out} is the input folder: give another one to write to")
        check_out(args.out)
        made = _made(args, names)
    except DataError as error:
        return complain(error, BAD_INPUT, parser.prog)
    except OSError as error:
        return complain(f"{args.folder} can't be read: {error}", BAD_INPUT, parser.prog)
    try:
        write_dataset(args.out, made)
    except DataError as error:
        return complain(error, BAD_INPUT, parser.prog)
    except OSError as error:
        return complain(f"{args.out} can't be written: {error}", FAILED, parser.prog)
    print(_report(args.out, made))
    return DONE


def _made(args: argparse.Namespace, names: list[str] | None) -> Collected:
    """The data set of a folder of images, or of a CSV file or an archive."""
    tables = tables_in(args.folder)
    if tables is None:
        found = find_pictures(args.folder)
        return collect(found, args.size, args.test_share, args.polarity, names, args.seed, _bar)
    if args.size is not None or args.polarity != "auto" or names is not None:
        raise DataError("--size, --polarity and --class-names are for folders of images, not for CSV and .npz files")
    return collect_tables(tables, args.test_share, args.seed)


def _bar(files: Iterable[Path]) -> Iterable[Path]:
    from tqdm import tqdm  # takes longer to import than a few images to read

    return tqdm(files, unit="image", disable=not is_terminal(sys.stderr), leave=False)


def _report(out: Path, made: Collected) -> str:
    """What was made, and what the user should know about it."""
    images, labels, test, test_labels = made.arrays
    lines = [
        f"{out}: {len(images):,} training and {len(test):,} test images of {images.shape[1]}x{images.shape[2]}, "
        f"{len(made.class_names)} classes"
    ]
    for k, name in enumerate(made.class_names):
        lines.append(f"{k:>5}  {name}: {(labels == k).sum():,} and {(test_labels == k).sum():,}")
    lines += [f"note: {each}" for each in made.notes]
    return "\n".join([*lines, f"train on it with:\n  python -m minidl.train --dataset {typed(str(out))}"])


# ---- options ----


def _size(text: str) -> tuple[int, int]:
    sizes = re.fullmatch(r"(\d{1,4})(?:x(\d{1,4}))?", text)
    if not sizes or not int(sizes[1]) or (sizes[2] and not int(sizes[2])):
        raise argparse.ArgumentTypeError(f"give 1 to 9,999 pixels, as 28, or HEIGHTxWIDTH, as 20x16, not {text!r}")
    return int(sizes[1]), int(sizes[2] or sizes[1])


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"give a number between 0 and 1, not {text!r}")
    return share


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**64:
        raise argparse.ArgumentTypeError(f"give a whole number, 0 or more, not {text!r}")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
