"""Matches a task and a hint to a project, and says where a run is to be by what its edge grants. Pure.

The task and the hint come from the sender, so they are only used as words to search for; no path in them is used. A
*mention* is a project's whole name in the text. A match is clear if one project alone is mentioned, lies inside the
edge's folders, and no other project has a similar name that may have been meant.

Words of a sender decide nothing by themselves (`placed`): a run is where its person granted the one folder that there
is; of several, or none, a match is proposed, and the person confirms it.
"""

from collections.abc import Iterable, Sequence
from pathlib import PurePath
from typing import Final

import msgspec

from peer.projects.words import COMMON, near, words, written_names
from peer.trust.scopes import within

MAX_CANDIDATES: Final = 5
MAX_OFFERED: Final = 8
"""Candidates and granted folders together."""
_MAX_TASK: Final = 20_000  # characters examined: a task may have 100,000, and names its project near the beginning
_MAX_HINT: Final = 200
_MAX_NAME_WORDS: Final = 8
_MIN_LONE_WORD: Final = 4


class Project(msgspec.Struct, frozen=True):
    """A project of the index: its folder, the name of that folder, and the name's words."""

    path: str
    name: str
    parts: tuple[str, ...]


class Hit(msgspec.Struct, frozen=True):
    """A project that the index found: which words of the query are in its name, and which in its description."""

    project: Project
    in_name: tuple[str, ...]
    in_about: tuple[str, ...]


class Candidate(msgspec.Struct, frozen=True):
    """A project that may be meant, and why. Shown on this machine only."""

    cwd: str
    project: str
    reason: str


class Suggestion(msgspec.Struct, frozen=True):
    """The result of matching. `cwd`: if pinned (by `match`: a clear match), it is used; else it is offered first, or
    None if none stands out.

    Without candidates the run gets an empty workspace.
    """

    pinned: bool
    cwd: str | None
    project: str | None
    reason: str
    candidates: tuple[Candidate, ...]
    granted: bool = False
    """Whether `cwd` is proposed inside one of several granted folders: offered first where a person confirms it."""


NOTHING: Final = Suggestion(
    pinned=False,
    cwd=None,
    project=None,
    reason="no project here matches the task: the workspace is empty",
    candidates=(),
)


_ONLY: Final = "the one folder that you granted"
_GRANTED: Final = "a folder that you granted"


def placed(found: Suggestion, allowed: Sequence[str], *, there: Sequence[str]) -> Suggestion:
    """Return where a run is to be: pinned in the one folder that its edge grants; of several, or none, what was found.

    `found`: what `match` returned for these `allowed` folders; `there`: those of them that exist.
    """
    if len(allowed) == 1 and there:
        only = Candidate(allowed[0], PurePath(allowed[0]).name, _ONLY)
        others = [each for each in found.candidates if each.cwd != only.cwd]
        return Suggestion(True, only.cwd, only.project, only.reason, (only, *others))
    if len(allowed) < 2:
        gone = "the folder that you granted no longer exists: the workspace is empty" if allowed else found.reason
        return msgspec.structs.replace(found, pinned=False, reason=gone)
    known = {each.cwd for each in found.candidates}
    granted = [Candidate(path, PurePath(path).name, _GRANTED) for path in there if path not in known]
    reason = found.reason if found.candidates else "several folders are granted, and the task names none of them"
    offered = (*found.candidates, *granted)[:MAX_OFFERED]
    granted_one = found.cwd is not None and within(found.cwd, allowed)
    return msgspec.structs.replace(found, pinned=False, reason=reason, candidates=offered, granted=granted_one)


class Query(msgspec.Struct, frozen=True):
    """A task and its hint as words: in order for mentions, and the significant ones, each once, for the index."""

    task: tuple[str, ...]
    hint: tuple[str, ...]
    written: tuple[str, ...]
    telling: tuple[str, ...]


def query(task: str, hint: str) -> Query:
    """Split a task and a hint into words. Only the first 20,000 and 200 characters are used."""
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
    """Combine mentions, similar names and the index's hits. `allowed`: the edge's folders, empty for no restriction."""
    mentioned = _mentioned(asked, projects)
    alike = _near_names(asked, projects, mentioned)
    found = [
        Candidate(project.path, project.name, f"the {where} names `{project.name}`")
        for project, where in mentioned.items()
    ]
    found += [_candidate(project, "its name is close to {}", f"“{said}”") for project, said in alike.items()]
    named = {candidate.cwd for candidate in found}
    # A long task shares words with every README, so a fifth of the significant ones must match, at least two.
    enough = max(2, len(asked.telling) // 5)
    weak = [hit for hit in hits if hit.project.path not in named and (hit.in_name or len(hit.in_about) >= enough)]
    weak.sort(key=_weight, reverse=True)  # stable: among equals the index's ranking decides
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
    # Offer one first only if it is the only one mentioned, the only one similar, or the only one found.
    first = inside[0] if inside and _stands_out(inside[0], mentioned, alike, weak, allowed) else None
    return Suggestion(
        False,
        first.cwd if first else None,
        first.project if first else None,
        f"{first.reason}; {doubt}" if first else doubt,
        shown,
    )


def _mentioned(asked: Query, projects: Sequence[Project]) -> dict[Project, str]:
    """The projects whose whole name is in the hint or the task, and where. A longer name takes precedence."""
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
    """Whether these words in prose are likely a name: several words, or one that is not a common word."""
    if len(name) > 1:
        return not all(word in COMMON for word in name) or "".join(name) in asked.written
    return (len(name[0]) >= _MIN_LONE_WORD and name[0] not in COMMON) or name[0] in asked.written


def _near_names(asked: Query, projects: Sequence[Project], mentioned: dict[Project, str]) -> dict[Project, str]:
    """Projects with a name similar to something written as a name, or to the name of a mentioned project.

    A name that continues a mentioned one ("shop" and "shop-frontend") is similar too: people shorten names.
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
    """Why nothing is pinned; None if one project is clearly meant."""
    if not mentioned:
        return "no project is named in full"
    if len(mentioned) > 1:
        return f"{len(mentioned)} projects are named"
    ((project, where),) = mentioned.items()
    if alike:
        return f"{next(iter(alike)).name} has a similar name"
    if asked.hint and where != "sender's hint":
        return "the sender's hint names another project"
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
