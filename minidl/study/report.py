"""The report: one HTML file that needs no network, the pictures as files, and the main table in Markdown."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from minidl.data.atomic import atomic_file, write_text
from minidl.study import figures
from minidl.study.analysis import REFERENCES, SECONDS, STEPS, Block, Entry, analyse
from minidl.study.claims import CLAIMS, Verdict, answer, judge, points, sentence
from minidl.study.contestants import Recipe
from minidl.study.provenance import provenance
from minidl.study.regimes import Regime
from minidl.study.results import write_tables
from minidl.study.statistics import Mean, Paired
from minidl.study.study import TAILORED_KEY, Plan
from minidl.study.tuning import edges

TITLE = "What does the switch from Adam to SGD buy?"


def write_report(plan: Plan, folder: Path) -> list[Path]:
    """Write report.html, table.md, results.csv, times.csv and figures/ from the runs that are done."""
    write_tables(plan, folder)
    blocks = analyse(plan)
    verdicts = judge(blocks)
    pictures = _pictures(blocks, verdicts)
    (folder / "figures").mkdir(exist_ok=True)
    inline = {name: _save(figure, folder / "figures" / name) for name, figure in pictures.items()}
    template = _environment().get_template("report.html.j2")
    html = template.render(
        title=TITLE,
        plan=plan,
        study=plan.study,
        blocks=blocks,
        answer=answer(blocks),
        claims=[(claim, row, sentence(row)) for claim, row in zip(CLAIMS, verdicts, strict=True)],
        checks=[check(block) for block in blocks],
        pictures=inline,
        slug=slug,
        provenance=provenance(plan),
        references=REFERENCES,
        crashed=plan.crashed(),
    )
    write_text(folder / "report.html", html)
    write_text(folder / "table.md", markdown(plan, blocks, verdicts))
    return [folder / name for name in ("report.html", "results.csv", "table.md")]


# ---- pictures -----------------------------------------------------------------------------------------------------


def _pictures(blocks: Sequence[Block], verdicts: Sequence[Sequence[Verdict]]) -> dict[str, Figure]:
    rows = [row for row in verdicts if row and row[0].claim.measure == "test_accuracy"][:8]
    pictures = {}
    if rows:
        labels = [f"{row[0].claim.a} minus {row[0].claim.b}" for row in rows]
        pictures["differences"] = figures.differences(rows, labels)
    for block in blocks:
        if not block.entries:
            continue
        name = slug(block.regime.name)
        for panel, keys in figures.PANELS.items():
            if any(block.entry(key) for key in keys):
                pictures[f"{name}-curves-{slug(panel)}"] = figures.curves(block, keys)
        pictures[f"{name}-boxes"] = figures.boxes(block)
        pictures[f"{name}-sensitivity"] = figures.sensitivity(block)
    return pictures


def _save(figure: Figure, path: Path) -> Markup:
    """Write the picture as SVG and PNG; returns the SVG to stand in a page, in the page's ink."""
    svg = io.BytesIO()
    with rc_context({**figures.STYLE, "svg.hashsalt": path.name}):  # the same picture is the same file
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it is laid out now
        with atomic_file(path.with_suffix(".png")) as file:
            figure.savefig(file, format="png", facecolor="white")
    text = svg.getvalue().decode()
    write_text(path.with_suffix(".svg"), text)
    text = text[text.index("<svg") :].replace(figures.INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names inside a picture must not meet those of another picture in the same page.
    text = re.sub(r'(id="|#|url\(#)(?=[A-Za-z_])(?![0-9a-f]{6}\b)', rf"\g<1>{path.name}-", text)
    return Markup(text)


# ---- what the template shows --------------------------------------------------------------------------------------


def check(block: Block) -> dict[str, Any]:
    """Whether a regime is what it claims: train accuracy and gap of Adam and SGD against its bounds."""
    (low, high), (gap_low, gap_high) = block.regime.claim
    rows = []
    for key in REFERENCES:
        entry = block.entry(key)
        if entry is not None:
            train, gap = entry.mean("train_accuracy"), entry.mean("val_gap")
            kept = low <= train.mean <= high and gap_low <= gap.mean <= gap_high
            rows.append({"key": key, "train": train, "gap": gap, "kept": kept})
    return {"regime": block.regime, "rows": rows}


def slug(name: str) -> str:
    """The name as part of a file's name."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")


def percent(m: Mean, digits: int = 2) -> str:
    """A mean of fractions in per cent, with half its interval."""
    return f"{100 * m.mean:.{digits}f} ± {100 * m.half:.{digits}f}"


def number(m: Mean) -> str:
    """A mean with half its interval."""
    return f"{m.mean:.4f} ± {m.half:.4f}"


def p_value(p: float) -> str:
    """A p-value as a table has it; nothing where there is none."""
    return "" if math.isnan(p) else "< 0.001" if p < 0.001 else f"{p:.3f}"


def setting(recipe: Recipe) -> str:
    """The tuned part of a recipe."""
    names = {"lr": "rate", "lr_sgd": "SGD's rate", "lr_after": "Adam's rate", "factor": "factor", "at": "after"}
    shown = [(names[k], f"{v:.0%}" if k == "at" else f"{v:g}") for k, v in recipe.items() if k in names]
    return ", ".join(f"{name} {value}" for name, value in shown)


def best_setting(entry: Entry) -> str:
    """The setting that won the tuning."""
    return setting(entry.contestant.recipe(entry.tuned.best, entry.tuned.at))


def at_edges(entry: Entry) -> str:
    """The axes on which the winner is still at the edge of what was tried."""
    return ", ".join(edges(entry.contestant.space, entry.tuned.best, entry.tuned.tried))


def switches(entry: Entry) -> tuple[int, float, float] | None:
    """How many runs switched, and the median step and rate; None where none did."""
    events = [r.switch for r in entry.results if r.switch]
    if not events:
        return None
    middle = sorted(events, key=lambda e: float(e["step"]))[len(events) // 2]
    return len(events), middle["step"], middle["lr"]


def ranking(block: Block) -> str:
    """Who has the highest mean test accuracy in a regime, and where the tailored hybrid stands, in a sentence."""
    order = sorted(block.entries, key=lambda entry: -entry.mean("test_accuracy").mean)
    best = order[0]
    text = f"Highest mean test accuracy: {best.contestant.name}, {100 * best.mean('test_accuracy').mean:.2f} %"
    place = next((i for i, entry in enumerate(order, 1) if entry.contestant.key == TAILORED_KEY), None)
    if place is None or place == 1:
        return text + "."
    hybrid = order[place - 1].mean("test_accuracy").mean
    return text + f"; the tailored hybrid is number {place} of {len(order)} with {100 * hybrid:.2f} %."


def network(regime: Regime) -> str:
    """The network in words."""
    parts = [f"convolutions of {' and '.join(map(str, regime.filters))} filters"] if regime.filters else []
    parts += [f"hidden layers of {' and '.join(map(str, regime.hidden))} units"] if regime.hidden else []
    return ", ".join(parts)


def significant(comparison: Paired) -> str:
    """The class of a table's cell: better, worse or neither."""
    if not comparison.holds:
        return ""
    return "more" if comparison.difference.mean > 0 else "less"


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        percent,
        number,
        p_value,
        best_setting,
        at_edges,
        switches,
        network,
        ranking,
        significant,
        points,
        setting,
    ):
        env.filters[function.__name__] = function
    env.globals |= {"STEPS": STEPS, "SECONDS": SECONDS, "isnan": math.isnan}
    return env


# ---- Markdown -----------------------------------------------------------------------------------------------------


def markdown(plan: Plan, blocks: Sequence[Block], verdicts: Sequence[Sequence[Verdict]]) -> str:
    """Test accuracies of all contestants in all regimes, and the claims."""
    done = [block for block in blocks if block.entries]
    lines = [
        " ".join(answer(blocks)),
        "",
        f"Test accuracy in %, mean ± half of the 95 % interval, {len(plan.study.seeds)} seeds:",
        "",
    ]
    lines += ["| | " + " | ".join(block.regime.name for block in done) + " |", "|---" * (len(done) + 1) + "|"]
    for contestant in plan.study.contestants:
        entries = [block.entry(contestant.key) for block in done]
        cells = [percent(entry.mean("test_accuracy")) if entry else "" for entry in entries]
        lines.append(f"| {contestant.name} | " + " | ".join(cells) + " |")
    lines += ["", "| claim | " + " | ".join(block.regime.name for block in done) + " |", "|---" * (len(done) + 1) + "|"]
    for claim, row in zip(CLAIMS, verdicts, strict=True):
        words = {verdict.regime: verdict.word for verdict in row}
        lines.append(f"| {claim.text} | " + " | ".join(words.get(block.regime.name, "") for block in done) + " |")
    return "\n".join(lines) + "\n"
