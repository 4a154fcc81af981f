"""Compare runs: `python -m minidl.compare RUN RUN...` in the terminal, and with --out FILE.html as a page."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minidl.cli.command import command
from minidl.cli.page import put
from minidl.cli.parser import BAD_INPUT, DONE, Parser, complain, matching, place, shown
from minidl.data.outputs import check_output
from minidl.pages import compare_page, compare_table, read_run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.compare", lambda stop: compare(argv))


def compare(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.compare",
        description="Compare runs: their results, the settings that differ and, with --out, their curves. All numbers "
        "are read from the run folders; nothing is recomputed.",
        epilog="example: python -m minidl.compare runs/*-mlp-* --out compare.html",
        allow_abbrev=False,
    )
    parser.add_argument(
        "runs", type=place, nargs="+", metavar="RUN", help="run folders, written by minidl.train or a Trainer"
    )
    parser.add_argument("--out", type=place, metavar="FILE", help="also write the comparison as a page, FILE.html")
    args = parser.parse_args(argv)
    try:
        if args.out is not None:
            check_output(args.out, "compare", option="--out")
        runs = [read_run(folder, i) for i, folder in enumerate(matching(args.runs))]
    except (ValueError, OSError) as error:
        return complain(error, BAD_INPUT, parser.prog)
    print(shown(compare_table(runs)))
    if args.out is None:
        return DONE
    print()
    return put(args.out, compare_page(runs), parser.prog)


if __name__ == "__main__":
    sys.exit(main())
