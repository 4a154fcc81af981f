"""The site's table of contents: which files are pages, and in which order."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PATTERNS = [
    "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "tests/README.md", "tutorials/README.md",
    "tutorials/[0-9]*.ipynb", "tutorials/pages/*.md", "tutorials/assignments/*.md", "tutorials/assignments/*/*.md",
    "tutorials/study/*.md", "tutorials/site/*.md",
]  # fmt: skip
PAGES = "tutorials/pages/"
SECTIONS = {
    "Start": [PAGES + "start", PAGES + "commands", PAGES + "switch", PAGES + "read-it"],
    "Learn": ["tutorials/README", "tutorials/[0-9]*", "tutorials/assignments/README", "tutorials/assignments/*/README"],
    "How to": [PAGES + "from-pytorch", PAGES + "own-*", PAGES + "programs", PAGES + "replay"],
    "Results": ["tutorials/study/*", PAGES + "optimizers", PAGES + "speed", PAGES + "promises", PAGES + "gpu*"],
    "Reference": ["tutorials/site/*"],
}
LAST = {"Project": ["tests/README", "CONTRIBUTING", "CHANGELOG"]}


def documents() -> list[str]:
    """All pages but the front page, without suffixes, sorted by name."""
    found = {path.relative_to(ROOT).with_suffix("") for pattern in PATTERNS for path in ROOT.glob(pattern)}
    return sorted(path.as_posix() for path in found if path.as_posix() != "README")


def sections() -> dict[str, list[str]]:
    """Heading -> its pages. A page in no section is listed under "More"."""
    left, made = documents(), {}
    for heading, patterns in [*SECTIONS.items(), ("More", ["*", *LAST["Project"]]), *LAST.items()]:
        pages = [page for pattern in patterns for page in left if Path(page).match(pattern)]
        if heading == "More":
            pages = [page for page in left if page not in LAST["Project"]]
        left = [page for page in left if page not in pages]
        if pages:
            made[heading] = list(dict.fromkeys(pages))
    return made


def toctrees() -> str:
    """The table of contents as MyST Markdown, for the end of the front page."""
    return "".join(
        f"\n\n```{{toctree}}\n:hidden:\n:caption: {heading}\n\n" + "\n".join(f"/{page}" for page in pages) + "\n```\n"
        for heading, pages in sections().items()
    )
