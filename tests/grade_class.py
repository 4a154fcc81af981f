"""A whole class graded in one command, with the time that it takes: `python -m tests.grade_class --n 200`.

Half of the class is right; the others make the mistakes of test_assignments_mistakes.py, hand in the bare hand-out,
or try what test_assignments_attacks.py tries.
"""

import argparse
import resource
import sys
import tempfile
import time
from pathlib import Path

from tests.submissions import reference, with_bodies, with_preface, write
from tests.test_assignments_attacks import ADAM, attacks
from tests.test_assignments_mistakes import MISTAKES
from tutorials.assignments import grade
from tutorials.assignments.assignment import load
from tutorials.assignments.handout import to_write


def main() -> int:
    """Make a class in a temporary folder and grade it."""
    parser = argparse.ArgumentParser(prog="tests.grade_class", description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=200, help="submissions (default: %(default)s)")
    n = parser.parse_args().n
    mistakes = [m.bodies for m in MISTAKES.values() if m.assignment == "A2"]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        hostile = [a for a in attacks(folder).values() if a.function.startswith("A2")]
        for i in range(n):
            attack = hostile[i // 10 % len(hostile)]
            if i % 10 < 5:
                files = reference("A2")
            elif i % 10 < 8:
                files = with_bodies("A2", mistakes[i % len(mistakes)])
            elif i % 10 == 8:
                files = to_write(load("A2"))
            elif attack.body:
                files = with_bodies("A2", {"Adam.rule": attack.body})
            else:
                files = with_preface("A2", ADAM, attack.code, attack.bare)
            write(files, folder / "class" / f"student{i:03}")
        begin = time.monotonic()
        status = grade.main(["A2", str(folder / "class"), "--csv", str(folder / "marks.csv")])
        seconds = time.monotonic() - begin
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    processor = sum(u.ru_utime + u.ru_stime for u in used)
    print(f"{n} submissions in {seconds:.0f} s, {processor:.0f} s of processor time")
    return status


if __name__ == "__main__":
    sys.exit(main())
