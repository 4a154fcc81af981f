"""The versions with which a study's published rows were made, as pip wants them: `python -m tests.study_versions DIR`.

Rows have the same bits only with the same NumPy and numba, so the gate installs these before it checks some.
"""

import sys
from collections import Counter
from pathlib import Path

from minidl.study.store import Store


def versions(folder: Path) -> str:
    """Those of most rows: "numpy==2.4.6 numba==0.68.1"."""
    made = Counter((r["made"]["numpy"], r["made"]["fast"]) for r in Store(folder).all().values())
    if not made:
        raise SystemExit(f"{folder} has no rows")
    (numpy, fast), _ = made.most_common(1)[0]
    return f"numpy=={numpy}" + (f" {fast.replace(' ', '==')}" if fast else "")


if __name__ == "__main__":
    print(versions(Path(sys.argv[1])))
