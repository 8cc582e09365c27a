"""What `python -m sandbox.commits` is asked and what it answers, as values. It is JSON on its standard streams."""

from __future__ import annotations

import msgspec

from sandbox.views.record import ViewRecord


class _Value(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, omit_defaults=True):
    pass


class Branch(_Value, frozen=True, kw_only=True):
    """A branch of the view that reaches new commits.

    `name`: as the run called it, any bytes; b"HEAD" for commits that were made on no branch. `ref`: a name made of it
    that is safe in a ref and on a command line, and that no other branch of the repository has. `tip`: its commit, hex.
    """

    name: bytes
    ref: str
    tip: str


class Wanted(_Value, frozen=True, kw_only=True):
    """Repositories in one view. `paths`: of their `.git` folders below the root; the original has a folder at each."""

    view: ViewRecord
    paths: list[bytes]


class Found(_Value, frozen=True, kw_only=True):
    """What became of one repository.

    `problem`: why its commits are not kept, as the end of a sentence; "" where they are, or where there are none.
    `pack`, `text`: names of files in the work folder: the commits with all that they hold and the original does not,
    and each of them with its message and its diff. `cut`: the text is not all of it.
    """

    view: int
    path: bytes
    problem: str = ""
    branches: list[Branch] = []
    count: int = 0
    pack: str = ""
    text: str = ""
    cut: bool = False


class Request(_Value, frozen=True, kw_only=True):
    """What the program reads."""

    wanted: list[Wanted]


class Answer(_Value, frozen=True, kw_only=True):
    """What the program writes."""

    found: list[Found]
