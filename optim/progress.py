"""The progress of training: the record that a switch condition, or a function of your own, reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from minidl.optim.grammar import unknown


@dataclass
class Progress:
    """The progress of training. Conditions, and functions of your own, read it; they must not change it.

    step     optimizer steps taken
    epoch    epochs finished
    reports  the metrics after each of them, the latest last: {"val_loss": 0.3, ...}
    gammas   the projected rate gamma of each step (see projection.py; NaN where a step has none)
    lambdas  its bias-corrected running average Lambda; both are empty where no condition needs them
    """

    step: int = 0
    epoch: int = 0
    reports: list[dict[str, float]] = field(default_factory=list)
    gammas: Sequence[float] = ()
    lambdas: Sequence[float] = ()

    @property
    def gamma(self) -> float | None:
        """gamma of the last step."""
        return self.gammas[-1] if self.gammas else None

    @property
    def lam(self) -> float | None:
        """Lambda after the last step."""
        return self.lambdas[-1] if self.lambdas else None

    def history(self, metric: str) -> list[float]:
        """The values of a metric after each epoch; [] before the first. Raises KeyError for a metric not reported."""
        for report in self.reports:
            if metric not in report:
                known = f"optimizer.report(epoch, {metric}=...) after each epoch makes it known"
                raise KeyError(f"{unknown('metric', metric, report)}; {known}")
        return [report[metric] for report in self.reports]
