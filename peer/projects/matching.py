"""From a task and a hint to a suggestion: which project is meant, and whether that is clear enough to pin it. Pure.

The sender wrote task and hint, so they are words to look for and nothing more: no path in them is used. A *mention* is
a project's whole name standing in the text. One project is pinned only if it alone is mentioned, inside the edge's
folders, and no other project has a name so near that it may have been meant. All else is for a person to confirm.
"""

from collections.abc import Iterable, Sequence
from typing import Final

import msgspec

from peer.projects.words import COMMON, near, words, written_names
from peer.trust.scopes import within

MAX_CANDIDATES: Final = 5
_MAX_TASK: Final = 20_000  # characters looked at: who is meant is said early, and a task may have 100,000
_MAX_HINT: Final = 200
_MAX_NAME_WORDS: Final = 8
_MIN_LONE_WORD: Final = 4


class Project(msgspec.Struct, frozen=True):
    """A project of the index: its folder, the name of that folder, and the name's words."""

    path: str
    name: str
    parts: tuple[str, ...]


class Hit(msgspec.Struct, frozen=True):
    """A project that the index found by its words: which of the query's were in its name, which in its description."""

    project: Project
    in_name: tuple[str, ...]
    in_about: tuple[str, ...]


class Candidate(msgspec.Struct, frozen=True):
    """A project that may be meant, and why. For the person at this machine only."""

    cwd: str
    project: str
    reason: str


class Suggestion(msgspec.Struct, frozen=True):
    """What became of the matching. Pinned: `cwd` is used. Else it is what to offer first; None when nothing stands out.

    Without candidates the run gets an empty workspace.
    """

    pinned: bool
    cwd: str | None
    project: str | None
    reason: str
    candidates: tuple[Candidate, ...]


NOTHING: Final = Suggestion(
    pinned=False,
    cwd=None,
    project=None,
    reason="no project here matches the task: the workspace is empty",
    candidates=(),
)


class Query(msgspec.Struct, frozen=True):
    """A task and its hint as words: in order for mentions, and the telling ones, each once, for the index."""

    task: tuple[str, ...]
    hint: tuple[str, ...]
    written: tuple[str, ...]
    telling: tuple[str, ...]


def query(task: str, hint: str) -> Query:
    """Read a task and a hint. Only their beginnings count: 20,000 and 200 characters."""
    task, hint = task[:_MAX_TASK], hint[:_MAX_HINT]
    in_task, in_hint = words(task), words(hint)
    telling = dict.fromkeys(word for word in (*in_hint, *in_task) if len(word) >= 3 and word not in COMMON)
    whole = "".join(in_hint)
    return Query(
        tuple(in_task),
        tuple(in_hint),
        tuple(dict.fromkeys((*((whole,) if whole else ()), *written_names(task)))),
        tuple(telling)[:64],
    )


def match(asked: Query, projects: Sequence[Project], hits: Iterable[Hit], allowed: Sequence[str]) -> Suggestion:
    """Weigh mentions, near names and the index's hits. `allowed` are the edge's folders; empty means it names none."""
    mentioned = _mentioned(asked, projects)
    alike = _near_names(asked, projects, mentioned)
    found = [_candidate(project, "its whole name is in the {}", where) for project, where in mentioned.items()]
    found += [_candidate(project, "its name is near to {}", f"“{said}”") for project, said in alike.items()]
    named = {candidate.cwd for candidate in found}
    # A long task shares some words with every README: a fifth of the telling ones is asked for, and two at least.
    enough = max(2, len(asked.telling) // 5)
    weak = [hit for hit in hits if hit.project.path not in named and (hit.in_name or len(hit.in_about) >= enough)]
    weak.sort(key=_weight, reverse=True)  # stable: the index's own ranking decides among equals
    found += [_weak(hit) for hit in weak]
    if not found:
        return NOTHING
    inside = [candidate for candidate in found if not allowed or within(candidate.cwd, allowed)]
    outside = [candidate for candidate in found if candidate not in inside]
    shown = tuple(inside[:MAX_CANDIDATES]) + tuple(
        msgspec.structs.replace(
            candidate, reason=f"{candidate.reason}, but it is outside the folders of this trust edge"
        )
        for candidate in outside[: MAX_CANDIDATES - len(inside[:MAX_CANDIDATES])]
    )
    doubt = _doubt(asked, mentioned, alike, allowed)
    if doubt is None:
        return Suggestion(True, shown[0].cwd, shown[0].project, shown[0].reason, shown)
    # Offer one first only where it stands out: alone mentioned, alone near, or alone found.
    first = inside[0] if inside and _stands_out(inside[0], mentioned, alike, weak, allowed) else None
    return Suggestion(
        False,
        first.cwd if first else None,
        first.project if first else None,
        f"{first.reason}; {doubt}" if first else doubt,
        shown,
    )


def _mentioned(asked: Query, projects: Sequence[Project]) -> dict[Project, str]:
    """The projects whose whole name stands in hint or task, and where. A longer name takes its words from shorter."""
    by_words: dict[tuple[str, ...], list[Project]] = {}
    for project in projects:
        by_words.setdefault(project.parts, []).append(project)
    by_words.pop((), None)
    found: dict[Project, str] = {}
    for where, text in (("sender's hint", asked.hint), ("task", asked.task)):
        start = 0
        while start < len(text):
            step = 1
            for length in range(min(_MAX_NAME_WORDS, len(text) - start), 0, -1):
                name = text[start : start + length]
                if name in by_words and (name == asked.hint or _tells(name, asked)):
                    for project in by_words[name]:
                        found.setdefault(project, where)
                    step = length
                    break
            start += step
    return found


def _tells(name: tuple[str, ...], asked: Query) -> bool:
    """Whether a name in prose is one: several words, or one that is not just any word."""
    if len(name) > 1:
        return not all(word in COMMON for word in name) or "".join(name) in asked.written
    return (len(name[0]) >= _MIN_LONE_WORD and name[0] not in COMMON) or name[0] in asked.written


def _near_names(asked: Query, projects: Sequence[Project], mentioned: dict[Project, str]) -> dict[Project, str]:
    """Projects that are not mentioned but nearly: near to what is written as a name, or to a mentioned project's name.

    A name that goes on where a mentioned one ends ("shop" and "shop-frontend") is near too: people shorten.
    """
    said = dict.fromkeys((*asked.written, *("".join(project.parts) for project in mentioned)))
    shortened = {project.parts for project in mentioned}
    if asked.hint:
        shortened.add(asked.hint)
    found: dict[Project, str] = {}
    for project in projects:
        if project in mentioned:
            continue
        own, parts = "".join(project.parts), project.parts
        if not own:
            continue
        close = next((name for name in said if near(name, own)), None)
        longer = next((name for name in shortened if len(parts) > len(name) and parts[: len(name)] == name), None)
        if close is not None or longer is not None:
            found[project] = close if close is not None else "-".join(longer or ())
    return found


def _doubt(
    asked: Query, mentioned: dict[Project, str], alike: dict[Project, str], allowed: Sequence[str]
) -> str | None:
    """Why nothing is pinned; None when one project clearly is meant."""
    if not mentioned:
        return "no project is named in full"
    if len(mentioned) > 1:
        return f"{len(mentioned)} projects are named"
    ((project, where),) = mentioned.items()
    if alike:
        return f"{next(iter(alike)).name} has a near name"
    if asked.hint and where != "sender's hint":
        return "the sender's hint names another"
    if not allowed:
        return "this trust edge names no folders"
    if not within(project.path, allowed):
        return f"{project.name} is outside the folders of this trust edge"
    return None


def _stands_out(
    first: Candidate,
    mentioned: dict[Project, str],
    alike: dict[Project, str],
    weak: Sequence[Hit],
    allowed: Sequence[str],
) -> bool:
    def alone(projects: Iterable[Project]) -> bool:
        here = [project.path for project in projects if not allowed or within(project.path, allowed)]
        return here == [first.cwd]

    if mentioned:
        return len(mentioned) == 1 and alone(mentioned)
    if alike:
        return alone(alike)
    here = [hit for hit in weak if not allowed or within(hit.project.path, allowed)]
    return len(here) == 1 or _weight(here[0]) > _weight(here[1])


def _weight(hit: Hit) -> tuple[int, int]:
    return len(hit.in_name), len(hit.in_about)


def _candidate(project: Project, reason: str, detail: str) -> Candidate:
    return Candidate(project.path, project.name, reason.format(detail))


def _weak(hit: Hit) -> Candidate:
    if hit.in_name:
        return _candidate(hit.project, "its name has {}", _listed(hit.in_name))
    return _candidate(hit.project, "its description has {}", _listed(hit.in_about))


def _listed(found: Sequence[str]) -> str:
    return ", ".join(f"“{word}”" for word in found[:4])
