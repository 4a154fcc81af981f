"""Runs the public tests of an assignment and shows which pass: `python test_public.py`. (pytest runs them as well.)"""

import builtins
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent


def same(got: Any, wanted: Any, rtol: float = 1e-6, atol: float = 0.0) -> None:
    """Raise AssertionError with the first element that is off, unless `got` is `wanted` to within rounding."""
    got, wanted = np.asarray(got), np.asarray(wanted)
    if got.shape != wanted.shape:
        raise AssertionError(f"expected shape {wanted.shape}, got {got.shape}")
    wrong = ~np.isclose(got, wanted, rtol=rtol, atol=atol)
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        at = f" at index {index}" if index else ""
        raise AssertionError(f"expected {wanted[index]:.7g}{at}, got {got[index]:.7g}")


def _own(path: Path) -> bool:
    """Whether a file belongs to the hand-out, not to an installed package."""
    return path.is_relative_to(HERE) and "site-packages" not in path.parts


def run(tests: dict[str, Any]) -> None:
    """Run every test_... function; exit status 1 if one fails."""
    if hasattr(builtins, "__IPYTHON__"):  # %run keeps the modules that it has imported, as they were before an edit
        anew = [sys.executable, tests["__file__"]]
        print(subprocess.run(anew, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True).stdout)
        return
    functions = [function for name, function in tests.items() if name.startswith("test_")]
    failed = 0
    for function in functions:
        try:
            function()
        except NotImplementedError as error:
            failed += 1
            print(f"to do   {function.__doc__}\n        {error}")
        except Exception as error:
            failed += 1
            own = [f for f in traceback.extract_tb(error.__traceback__) if _own(Path(f.filename))]
            frame = [f for f in own if Path(f.filename).name != "public.py"][-1]
            said = str(error) if isinstance(error, AssertionError) else f"{type(error).__name__}: {error}"
            print(f"FAILED  {function.__doc__}\n        {said or 'expected this to hold'}")
            print(f"        {Path(frame.filename).relative_to(HERE)}, line {frame.lineno}: {frame.line}")
        else:
            print(f"ok      {function.__doc__}")
    print(f"{len(functions) - failed} of {len(functions)} pass")
    sys.exit(failed > 0)
