"""Which networks of tests/field.py a benchmark trains, at which batch sizes, and its summary of all of them."""

from __future__ import annotations

import argparse
import statistics
from typing import NamedTuple

from tests.field import Network

OWN = "own"  # the class of the batch sizes that the networks' sources use


class Case(NamedTuple):
    """One line of the table. A network whose own batch size is 128 is measured once and belongs to both classes."""

    network: Network
    batch: int
    classes: list[str]


def batch_size(text: str) -> str:
    """For argparse."""
    if text != OWN and (not text.isdecimal() or int(text) < 1):
        raise argparse.ArgumentTypeError(f"'{OWN}' or a number, not {text!r}")
    return text


def cases(networks: list[Network], batches: list[str]) -> list[Case]:
    found = []
    for network in networks:
        classes: dict[int, list[str]] = {}
        for batch in batches:
            classes.setdefault(network.batch if batch == OWN else int(batch), []).append(batch)
        found += [Case(network, batch, names) for batch, names in classes.items()]
    return found


def median_and_range(values: list[float]) -> str:
    return f"{statistics.median(values):6.2f} ({min(values):.2f} to {max(values):.2f})"


def means(results: list[tuple[Case, dict[str, list[float]]]]) -> list[str]:
    """For each class of batch sizes and each ratio (name -> by round): the geometric mean, and the lowest network."""
    found: dict[tuple[str, str], dict[str, float]] = {}
    for case, ratios in results:
        for ratio, values in ratios.items():
            for name in case.classes:
                found.setdefault((name, ratio), {})[case.network.name] = statistics.median(values)
    lines = []
    for (name, ratio), of in sorted(found.items()):
        least = min(of, key=lambda network: of[network])
        mean = statistics.geometric_mean(of.values())
        below = sum(value < 1 for value in of.values())
        lines.append(
            f"batch {name + ',':6}{ratio + ':':26}geometric mean {mean:.2f} of {len(of)} networks, "
            f"{below} below 1, least {of[least]:.2f} ({least})"
        )
    return lines
