"""Runs the public tests of an assignment and says which pass: `python test_public.py`. (pytest runs them as well.)"""

import sys
import traceback
from pathlib import Path
from typing import Any


def run(tests: dict[str, Any]) -> None:
    """Run every test_... function; exit status 1 if one fails."""
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
            frame = traceback.extract_tb(error.__traceback__)[-1]
            print(f"FAILED  {function.__doc__}\n        {type(error).__name__}: {error}".rstrip())
            print(f"        {Path(frame.filename).name}, line {frame.lineno}: {frame.line}")
        else:
            print(f"ok      {function.__doc__}")
    print(f"{len(functions) - failed} of {len(functions)} pass")
    sys.exit(failed > 0)
