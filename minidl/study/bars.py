"""Progress bars of a running study: one per regime and one for all, with the time left."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType

from tqdm import tqdm

from minidl.study.study import Plan
from minidl.telling import is_terminal

PLAIN_EVERY = 30.0  # seconds between two lines if the output is not a terminal


class Bars:
    """Live bars on a terminal; elsewhere, such as in a log, a line now and then.

    A bar per regime: its runs, and how many contestants have finished their tuning. The time left is estimated for
    each regime from the time of its runs so far, including earlier invocations, because costs differ widely.
    """

    def __init__(self, plan: Plan, workers: int) -> None:
        self.plan, self.workers = plan, workers
        self.regimes = plan.study.regimes
        self.crashed = 0
        self.last_line = time.monotonic()
        self.terminal = is_terminal(sys.stderr)
        self.bars = [self._bar(i, r.name, plan.study.runs_of(r)) for i, r in enumerate(self.regimes)]
        self.total = self._bar(len(self.bars), "all", sum(plan.study.runs_of(r) for r in self.regimes))
        self.next_round()

    def _bar(self, position: int, name: str, total: int) -> tqdm[None]:
        return tqdm(
            total=total,
            desc=f"{name:>16}",
            position=position,
            disable=not self.terminal,
            bar_format="{desc} |{bar:24}| {n_fmt}/{total_fmt} runs{postfix}",
            dynamic_ncols=True,
        )

    def __enter__(self) -> Bars:
        self._show()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        for bar in (*self.bars, self.total):
            bar.close()

    def next_round(self) -> None:
        """More runs have become known. A run that two contestants share counts for both."""
        self.regime_of: dict[str, str] = {}
        self.done, self.seconds = Counter[str](), dict.fromkeys((regime.name for regime in self.regimes), 0.0)
        for regime, run in self.plan.wanted():
            self.regime_of[run.key] = regime.name
            record = self.plan.store.get(run)
            if record is not None:
                self._count(regime.name, record["times"]["seconds"])
        for bar, regime in zip(self.bars, self.regimes, strict=True):
            tuned = [self.plan.tuned(regime, contestant) for contestant in self.plan.study.taking_part(regime)]
            bar.set_postfix_str(f"{sum(t.finished for t in tuned)} of {len(tuned)} tuned", refresh=False)

    def run_done(self, key: str, seconds: float) -> None:
        self._count(self.regime_of[key], seconds)
        self._show()

    def _count(self, regime: str, seconds: float) -> None:
        self.done[regime] += 1
        self.seconds[regime] += seconds

    def run_crashed(self) -> None:
        self.crashed += 1
        self._show()

    def seconds_left(self) -> float | None:
        """An estimate; None while no run is done."""
        if not self.done.total():
            return None
        mean, left = sum(self.seconds.values()) / self.done.total(), 0.0
        for regime in self.regimes:
            done = self.done[regime.name]
            each = self.seconds[regime.name] / done if done else mean
            left += each * max(0, self.plan.study.runs_of(regime) - done)
        return left / self.workers

    def _show(self) -> None:
        left = self.seconds_left()
        note = "time left: ..." if left is None else f"time left: {clock(left)}"
        note += f", {self.crashed} crashed" if self.crashed else ""
        if self.terminal:
            for bar, regime in zip(self.bars, self.regimes, strict=True):
                bar.n = self.done[regime.name]
                bar.refresh()
            self.total.n = self.done.total()
            self.total.set_postfix_str(note)
        elif time.monotonic() - self.last_line >= PLAIN_EVERY:
            self.last_line = time.monotonic()
            print(f"{self.done.total():,} of {self.total.total:,} runs done, {note}", file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    """Minutes and seconds, or hours and minutes."""
    minutes, s = divmod(round(seconds), 60)
    return f"{minutes} min {s:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
