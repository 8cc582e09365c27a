"""What was found of toolchains, as values, and its form in a start frame. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox import frames

Kind = Literal["python", "node", "rust", "go", "java"]

TITLES: Final[dict[Kind, str]] = {"python": "Python", "node": "node", "rust": "Rust", "go": "Go", "java": "Java"}

MAX_PARTS: Final = 96
"""Mounts of one run. A toolchain has three to eight, a program one."""
MAX_SENTENCES: Final = 12
"""What is said of what is not seen."""
MAX_NAMED: Final = 160
"""Characters of a path in a sentence: its end."""


@dataclass(frozen=True, slots=True)
class Part:
    """A folder or file that a run sees read-only: `path` is real, `at` is where the project looks for it."""

    path: Path
    at: Path


@dataclass(frozen=True, slots=True)
class Toolchain:
    """One toolchain as a run sees it. `label` is for people: "Python 3.12.7 (uv)".

    `programs`: folders for PATH. `variables`: what its programs need to know.
    """

    label: str
    parts: tuple[Part, ...] = ()
    programs: tuple[Path, ...] = ()
    variables: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Found:
    """The toolchains of one run, and a sentence for each that was asked for and is not seen."""

    toolchains: tuple[Toolchain, ...] = ()
    not_seen: tuple[str, ...] = ()

    def labels(self) -> list[str]:
        """What is seen, for people and for the agent."""
        return [each.label for each in self.toolchains]

    def parts(self) -> tuple[Part, ...]:
        """Every part once."""
        return tuple(dict.fromkeys(part for each in self.toolchains for part in each.parts))

    def frame(self) -> frames.Toolchains:
        """What dp-agent is told. Of two that set the same variable the first counts."""
        variables: dict[str, str] = {}
        for each in self.toolchains:
            for name, value in each.variables:
                variables.setdefault(name, value)
        programs = dict.fromkeys(str(folder) for each in self.toolchains for folder in each.programs)
        return frames.Toolchains(
            mounts=[frames.ToolchainMount(path=str(part.path), at=str(part.at)) for part in self.parts()],
            programs=list(programs),
            variables=variables,
            labels=self.labels(),
        )


def bounded(found: Iterable[Toolchain], not_seen: Iterable[str]) -> Found:
    """Return what was found, each once, as far as one run can have it."""
    kept: dict[str, Toolchain] = {}
    sentences = list(dict.fromkeys(not_seen))
    for each in found:
        both = _joined(kept[each.label], each) if each.label in kept else each
        others = (one for label, one in kept.items() if label != each.label)
        if len({part for one in (both, *others) for part in one.parts}) > MAX_PARTS:
            sentences.append(
                f"{each.label} is not visible to a run: it sees at most {MAX_PARTS} folders and programs of toolchains"
            )
        else:
            kept[each.label] = both
    return Found(tuple(kept.values()), tuple(sentences[:MAX_SENTENCES]))


def _joined(one: Toolchain, other: Toolchain) -> Toolchain:
    return Toolchain(
        one.label,
        tuple(dict.fromkeys((*one.parts, *other.parts))),
        tuple(dict.fromkeys((*one.programs, *other.programs))),
        tuple(dict.fromkeys((*one.variables, *other.variables))),
    )


def shown(path: Path | str) -> str:
    """A path in a sentence for people."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(path))
    return text if len(text) <= MAX_NAMED else f"…{text[-MAX_NAMED:]}"
