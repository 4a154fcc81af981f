"""What the page shows of a hybrid's switch: the state of its condition at each recorded step, and gamma and Lambda."""

from __future__ import annotations

from typing import Any

import numpy as np

from minidl.optim import SWATS, Condition, Hybrid, Optimizer, Projected
from minidl.optim.projection import Projection
from minidl.optim.switch_state import singles, standings, state


def note_of(optimizer: Optimizer, step: int) -> dict[str, Any] | None:
    """The present state of the switch's condition, in words and numbers; None for an optimizer that has none."""
    if not isinstance(optimizer, (Hybrid, SWATS)):
        return None
    now = [vars(one) for one in standings(optimizer.switch, optimizer.progress)]
    return {"step": step, "words": state(optimizer.switch, optimizer.progress), "standings": now}


def switch_of(optimizer: Optimizer) -> dict[str, Any] | None:
    """The switch of a hybrid: its conditions, what happened, and gamma and Lambda of each step where it has them."""
    if not isinstance(optimizer, (Hybrid, SWATS)):
        return None
    event, projection = optimizer.switch_event, optimizer.projection
    now = standings(optimizer.switch, optimizer.progress)
    return {
        "condition": str(optimizer.switch),
        "conditions": [{"condition": s.condition, "metric": s.metric} for s in now],
        "event": event and event._asdict(),
        "verdict": optimizer.verdict(),
        "projection": projection and rates_of(projection, optimizer.switch),
    }


def rates_of(projection: Projection, switch: Condition) -> dict[str, Any]:
    """gamma and Lambda of each step and, if a condition is on them, what it compares and within what tolerance."""
    gammas, lambdas = np.array(projection.gammas), np.array(projection.lambdas)
    rates: dict[str, Any] = {"gamma": gammas, "lambda": lambdas, "compared": None, "tolerance": None}
    for condition in (one for one in singles(switch) if isinstance(one, Projected)):
        if condition.rtol is not None:
            rates["tolerance"] = condition.rtol * np.abs(lambdas)
        elif condition.eps is not None and rates["tolerance"] is None:
            rates["tolerance"] = np.full_like(lambdas, condition.eps)
        if 1 < condition.window <= len(gammas):
            means = np.convolve(gammas, np.full(condition.window, 1 / condition.window), "valid")
            rates["compared"] = np.concatenate([np.full(condition.window - 1, np.nan), means])
    return rates
