"""Put two recorded runs on one page, which steps them together: `python -m minidl.trace A.html B.html --out both.html`.

Given one page, its recording is written again as a page of this version of minidl.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from minidl.cli.command import command
from minidl.cli.page import put
from minidl.cli.parser import BAD_INPUT, Parser, complain, place
from minidl.trace.page import PageError, check_replaceable, page, read


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return command("minidl.trace", lambda stop: put_together(argv))


def put_together(argv: Sequence[str] | None) -> int:
    """The command itself."""
    what = "Put two recorded runs on one page, to step through side by side; or rewrite the page of one."
    parser = Parser(prog="minidl.trace", description=what)
    parser.add_argument("pages", nargs="+", type=place, metavar="PAGE", help="one or two, by minidl.train --trace PAGE")
    parser.add_argument("--out", type=place, required=True, metavar="FILE", help="the page to write")
    args = parser.parse_args(argv)
    try:
        check_replaceable(args.out, args.pages)
        recordings = [recording for path in args.pages for recording in read(path)]  # a page may hold two
        if len(recordings) > 2:
            raise PageError(f"{len(recordings)} runs were given, but at most two fit side by side")
        html = page(recordings)
    except PageError as error:
        return complain(error, BAD_INPUT, parser.prog)
    return put(args.out, html, parser.prog, " | ".join(recording["title"] for recording in recordings))


if __name__ == "__main__":
    sys.exit(main())
