"""`make mutants`: one guard after the other is changed, and each time a test of the room has to fail.

mutmut makes the mutants, finds which tests call a changed function, and runs them in a fork for each; its results are
kept in mutants/, so that a run that was stopped goes on where it was. Which modules and which tests: pyproject.toml.
Names of modules as arguments (`peer.trust`, `peer.steps.inbound`) choose a part; `report` before them shows what is
known.
"""

from __future__ import annotations

import fnmatch
import re
import shutil
import sys
from pathlib import Path
from typing import Final

import hypothesis
from mutmut import __main__ as mutmut
from mutmut import configuration
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

from tests.mutants.operators import OPERATORS, Visitor

WORK: Final = Path("mutants")
WORKERS: Final = 2
DETECTED: Final = ("killed", "timeout", "segfault", "suspicious")


def refresh() -> None:
    """Remove what earlier runs copied but the tree does not have any more; results stay."""
    for path in (WORK / copied for copied in configuration.config().also_copy):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def results() -> dict[str, SourceFileMutationData]:
    """Return what is known of each mutated module, by its path."""
    found = {}
    for path in mutmut.walk_mutatable_files():
        data = SourceFileMutationData(path=path)
        data.load()
        if data.exit_code_by_key:
            found[str(path)] = data
    return found


def open_mutants(patterns: list[str]) -> list[str]:
    """Return the mutants that no test has detected yet, of the modules that are meant."""
    return [
        name
        for data in results().values()
        for name, code in data.exit_code_by_key.items()
        if status_by_exit_code[code] not in DETECTED and meant(name, patterns)
    ]


def meant(mutant: str, patterns: list[str]) -> bool:
    return not patterns or any(fnmatch.fnmatch(mutant, f"{pattern}.*") for pattern in patterns)


def report(patterns: list[str]) -> None:
    """Print every mutant that survived, as the lines it changed, and the score of each module."""
    lines = []
    for path, data in results().items():
        mutants = {name: status_by_exit_code[code] for name, code in data.exit_code_by_key.items()}
        mutants = {name: status for name, status in mutants.items() if meant(name, patterns)}
        if not mutants:
            continue
        undetected = {name: status for name, status in mutants.items() if status not in DETECTED}
        for name, status in undetected.items():
            print(f"\n{name}: {status}")
            for line in get_diff_for_mutant(name, path=path).splitlines():
                if re.match(r"[-+](?![-+])|@@", line):
                    print(f"    {line}")
        killed = len(mutants) - len(undetected)
        lines.append(f"{path:40} {len(mutants):5} {killed:5} {len(undetected):5} {killed / len(mutants):7.1%}")
    print(f"\n{'module':40} {'all':>5} {'killed':>5} {'left':>5} {'score':>7}")
    print("\n".join(lines))


def main(arguments: list[str]) -> None:
    file_mutation.mutation_operators = OPERATORS
    file_mutation.MutationVisitor = Visitor
    hypothesis.settings.register_profile(
        "mutants", deadline=None, max_examples=25, derandomize=True, database=None, print_blob=False
    )
    patterns = [argument.strip("/").removesuffix(".py").replace("/", ".") for argument in arguments]
    if patterns[:1] == ["report"]:
        report(patterns[1:])
        return
    refresh()
    if not patterns and not results():
        mutmut._run((), WORKERS)
    else:
        again = open_mutants(patterns)
        mutmut._run(tuple(again) or tuple(f"{pattern}.*" for pattern in patterns), WORKERS)
    report(patterns)


if __name__ == "__main__":
    main(sys.argv[1:])
