"""How measurements are printed: one table a benchmark, each line with its baseline, ratio and goal."""

from __future__ import annotations

import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One measured thing. `value` is as text with its unit; `ratio` is against what `against` names."""

    what: str
    value: str
    ratio: float | None = None
    against: str = ""
    goal: str = ""
    met: bool | None = None


class Missing(Exception):
    """Something to compare with cannot be had here; says why."""


def show(title: str, lines: Sequence[Line]) -> None:
    """Print the table, and how busy the machine was: on a shared one, only ratios of one run mean much."""
    print(f"\n{title}")
    width = max(len(line.what) for line in lines)
    for line in lines:
        ratio = "" if line.ratio is None else f"{line.ratio:.2f}x {line.against}"
        verdict = "" if line.met is None else ("met" if line.met else "MISSED")
        goal = f"goal {line.goal}: {verdict}" if line.goal else ""
        print(f"  {line.what:{width}}  {line.value:>24}  {ratio:28}  {goal}".rstrip())
    one, five, _ = os.getloadavg()
    print(f"  ({os.cpu_count()} processors; load {one:.1f} over one minute, {five:.1f} over five)", flush=True)


def p50(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    return sorted(values)[int(len(values) * 0.95)]


def ms(seconds: Sequence[float]) -> str:
    """Say durations, in seconds, as their median and 95th percentile in milliseconds."""
    return f"p50 {p50(seconds) * 1e3:.2f} p95 {p95(seconds) * 1e3:.2f} ms"
