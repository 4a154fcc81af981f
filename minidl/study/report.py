"""The report: one HTML file that needs no network, the figures as files, and the answer with its table in Markdown."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Collection, Sequence
from pathlib import Path
from statistics import median

import jinja2
from markupsafe import Markup
from matplotlib import rc_context
from matplotlib.figure import Figure

from minidl.data.atomic import atomic_file, write_text
from minidl.study import figures
from minidl.study.analysis import Block, Entry, Verdict, analyse, tuned_again
from minidl.study.claims import ACCURACY, GAP, LOSS, SPEED, Claim, claims_for
from minidl.study.contestants import Recipe
from minidl.study.made import differing
from minidl.study.provenance import provenance
from minidl.study.regimes import Regime, slug
from minidl.study.results import write_tables
from minidl.study.statistics import BETTER, EQUIVALENT, WORSE
from minidl.study.study import Plan
from minidl.study.tuning import edges
from minidl.study.words import answer, details

TITLE = "When should training leave Adam, and what does it buy?"
ROWS = ("adam", "adam-cut", "hybrid", "hybrid-cosine", "adam-cosine", "adam-ema", "sgd", "sgd-cosine")  # first table
LABELS = {  # of the differences' axes, times 100
    ACCURACY: "points of test accuracy, better to the right",
    SPEED: "% of the run, faster to the right",
    GAP: "100 log of the loss, lower to the right",
    LOSS: "100 log of the loss, lower to the right",
}


def write_report(plan: Plan, folder: Path, blocks: list[Block] | None = None) -> list[Path]:
    """Write report.html, table.md, results.csv, times.csv and figures/ from the runs that are done.

    blocks  analyse(plan), if it is already known

    Raises ValueError unless all rows were made by the same code, with the same versions and pins.
    """
    check_unmixed(plan)
    folder.mkdir(parents=True, exist_ok=True)
    write_tables(plan, folder)
    blocks, keys = blocks or analyse(plan), [c.key for c in plan.study.contestants]
    (folder / "figures").mkdir(exist_ok=True)
    pictures = {name: _save(figure, folder / "figures" / name) for name, figure in _pictures(plan, blocks).items()}
    html = (
        _environment()
        .get_template("report.html.j2")
        .render(
            title=TITLE,
            plan=plan,
            study=plan.study,
            blocks=blocks,
            done=[block for block in blocks if block.entries],
            answer=answer(blocks, keys),
            details=details(blocks),
            claims=claims_for(plan.study.contestants),
            rows=table_rows(blocks),
            pictures=pictures,
            provenance=provenance(plan),
            crashed=plan.crashed(),
        )
    )
    write_text(folder / "report.html", html)
    write_text(folder / "table.md", markdown(blocks, keys))
    return [folder / name for name in ("report.html", "results.csv", "table.md")]


def check_unmixed(plan: Plan) -> None:
    """Raise ValueError if two rows differ in code, versions or pins."""
    records = [record for _, run in plan.wanted() if (record := plan.store.get(run))]
    for record in records[1:]:
        if others := differing(record["made"], records[0]["made"]):
            raise ValueError(
                f"the rows in {plan.store.folder} can't be in one report: they differ in {'; '.join(others)}. "
                "Move the runs of one of the two out of its folder runs/"
            )


# ---- figures ------------------------------------------------------------------------------------------------------


def _pictures(plan: Plan, blocks: Sequence[Block]) -> dict[str, Figure]:
    pictures = {}
    for i, claim in enumerate(claims_for(plan.study.contestants)):
        verdicts = [v for block in blocks for v in block.verdicts if v.claim == claim and block.counted]
        if verdicts:
            pictures[f"claim-{i + 1}"] = figures.differences(verdicts, LABELS[claim.measure])
    for block in blocks:
        name = slug(block.regime.name)
        pictures |= {f"{name}-map-{kind}": figures.heat_map(block, kind) for kind in figures.maps_of(block)}
        if figures.entries_of(block, ROWS):
            pictures[f"{name}-budget"] = figures.budgets(block, ROWS)
        for panel, keys in figures.PANELS.items():
            if any(key in block.entries for key in keys) and figures.learners(block, keys):
                pictures[f"{name}-curves-{slug(panel)}"] = figures.curves(block, keys)
    return pictures


def _save(figure: Figure, path: Path) -> Markup:
    """Write the figure as SVG and PNG; returns the SVG to inline in a page, in the page's text colour."""
    svg = io.BytesIO()
    with rc_context({**figures.STYLE, "svg.hashsalt": path.name}):  # the same figure gives the same file
        figure.savefig(svg, format="svg", metadata={"Date": None})
        figure.set_layout_engine("none")  # it has been laid out
        with atomic_file(path.with_suffix(".png")) as file:
            figure.savefig(file, format="png", facecolor="white")
    text = svg.getvalue().decode()
    write_text(path.with_suffix(".svg"), text)
    text = text[text.index("<svg") :].replace(figures.INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # The ids in a figure must not clash with those of another figure in the same page.
    text = re.sub(r'(id="|#|url\(#)(?=[A-Za-z_])(?![0-9a-f]{6}\b)', rf"\g<1>{path.name}-", text)
    return Markup(text)


# ---- what the template shows --------------------------------------------------------------------------------------


def table_rows(blocks: Sequence[Block]) -> list[tuple[str, list[str]]]:
    """The first table: a row for each of the main contestants and of the user's own, a cell for each regime."""
    done = [block for block in blocks if block.entries]
    own = [k for block in done for k, entry in block.entries.items() if entry.contestant.block == "own"]
    rows = []
    for key in dict.fromkeys((*ROWS, *own)):
        entries = [block.entries.get(key) for block in done]
        name = next((entry.contestant.name for entry in entries if entry), None)
        if name is not None:
            rows.append((name, [accuracy(entry) if entry else "" for entry in entries]))
    return rows


def accuracy(entry: Entry) -> str:
    """Trimmed mean of the test accuracy in per cent, how many runs collapsed, and of how many seeds, if not all."""
    notes = [f"{entry.collapsed} collapsed"] if entry.collapsed else []
    notes += [f"{len(entry.finals)} of {entry.seeds} seeds"] if len(entry.finals) < entry.seeds else []
    text = f"{100 * entry.middle('test_accuracy'):.2f}"
    return f"{text} ({', '.join(notes)})" if notes else text


def spread(entry: Entry) -> str:
    """Lowest and highest test accuracy of the final runs, in per cent."""
    values = [100 * result["test_accuracy"] for result in entry.results()]
    return f"{min(values):.2f} to {max(values):.2f}"


def setting(recipe: Recipe) -> str:
    """The tuned part of a recipe."""
    names = {
        "lr": "learning rate", "lr_sgd": "SGD's learning rate", "lr_after": "Adam's learning rate",
        "momentum": "momentum", "factor": "factor", "decay": "average's decay", "rtol": "tolerance", "at": "after",
    }  # fmt: skip
    shown = [
        (names.get(k, k), f"{100 * v:.3g} %" if k == "at" else f"{v:g}")
        for k, v in recipe.items()
        if k in names or isinstance(v, float)
    ]
    return ", ".join(f"{name} {value}" for name, value in shown)


def best_setting(entry: Entry) -> str:
    """The setting that won the tuning."""
    return setting(entry.contestant.recipe(entry.tuned.winner))


def at_edges(entry: Entry) -> str:
    """The axes on which the winner lies in the outer tenth of its range."""
    return ", ".join(edges(entry.contestant.axes, entry.tuned.winner))


def switches(entry: Entry) -> str:
    """How many final runs switched, and the median step and learning rate."""
    events = [result["switch"] for result in entry.results() if result["switch"]]
    if not events:
        return ""
    step, rate = median(e["step"] for e in events), median(e["lr"] for e in events)
    return f"{len(events)} of {len(entry.finals)}, step {step:g}, learning rate {rate:.3g}"


def automatic(block: Block) -> str:
    """What the automatic conditions chose, for comparison with the maps."""
    found = [(k, block.entries[k]) for k in figures.AUTOMATIC if k in block.entries]
    said = []
    for key, entry in found:
        events = [r["switch"] for r in entry.results() if r["switch"]]
        if events:
            at = 100 * median(e["step"] for e in events) / block.regime.steps
            rate, share = median(e["lr"] for e in events), f"{len(events)} of {len(entry.finals)} runs"
            said.append(f"{key} at {at:.0f} % with learning rate {rate:.2g} ({share})")
        else:
            said.append(f"{key} never")
    return "; ".join(said)


def network(regime: Regime) -> str:
    """The network in words."""
    if regime.network is not None:
        return regime.network.rpartition(":")[2]
    parts = [f"convolutions with {' and '.join(map(str, regime.filters))} filters"] if regime.filters else []
    parts += [f"hidden layers with {' and '.join(map(str, regime.hidden))} units"] if regime.hidden else []
    return ", ".join(parts)


def shown(verdict: Verdict) -> str:
    """The difference with its interval, times 100."""
    x = verdict.interval
    if not math.isfinite(x.estimate):
        return "too few runs reach the level"
    if math.isinf(x.low):
        return f"{100 * x.estimate:+.2f} (no interval from {x.n} seeds)"
    return f"{100 * x.estimate:+.2f} ({100 * x.low:+.2f} to {100 * x.high:+.2f})"


def word_class(word: str) -> str:
    """The CSS class of a verdict."""
    return {BETTER: "more", WORSE: "less", EQUIVALENT: "same"}.get(word, "note")


def title_of(claim: Claim) -> str:
    """A claim with its measure."""
    what = {
        ACCURACY: "test accuracy",
        SPEED: "steps to the level",
        GAP: "validation loss at equal training loss",
        LOSS: "test loss",
    }
    return f"{claim.text[0].upper()}{claim.text[1:]}: {what[claim.measure]}"


def _environment() -> jinja2.Environment:
    env = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for function in (
        accuracy, at_edges, automatic, best_setting, network, setting, shown, slug, spread, switches, title_of,
        tuned_again, word_class,
    ):  # fmt: skip
        env.filters[function.__name__] = function
    return env


# ---- Markdown -----------------------------------------------------------------------------------------------------


def markdown(blocks: Sequence[Block], keys: Collection[str]) -> str:
    """The answer, the first table, and which regimes are not what they claim."""
    done = [block for block in blocks if block.entries]
    seeds = max((entry.seeds for block in done for entry in block.entries.values()), default=0)
    if not done:
        return " ".join(answer(blocks, keys)) + "\n"
    lines = [
        " ".join(answer(blocks, keys)),
        "",
        details(blocks),
        "",
        f"Test accuracy in %, trimmed mean of {seeds} seeds:",
        "",
    ]
    lines += ["| | " + " | ".join(_in_cell(block.regime.name) for block in done) + " |", "|---" * (len(done) + 1) + "|"]
    lines += [f"| {_in_cell(name)} | " + " | ".join(cells) + " |" for name, cells in table_rows(blocks)]
    lines += [""] + [f"{b.regime.name} is excluded from the answer: {'; '.join(b.misses)}." for b in done if b.misses]
    return "\n".join(lines).rstrip() + "\n"


def _in_cell(name: str) -> str:
    """A user's name for something, with bars escaped: they would end the cell."""
    return name.replace("|", "\\|")
