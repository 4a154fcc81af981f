"""Two recorded runs on one page, stepping together: `python -m minidl.trace A.html B.html --out both.html`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from minidl.trace.page import PageError, check_writable, page, read, write
from minidl.train import BAD_INPUT, DONE, FAILED, Parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = Parser(prog="minidl.trace", description="Put two recorded runs on one page, to step through side by side.")
    parser.add_argument("pages", nargs=2, type=Path, metavar="PAGE", help="pages written by minidl.train --trace PAGE")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the page to write")
    args = parser.parse_args(argv)
    try:
        check_writable(args.out)
        recordings = [first for first, *_ in map(read, args.pages)]
        html = page(recordings)
    except PageError as error:
        print(f"minidl.trace: error: {error}", file=sys.stderr)
        return BAD_INPUT
    try:
        write(args.out, html)
    except OSError as error:
        print(f"minidl.trace: error: {args.out} can't be written: {error}", file=sys.stderr)
        return FAILED
    print(f"{args.out} ({len(html) / 1e6:.1f} MB): {' | '.join(r['title'] for r in recordings)}")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
