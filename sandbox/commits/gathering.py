"""The new commits of one repository, from the view that a run left to a pack that was checked, and their text.

1. In a sandbox that shows the original's `.git` alone: what its refs name.
2. In one that shows the view alone, as the run saw it: its branches, and a pack of what they reach and the original's
   refs do not. Here the view's settings are obeyed, by nothing but this sandbox.
3. In one that shows the original's objects and a bare repository of our own: the pack is checked as strictly as git
   can, and written anew with exactly what the new branches reach; each commit is shown with its diff. What was written
   by programs of step 2, if a view's settings brought any to life, is only this step's input.

The last is confined too, though its repository is ours: it is here that what a run made is first taken apart.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.commits.confined import Failed, as_seen, beginning, output, profile
from sandbox.commits.names import HEAD, safe_names
from sandbox.commits.values import Branch, Found
from sandbox.confinement import Profile, Root
from sandbox.confinement.places import WORKSPACE
from sandbox.views.record import ViewRecord

MAX_BRANCHES: Final = 50
"""Branches with new commits, in one repository."""
MAX_COMMITS: Final = 1_000
MAX_PACK: Final = 100_000_000
"""Bytes of all new objects of one repository."""
MAX_TEXT: Final = 999_000
"""Bytes of the commits as text, that it was cut aside."""
_MAX_REFS: Final = 16_000_000
"""Bytes of a list of refs."""
_MAX_NAME: Final = 1_000
_ORIGINAL: Final = Path("/original")
_ID: Final = re.compile(rb"[0-9a-f]{40}|[0-9a-f]{64}")
_HEADS: Final = b"refs/heads/"
# A missing HEAD, or one that names no commit yet, is no failure.
# Each linked worktree has a HEAD of its own.
_HEADS_OF_ALL: Final = (
    '{ echo HEAD; for each in "$GIT_DIR"/worktrees/*/; do each=${each%/}; echo "worktrees/${each##*/}/HEAD"; done; }'
)
_REFS: Final = (
    f"git for-each-ref '--format=%(objectname)' && {_HEADS_OF_ALL} | "
    'while read -r head; do git rev-parse -q --verify "$head" || true; done'
)
_BRANCHES: Final = (
    f"git for-each-ref '--format=%(objectname) %(refname)' refs/heads && {_HEADS_OF_ALL} | "
    'while read -r head; do git symbolic-ref -q "$head" >/dev/null || '
    """{ id=$(git rev-parse -q --verify "$head") && printf '%s HEAD\\n' "$id"; } || true; done"""
)
# Whole by itself: no delta against an object that is not in the pack. No pipe, which hides that its first half fails.
_PACK: Final = (
    "git rev-list --objects --ignore-missing --stdin >/tmp/objects && "
    "git -c pack.threads=1 pack-objects -q --stdout --delta-base-offset --window=10 </tmp/objects"
)
_INDEX: Final = ["git", "index-pack", "--stdin", "--strict", "--threads=1", f"--max-input-size={MAX_PACK}"]
_LIST: Final = [
    *("git", "rev-list", "--ignore-missing", "--topo-order", "--reverse", f"--max-count={MAX_COMMITS + 1}", "--stdin")
]
_SHOW: Final = [
    *("git", "-c", "core.quotePath=true", "-c", "core.attributesFile=/dev/null", "-c", "i18n.logOutputEncoding=UTF-8"),
    *("log", "--no-walk=unsorted", "--stdin", "--patch", "--format=fuller", "--date=iso-strict", "--no-color"),
    *("--no-ext-diff", "--no-textconv", "--no-renames", "--no-mailmap", "--no-notes", "--no-show-signature"),
    # A merge is shown as what it does to its first parent, so that nothing hides in it.
    *("--no-decorate", "--diff-merges=first-parent", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/"),
]


_CUT: Final = b"[the rest is not shown here: there is too much of it]\n"


@dataclass(frozen=True)
class Repository:
    """One repository in a view. `seen`: where the view can be read on this machine. `path`: of its `.git`."""

    record: ViewRecord
    seen: Path
    path: bytes

    @property
    def inside(self) -> Path:
        return Path(self.record.inside) / os.fsdecode(self.path)

    @property
    def original(self) -> Path:
        return Path(self.record.root) / os.fsdecode(self.path)


async def gather(repository: Repository, work: Path, name: str) -> Found:
    """Find, pack, check and show its new commits. Files of the answer are in `work`, and begin with `name`.

    Raises nothing of what the repository holds.
    """
    try:
        return await _gathered(repository, work, name)
    except Failed as failed:
        return Found(view=repository.record.number, path=repository.path, problem=str(failed))
    except OSError as error:
        why = f"this machine failed: {error.strerror or 'unknown error'}"
        return Found(view=repository.record.number, path=repository.path, problem=why)


async def _gathered(repository: Repository, work: Path, name: str) -> Found:
    nothing = Found(view=repository.record.number, path=repository.path)
    empty = work / f"{name}-empty"
    empty.mkdir(mode=0o700)
    of_original = profile(empty, Root(path=repository.original, at=_ORIGINAL))
    known = _ids(await output(of_original, ["/bin/sh", "-c", _REFS], str(_ORIGINAL), most=_MAX_REFS))
    view = as_seen(Path(repository.record.root), Path(repository.record.inside), repository.seen, empty)
    of_view = profile(empty, view)
    git_dir = str(repository.inside)
    listed = await output(of_view, ["/bin/sh", "-c", _BRANCHES], git_dir, most=_MAX_REFS)
    tips = [(tip, branch) for tip, branch in _branches(listed) if tip not in known]
    if not tips:
        return nothing
    if len(tips) > MAX_BRANCHES:
        raise Failed(f"more than {MAX_BRANCHES} branches are new")
    revisions = _revisions(tips, known)
    packed = work / f"{name}-view.pack"
    await output(of_view, ["/bin/sh", "-c", _PACK], git_dir, stdin=revisions, most=MAX_PACK, into=packed)

    bare = work / f"{name}-bare"
    _make_bare(bare, len(tips[0][0]))
    own = profile(bare, Root(path=repository.original / "objects", at=_ORIGINAL / "objects"))
    await output(own, _INDEX, str(WORKSPACE), stdin=packed, most=1_000)
    packed.unlink()
    new = frozenset((await output(own, _LIST, str(WORKSPACE), stdin=revisions, most=_MAX_REFS)).split())
    if len(new) > MAX_COMMITS:
        raise Failed(f"there are more than {MAX_COMMITS:,} commits")
    # Others name commits that the original has, objects that are missing, or none that are commits.
    tips = [(tip, branch) for tip, branch in tips if tip in new]
    if not tips:
        return nothing
    revisions = _revisions(tips, known)
    commits = (await output(own, _LIST, str(WORKSPACE), stdin=revisions, most=_MAX_REFS)).split()
    pack = work / f"{name}.pack"
    await output(own, ["/bin/sh", "-c", _PACK], str(WORKSPACE), stdin=revisions, most=MAX_PACK, into=pack)
    shown, whole = await _text(own, commits)
    text = work / f"{name}.txt"
    text.write_bytes(shown)
    return Found(
        view=repository.record.number,
        path=repository.path,
        branches=_named(tips),
        count=len(commits),
        pack=pack.name,
        text=text.name,
        cut=not whole,
    )


async def _text(own: Profile, commits: Sequence[bytes]) -> tuple[bytes, bool]:
    shown, whole = await beginning(own, _SHOW, str(WORKSPACE), stdin=_lines(commits), most=MAX_TEXT)
    return shown if whole else shown[: shown.rfind(b"\n") + 1] + _CUT, whole


def _make_bare(bare: Path, digits: int) -> None:
    """A repository without settings, hooks or refs of anybody's. `digits`: of an object's name. Raises OSError."""
    for folder in ("", "objects", "objects/info", "objects/pack", "refs", "refs/heads"):
        (bare / folder).mkdir(mode=0o700)
    (bare / "HEAD").write_text("ref: refs/heads/none\n")
    sha256 = digits == 64
    settings = f"[core]\n\trepositoryformatversion = {int(sha256)}\n\tbare = true\n"
    (bare / "config").write_text(settings + "[extensions]\n\tobjectFormat = sha256\n" * sha256)
    (bare / "objects/info/alternates").write_text(f"{_ORIGINAL / 'objects'}\n")


def _revisions(tips: Sequence[tuple[bytes, bytes]], known: Iterable[bytes]) -> bytes:
    return _lines([*(tip for tip, _ in tips), *(b"^" + each for each in sorted(known))])


def _ids(content: bytes) -> frozenset[bytes]:
    return frozenset(word for word in content.split() if _ID.fullmatch(word))


def _branches(listed: bytes) -> list[tuple[bytes, bytes]]:
    """(commit, name) of every branch, and of a HEAD that is on none."""
    found = []
    for each in listed.split(b"\n"):
        tip, _, name = each.partition(b" ")
        if not _ID.fullmatch(tip) or len(name) > _MAX_NAME:
            continue
        if name.startswith(_HEADS):
            found.append((tip, name.removeprefix(_HEADS)))
        elif name == HEAD:
            found.append((tip, name))
    return found


def _named(tips: Sequence[tuple[bytes, bytes]]) -> list[Branch]:
    refs = safe_names([name for _, name in tips])
    return [Branch(name=name, ref=ref, tip=tip.decode()) for (tip, name), ref in zip(tips, refs, strict=True)]


def _lines(words: Sequence[bytes]) -> bytes:
    return b"".join(word + b"\n" for word in words)
