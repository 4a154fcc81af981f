"""The text form of switch conditions, as `--switch` takes them: `plateau:patience=2 | (gap:0.02 & epoch:2)`.

Three functions mirror the grammar: _either reads conditions joined with |, _both those joined with &, which binds
tighter, and _single a condition or a parenthesized group. str(condition) gives this form.
"""

from __future__ import annotations

from typing import Any

from minidl.optim.grammar import GrammarError, Reader, number, unknown, whole
from minidl.optim.switch import AfterEpochs, AfterSteps, AllOf, AnyOf, Condition, Crossing, Gap, Plateau, Projected

METRICS = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")  # what a Trainer reports after each epoch


class SwitchError(GrammarError):
    """A `--switch` text that can't be parsed."""


def _metric(text: str) -> str:
    if text not in METRICS:
        raise ValueError(unknown("metric", text, METRICS))
    return text


_FORMS: dict[str, tuple[type[Condition], dict[str, Any], str | None, str]] = {
    # name: (condition, its arguments, the one that needs no key, an example)
    "step": (AfterSteps, {"n": whole}, "n", "step:1000"),
    "epoch": (AfterEpochs, {"n": whole}, "n", "epoch:3"),
    "plateau": (Plateau, {"metric": _metric, "patience": whole, "min_delta": number}, None, "plateau:patience=2"),
    "crossing": (Crossing, dict.fromkeys(METRICS, number), None, "crossing:val_accuracy=0.97"),
    "gap": (Gap, {"level": number}, "level", "gap:0.02"),
    "swats": (Projected, {"eps": number, "rtol": number, "window": whole}, None, "swats:rtol=0.001"),
}
_EXPECTED = "a condition, such as " + ", ".join(form[-1] for form in _FORMS.values())


def parse_switch(text: str) -> Condition:
    """The condition that the text describes: `plateau:patience=2 | epoch:10`, `(gap:0.02 | step:900) & epoch:2`.

    & binds tighter than |. Raises SwitchError, which shows the position and what was expected there.
    """
    reader = Reader(text, SwitchError)
    if text.count("(") > 50:
        reader.fail(0, f"{text.count('(')} parentheses are too many: at most 50")
    condition = _either(reader)
    if reader.at < len(text):
        reader.fail(reader.at, "expected | or & or the end")
    return condition


def _either(reader: Reader) -> Condition:
    parts = [_both(reader)]
    while reader.take("|"):
        parts.append(_both(reader))
    return AnyOf(tuple(parts)) if len(parts) > 1 else parts[0]


def _both(reader: Reader) -> Condition:
    parts = [_single(reader)]
    while reader.take("&"):
        parts.append(_single(reader))
    return AllOf(tuple(parts)) if len(parts) > 1 else parts[0]


def _single(reader: Reader) -> Condition:
    if reader.take("("):
        inner = _either(reader)
        if not reader.take(")"):
            reader.fail(reader.at, "expected ) or | or &")
        return inner
    call = reader.call(_EXPECTED)
    make, keys, bare, example = _FORMS[reader.choose(call.name, _FORMS, "condition")]
    values = reader.values(call, keys, bare)
    if make is Crossing:
        if len(values) != 1:
            reader.fail(call.name.at, f"'crossing' takes one metric and its level: {example}")
        ((metric, level),) = values.items()
        values = {"metric": metric, "level": level}
    elif bare and bare not in values:
        reader.fail(call.name.at, f"'{call.name.text}' needs a number: {example}")
    condition: Condition = reader.build(call, make, values)
    return condition
