"""One sentence on the switch: what verdict() of Hybrid and SWATS returns."""

from __future__ import annotations

from minidl.optim.optimizer import SwitchEvent
from minidl.optim.progress import Progress
from minidl.optim.projection import Projection
from minidl.telling import counted


def verdict_of(
    event: SwitchEvent | None, phase: str, progress: Progress, condition: str, projection: Projection | None
) -> str:
    """Whether and when it switched, at what rate and why; or how close it came. phase, condition: in words."""
    if event is not None:
        when = f"after step {event.step:,} ({counted(event.epoch, 'epoch')} finished)"
        return f"switched to {phase} {when}, rate {event.lr:.4g}: {event.condition}"
    sentence = f"never switched: {condition} was not met in {progress.step:,} steps, {counted(progress.epoch, 'epoch')}"
    closest = projection.closest() if projection else None
    if closest is None:
        return sentence
    step, distance = closest
    return f"{sentence}; gamma came nearest to Lambda at step {step:,}, relative distance {distance:.2g}"
