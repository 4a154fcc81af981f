"""The name of a user's own network or optimizer, `mine.py:Net`, and its file: whether a run was trained with it."""

from __future__ import annotations

import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from minidl.training.loader import UserError, load, source_sha256, told


def is_own(name: str) -> bool:
    """Whether the name of a model or an optimizer refers to a file."""
    return name.endswith(".py") or ".py:" in name


def absolute_name(name: str) -> str:
    """The name with an absolute path; a built-in name is unchanged."""
    if not is_own(name):
        return name
    file, colon, inside = name.rpartition(":") if not name.endswith(".py") else (name, "", "")
    return f"{Path(file).expanduser().absolute()}{colon}{inside}"


def short(name: str) -> str:
    """The short name, for folders and titles: Net for /home/ada/mine.py:Net."""
    return name.rpartition(":")[2] if is_own(name) else name


def of_file(name: str) -> str:
    """The name with its file, but without the folder: mine.py:Net."""
    return bare(name) if is_own(name) else name


def bare(path: str) -> str:
    """The last part of a path from a run's record, which may be another system's: net.py for C:\\ada\\net.py."""
    system = PurePosixPath if path.startswith("/") else PureWindowsPath  # the latter separates at / too
    return system(path).name


# ---- the files of a run ----


def hashes(*names: str) -> dict[str, str]:
    """{file: sha256} of the files that these names are in."""
    return {code.path: code.sha256 for code in (load(name) for name in names if is_own(name))}


def _file_of(name: str) -> Path:
    return Path(name.rpartition(":")[0] or name)


def _is_among(path: Path, trained_with: Mapping[str, str]) -> bool:
    """Whether a run was trained with this file. Earlier runs have the hash of its bytes, line endings and all."""
    source = path.read_bytes()
    return not {source_sha256(source), sha256(source).hexdigest()}.isdisjoint(trained_with.values())


def check_there(name: str, run: str, option: str = "model") -> None:
    """Raise UserError if the file of a run's model or optimizer is gone: it may have been moved."""
    path = _file_of(name)
    python = f" (in Python, load_run(folder, model={short(name)}))" if option == "model" else ""
    if is_own(name) and not path.is_file():
        raise UserError(
            f"{run} was trained with {short(name)} from {path}, which is gone: put that file back, or say where it is "
            f"now with --{option} FILE.py:{short(name)}{python}"
        )


def changed(name: str, trained_with: Mapping[str, str], run: str) -> str | None:
    """A warning if a model's file exists, but is not the one that the run was trained with; else None."""
    path = _file_of(name)
    if not is_own(name) or not trained_with or not path.is_file():
        return None
    if _is_among(path, trained_with):
        return None
    return f"{path.name} has changed since {run} was trained with it: the network may now give other results"


def check_unchanged(name: str, trained_with: Mapping[str, str], run: str, option: str = "model") -> None:
    """Raise UserError if the file of a model or an optimizer is not the run's. The file is not executed.

    trained_with  {file: sha256}, from `hashes`; only the hashes count, not the paths
    """
    if not is_own(name):
        return
    check_there(name, run, option)
    path = _file_of(name)
    if not _is_among(path, trained_with):
        found = source_sha256(path.read_bytes())
        wanted = " or ".join(f"{sha256[:12]}..." for sha256 in trained_with.values())
        raise UserError(
            f"{path} has changed since {run} was trained with it (sha256 {found[:12]}..., it was {wanted}): "
            "put the old file back, or train again from the start"
        )


def check_own(was: Any, now: Any, trained_with: Mapping[str, str], run: Path) -> None:
    """Raise ValueError if a Config's model or optimizer is not the run's, or UserError if its file has changed.

    was, now  the Config of the run, and the one to continue with
    """
    for option in ("model", "opt"):
        old, new = getattr(was, option), getattr(now, option)
        if new != old and not same_name(old, new):
            raise ValueError(f"{run} was trained with {of_file(old)}: --{option} can't be changed")
        check_unchanged(new, trained_with, str(run), option)


def same_name(name: str, now: str) -> bool:
    """Whether `now` may be the same class or function in another place: it has the same name, in a user's file."""
    return is_own(name) and is_own(now) and short(name) == short(now)


@contextmanager
def telling(*names: str) -> Iterator[None]:
    """`with telling(model, opt):` errors raised inside the user's files, or by checks of a rule defined in them, become
    UserErrors."""
    own = [name for name in names if is_own(name)]
    try:
        with ExitStack() as stack:
            for name in own:
                stack.enter_context(told(load(name)))
            yield
    except ValueError as error:
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if own and frame.f_globals["__name__"].startswith("minidl.optim."):
            raise UserError(str(error)) from error
        raise
