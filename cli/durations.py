"""Lengths of time on the command line: a number of the option's own unit, or with a unit: 90s, 30m, 1h, 2d."""

from __future__ import annotations

import re
from typing import Final

import click

UNITS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_FORM: Final = re.compile(r"([0-9]{1,9})\s?([smhd]?)", re.ASCII | re.IGNORECASE)


class Duration(click.ParamType[int]):
    """Whole seconds, or whole minutes with `unit="m"`, from `least` to `most` of that unit."""

    name = "duration"

    def __init__(self, least: int, most: int, *, unit: str = "s") -> None:
        self.least, self.most, self.unit = least, most, unit

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _FORM.fullmatch(str(value).strip())
        if found:
            seconds = int(found[1]) * UNITS[found[2].lower() or self.unit]
            count, rest = divmod(seconds, UNITS[self.unit])
            if not rest and self.least <= count <= self.most:
                return count
        words = {"s": "seconds", "m": "minutes"}[self.unit]
        wrong = f"{value!r} is not {self.least} to {self.most} {words}, which may also be written as 30m, 1h or 1d"
        raise click.BadParameter(wrong, ctx, param)
