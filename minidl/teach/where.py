"""Where a figure goes: into the notebook, a window or a file."""

from __future__ import annotations

import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from minidl.telling import tell

LESSON = re.compile(r"\d\d_\w+\.py")


def shown(figure: Any, save: str | os.PathLike[str] | None = None) -> None:
    """Show a pyplot figure, or save it, depending on what runs the program.

    save  a file to write; in a notebook the figure is shown too
    """
    import matplotlib.pyplot as plt

    if save is not None:
        figure.savefig(save)
    lesson = lesson_file()
    if in_notebook():
        plt.show()
        figure._ipython_display_ = once_more(figure)
    elif lesson is not None and save is None:
        path = next_picture(lesson)
        figure.savefig(path)
        print(f"picture: {path}")
    elif plt.get_backend().lower() != "agg":
        plt.show()
    elif save is None and is_script():
        tell("there is no screen to show this picture on: write it to a file, with save='picture.png'")


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs the program, and shows what is printed."""
    return type(sys.stdout).__module__.startswith("ipykernel")


def is_script() -> bool:
    """Whether a file is run as a program."""
    return bool(getattr(sys.modules["__main__"], "__file__", None)) and "pytest" not in sys.modules


def lesson_file() -> Path | None:
    """The lesson that is run as a script, if any: it lies beside tutorials/build.py."""
    file = Path(getattr(sys.modules["__main__"], "__file__", None) or "")
    return file if LESSON.fullmatch(file.name) and (file.parent / "build.py").is_file() else None


def next_picture(lesson: Path) -> Path:
    """pictures/07_the_switch-1.png, -2.png, ..., in the working directory; the count is kept in __main__."""
    folder = Path("pictures")
    folder.mkdir(exist_ok=True)
    main: Any = sys.modules["__main__"]
    main.__pictures__ = number = getattr(main, "__pictures__", 0) + 1
    return folder / f"{lesson.stem}-{number}.png"


def once_more(figure: Any) -> Callable[[], None]:
    """What a notebook calls if the figure is a cell's last value: it does nothing in the cell that has shown it."""
    from IPython import get_ipython
    from IPython.display import Image, display

    def cell() -> Any:
        return getattr(get_ipython(), "execution_count", None)

    drawn_in = cell()

    def show() -> None:
        if cell() != drawn_in:
            png = io.BytesIO()
            figure.savefig(png, format="png")
            display(Image(png.getvalue()))  # type: ignore[no-untyped-call]

    return show
