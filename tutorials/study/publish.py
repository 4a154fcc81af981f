"""Publish a study here, finished or not: `python -m tutorials.study.publish studies/paper`.

From a study's folder, which it only reads, it writes runs.jsonl.gz and commands.json (from which any machine can
continue), results.csv, report.html, the heat maps and the current state in README.md. No published run is lost: a
folder that lacks runs which are already here is refused.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from pathlib import Path

from minidl.data import load_mnist
from minidl.data.atomic import atomic_file, write_text
from minidl.study import Study
from minidl.study.analysis import Block, analyse
from minidl.study.provenance import FILE as COMMANDS
from minidl.study.store import PACK, Store
from minidl.study.study import Plan, open_plan
from tutorials.study.command import command

HERE = Path(__file__).parent
STATE = re.compile(r"(?<=<!-- state -->\n).*?(?=<!-- end of state -->)", re.DOTALL)


def publish(study: Study, source: Path, here: Path = HERE) -> list[Path]:
    """Write what is published of the study in `source` to the folder `here`. Returns the files.

    Raises ValueError if `source` is not a study, has damaged records, or lacks runs that are published.
    """
    if not source.is_dir():
        raise ValueError(f"there is no study in {source}")
    try:
        from minidl.study.report import write_report  # it needs the extra `study`
    except ModuleNotFoundError as error:
        raise ValueError(f'publishing needs {error.name}: pip install ".[study]"') from None
    plan = open_plan(study, load_mnist(name=study.dataset), source)
    there = plan.store.all()
    if plan.store.damaged:
        raise ValueError(f"{len(plan.store.damaged)} records are damaged, the first: {plan.store.damaged[0]}")
    if not there:
        raise ValueError(f"the study in {source} has no runs yet")
    if lost := Store(here).all().keys() - there.keys():
        raise ValueError(f"{len(lost):,} published runs are not in {source}: copy {here / PACK} there first")
    blocks = analyse(plan)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder)
        write_report(plan, made, blocks)
        table = (made / "table.md").read_text(encoding="utf-8")
        files = [made / "report.html", made / "results.csv", *sorted((made / "figures").glob("*-map-*.png"))]
        written = [_copy(file, here / file.relative_to(made)) for file in files]
    written.append(plan.store.pack(here))
    if (source / COMMANDS).exists():
        written.append(_copy(source / COMMANDS, here / COMMANDS))
    readme = here / "README.md"
    text = readme.read_text(encoding="utf-8")
    if not STATE.search(text):
        raise ValueError(
            f"{readme} has no place for the current state, between <!-- state --> and <!-- end of state -->"
        )
    write_text(readme, STATE.sub(lambda _: state(plan, blocks, table), text))
    return [*written, readme]


def _copy(file: Path, to: Path) -> Path:
    to.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(to) as copy, file.open("rb") as content:
        shutil.copyfileobj(content, copy)
    return to


def state(plan: Plan, blocks: list[Block], table: str) -> str:
    """How far the study is, its answer so far and its first table, in Markdown."""
    done, total, runs = sum(block.complete for block in blocks), len(blocks), len(plan.store.all())
    if done == total:
        head = f"All {total} regimes are done, {runs:,} runs."
    else:
        begun = ", ".join(block.regime.name for block in blocks if block.entries and not block.complete)
        head = (
            f"**The runs are in progress: {done} of {total} regimes {'is' if done == 1 else 'are'} done"
            f"{f', {begun} started' if begun else ''}; {runs:,} runs.** Smaller regimes come first. Until all "
            "are done, the answer is about a few small networks only:"
        )
    return f"{head}\n\n{table}"


def lines(study: Study, folder: Path) -> list[str]:
    """Publish it, and say what was written."""
    return [f"written: {file}" for file in publish(study, folder)]


if __name__ == "__main__":
    sys.exit(command("publish", __doc__, lines))
