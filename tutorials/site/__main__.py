"""`python -m tutorials.site`: build the offline documentation site and check it; every warning is an error."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from tutorials.site import links, reference

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tutorials.site", description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site", help="the folder (default: build/site)")
    args = parser.parse_args(argv)
    try:
        from sphinx.cmd.build import build_main
    except ImportError:
        print('tutorials.site: error: Sphinx is not installed: python -m pip install ".[docs]"', file=sys.stderr)
        return 2
    os.environ["MINIDL_NO_FAST"] = "1"
    shutil.rmtree(args.out, ignore_errors=True)
    status = build_main(
        ["-q", "-E", "-W", "--keep-going", "-b", "html", "-c", str(HERE), "-d", str(args.out) + ".cache", str(ROOT),
         str(args.out)]
    )  # fmt: skip
    if status:
        return 1
    broken, outside = links.check(args.out)
    broken += reference.missing(args.out) + reference.twice(args.out)
    print(f"{len(outside)} external links, not checked:", *sorted(outside), sep="\n  ")
    for problem in broken:
        print(f"tutorials.site: error: {problem}", file=sys.stderr)
    if not broken:
        print(f"The site is in {args.out}: open {args.out / 'index.html'} in a browser")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
