"""The report of a run on one page: how training went, and the network's mistakes."""

from __future__ import annotations

from typing import Any

from minidl.pages.facts import Facts, Mistake, Validation
from minidl.pages.html import Cell, Html, facts, figure, figures, image, isolated, note, page, section, table
from minidl.pages.png import grey, signed, uri
from minidl.pages.svg import Mark, Polyline, chart
from minidl.telling import counted
from minidl.training.own_file import of_file

SETTINGS = ("lr", "momentum", "weight_decay", "betas", "schedule", "clip_norm", "switch", "lr_sgd", "lr_after",
            "schedule_sgd", "batch_size", "seed")  # fmt: skip


def report_page(run: Facts) -> str:
    """The page, as HTML."""
    parts = [section("The run", facts(_rows(run)), *(note(f"Note: {each}.") for each in run.notes))]
    if run.metrics:
        parts.append(_curves(run))
    if run.validation is None:
        parts.append(section("Mistakes", note(run.unseen)))
    else:
        parts += [_mistakes(run, run.validation), _confusion(run, run.validation), _classes(run, run.validation)]
    return page("report", run.title, _lead(run), [*parts, _weights(run)])


def percent(share: float | None) -> str:
    """92.50 %."""
    return "" if share is None else f"{100 * share:.2f} %"


def times(n: int) -> str:
    """A count in words."""
    return {1: "once", 2: "twice"}.get(n, f"{n:,} times")


def _lead(run: Facts) -> str:
    """The result, in a sentence."""
    if not run.metrics:
        return "No epoch is done yet."
    last, n = run.metrics[-1], len(run.metrics)
    done = run.summary or last  # the summary is of the final network, the record of each batch before its step
    which = "training accuracy" if run.summary else "training accuracy during the last epoch"
    words = f"After {counted(n, 'epoch')}: {which} {percent(done['train_accuracy'])}"
    if done["val_accuracy"] is not None:
        words += f", validation accuracy {percent(done['val_accuracy'])}"
    if run.summary:
        words += f", test accuracy {percent(run.summary['test_accuracy'])}"
    return words + "."


def switch_words(switch: dict[str, Any] | None, phases: list[str]) -> str:
    """When the optimizer switched, and by which condition."""
    if switch is None:
        return "none" if len(phases) < 2 else " to ".join(phases)
    to = f" to {phases[-1]}" if len(phases) > 1 else ""
    condition = f", by {switch['condition']}" if switch.get("condition") else ""
    return f"after step {switch['step']:,}{to}, learning rate {switch['lr']:.4g}{condition}"


def settings_words(config: dict[str, Any]) -> str:
    """The optimizer's settings that are in use."""
    given = {name: config.get(name) for name in SETTINGS if config.get(name) not in (None, "", "constant")}
    return ", ".join(f"{name.replace('_', '-')} {value_words(value)}" for name, value in given.items())


def value_words(value: Any) -> str:
    """A setting in words; "" for None."""
    if value is None:
        return ""
    if isinstance(value, dict):  # a schedule
        given = [*value["how"], *(f"{name}={value_words(each)}" for name, each in value["named"].items())]
        return f"{value['schedule']}({value_words(given)})"
    if isinstance(value, (list, tuple)):
        return ",".join(map(value_words, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _rows(run: Facts) -> dict[str, object]:
    rows: dict[str, object] = {
        "data": run.data,
        "pixels": run.pixels,
        "network": f"{of_file(run.config['model'])}, {run.parameters:,} weights",
        "optimizer": f"{of_file(run.config['opt'])}: {settings_words(run.config)}",
        "switch": switch_words(run.switch, run.phases),
    }
    if run.summary:
        s = run.summary
        rows["accuracy"] = (
            f"training {percent(s['train_accuracy'])}, validation "
            f"{'none' if s['val_accuracy'] is None else percent(s['val_accuracy'])}, test {percent(s['test_accuracy'])}"
        )
        rows["time"] = f"{s['seconds']:.1f} s, {s['samples_per_second']:,.0f} images per second on {s['device']}"
    return rows


# ---- how training went ----


def switch_mark(metrics: list[dict[str, Any]], switch: dict[str, Any] | None, look: str = "switch") -> list[Mark]:
    """The position of the switch, in epochs."""
    if switch is None or not metrics:
        return []
    steps_per_epoch = metrics[-1]["step"] / metrics[-1]["epoch"]
    return [Mark(switch["step"] / steps_per_epoch, f"switch after step {switch['step']:,}", look)]


def points(metrics: list[dict[str, Any]], name: str) -> list[tuple[float, float]]:
    """One quantity over the epochs; epochs without it are skipped."""
    return [(record["epoch"], record[name]) for record in metrics if record[name] is not None]


def _curves(run: Facts) -> Html:
    marks = switch_mark(run.metrics, run.switch)
    legend = {"training": "run-0", "validation": "run-1"} | ({"switch": "switch dashed"} if marks else {})
    if run.validation is None:
        del legend["validation"]
    drawn = []
    for quantity in ("loss", "accuracy"):
        lines = [
            Polyline("training", points(run.metrics, f"train_{quantity}"), "run-0"),
            Polyline("validation", points(run.metrics, f"val_{quantity}"), "run-1"),
        ]
        drawn.append(figure(chart(lines, f"{quantity} by epoch", marks), quantity, legend))
    rate = chart([Polyline("learning rate", points(run.metrics, "lr"), "run-2")], "learning rate by epoch", marks)
    drawn.append(figure(rate, "learning rate at the end of each epoch", {"learning rate": "run-2"}))
    told = (
        "The training curves average over the epoch, each batch measured just before its update; validation is "
        "measured at the end of the epoch."
    )
    told += " The training accuracy above is that of the final network." if run.summary else ""
    return section("Curves", figures(*drawn), note(told))


# ---- mistakes ----


def _mistakes(run: Facts, val: Validation) -> Html:
    total, right = int(val.confusion.sum()), int(val.confusion.trace())
    words = f"{total - right:,} of {total:,} validation images are misclassified ({percent(1 - val.accuracy)})."
    if not val.worst:
        return section("Mistakes", note(words))
    names = run.class_names
    common = "; ".join(f"{isolated(names[j])} taken for {isolated(names[i])}, {times(n)}" for j, i, n in val.confused())
    gallery = Html('<div class="gallery">' + "".join(_mistake(each, names) for each in val.worst) + "</div>")
    told = (
        "The worst mistakes, where the label has the lowest probability. Above, in green: the label. Below, in red: "
        "the prediction."
    )
    return section("Mistakes", Html(f"<p>{words} Most frequent: {common}.</p>"), note(told), gallery)


def _mistake(each: Mistake, names: tuple[str, ...]) -> Html:
    label, predicted = names[each.label], names[each.predicted]
    caption = Html(
        f'<b class="true">{isolated(label)}</b> {100 * each.p_label:.1f} %<br>'
        f'<b class="false">{isolated(predicted)}</b> {100 * each.p_predicted:.1f} %'
    )
    alt = f"validation image {each.index}: {label}, taken for {predicted}"
    return image(uri(grey(each.image)), alt, caption)


def _confusion(run: Facts, val: Validation) -> Html:
    names, most = run.class_names, max(1, int((val.confusion.sum(1) - val.confusion.diagonal()).max()))
    rows = []
    for i, counts in enumerate(val.confusion):
        cells = [_count(int(n), i == j, most) for j, n in enumerate(counts)]
        rows.append([isolated(names[i]), *cells])
    told = "Rows are labels, columns predictions. The diagonal is correct."
    return section("Confusion matrix", note(told), table(["", *map(isolated, names)], rows, "confusion"))


def _count(n: int, right: bool, most: int) -> object:
    if right:
        return Cell(f"{n:,}", "right")
    return Cell(n, "wrong", f"--a:{0.15 + 0.45 * min(1.0, n / most):.2f}") if n else ""


def _classes(run: Facts, val: Validation) -> Html:
    names, rows = [*map(isolated, run.class_names)], []
    for k, share in enumerate(val.by_class):
        n = int(val.confusion[k].sum())
        if not n:
            rows.append([names[k], 0, "", "", ""])
            continue
        wrong = val.confusion[k].copy()
        wrong[k] = 0
        taken = Html(f"{names[int(wrong.argmax())]} ({int(wrong.max())})") if wrong.max() else ""
        bar = Cell(Html(f'<i style="width:{100 * (share or 0):.1f}%"></i>'), "bar")
        rows.append([names[k], f"{n:,}", percent(share), bar, Cell(taken, "word")])
    head = ["class", "images", "correct", "", "most often taken for"]
    return section("Accuracy by class", table(head, rows))


def _weights(run: Facts) -> Html:
    if run.first is None:
        return Html("")
    shown = len(run.first.pictures)
    some = f"{shown} of {run.first.units} units" if shown < run.first.units else f"its {shown} units"
    told = f"Layer {run.first.name}, {some}. Red: positive weights. Blue: negative. Each image has its own scale."
    pictures = "".join(image(uri(signed(each)), f"weights of unit {i}") for i, each in enumerate(run.first.pictures))
    return section("Weights of the first layer", note(told), Html(f'<div class="weights">{pictures}</div>'))
