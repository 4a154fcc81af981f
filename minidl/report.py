"""Write an HTML report of a run, its results and its mistakes: `python -m minidl.report RUN`."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minidl.backend import DeviceError
from minidl.cli.command import command
from minidl.cli.page import put
from minidl.cli.parser import BAD_INPUT, Parser, complain, place
from minidl.data.outputs import check_output
from minidl.pages import facts_of_folder, report_page
from minidl.training.folder import REPORT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.report", lambda stop: report(argv))


def report(argv: Sequence[str] | None) -> int:
    """The command itself."""
    parser = Parser(
        prog="minidl.report",
        description="Write an HTML report of a run: its curves and switch and, from the validation split, the "
        "confusion matrix, the accuracy of each class and the worst mistakes. One file, which opens in any browser.",
        epilog="example: python -m minidl.report runs/20261123-101500-cnn-hybrid",
        allow_abbrev=False,
    )
    parser.add_argument("run", type=place, metavar="RUN", help="run folder, written by minidl.train or a Trainer")
    parser.add_argument("--out", type=place, metavar="FILE", help=f"the page to write (default: RUN/{REPORT})")
    parser.add_argument("--dataset", metavar="NAME", help="where the data of the run are now, if they have moved")
    parser.add_argument(
        "--model",
        metavar="FILE:NAME",
        help="your own network: its class, for a Trainer's run; for another, where its file is now, if it has moved",
    )
    args = parser.parse_args(argv)
    out = args.out or args.run / REPORT
    try:
        if args.out is not None:
            check_output(out, "report", option="--out")
        facts = facts_of_folder(args.run, args.model, args.dataset)
        check_output(out, "report")
        html = report_page(facts)
    except (ValueError, OSError, DeviceError) as error:
        return complain(error, BAD_INPUT, parser.prog)
    return put(out, html, parser.prog)


if __name__ == "__main__":
    sys.exit(main())
