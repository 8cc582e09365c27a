"""Lengths of time on the command line, within bounds. How they are written is in peer.trust.durations."""

from __future__ import annotations

import click

from peer.protocol.errors import Invalid
from peer.trust.durations import UNITS, forms, parse_duration


class Duration(click.ParamType[int]):
    """Whole seconds, or whole minutes with `unit="m"`, from `least` to `most` of that unit. Raises Invalid."""

    name = "duration"

    def __init__(self, least: int, most: int, *, unit: str = "s") -> None:
        self.least, self.most, self.unit = least, most, unit

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        seconds = parse_duration(str(value), plain=self.unit)
        count, rest = divmod(seconds or 0, UNITS[self.unit])
        if seconds is not None and not rest and self.least <= count <= self.most:
            return count
        words = {"s": "seconds", "m": "minutes"}[self.unit]
        wrong = "is not a length of time" if seconds is None else f"is not {self.least} to {self.most} {words}"
        before = f"{param.opts[-1]}: " if param else ""
        see = f"; see `{ctx.command_path} --help`" if ctx else ""
        raise Invalid(f"{before}`{value}` {wrong}", fix=f"give {forms(self.unit)}{see}")
