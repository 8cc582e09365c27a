"""The sandbox's errors, worded for people. Showing them is the node's."""

from __future__ import annotations


class SandboxError(Exception):
    """A run could not be confined, or a confined run asked for something that it may not have.

    `message`: what happened, in one sentence. `fix`: what the owner of this machine can do about it (may be empty).
    `code` follows HTTP: 401 no model credentials, 403 not allowed, 413 too large, 422 bad request, 429 budget spent,
    503 confinement cannot be built here.
    """

    def __init__(self, message: str, *, fix: str = "", code: int = 503) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = code

    def to_json(self) -> dict[str, object]:
        """The form that every error of the project has: {"code", "message", "fix"}."""
        return {"code": self.code, "message": self.message, "fix": self.fix}

    def __str__(self) -> str:
        return f"{self.message} ({self.fix})" if self.fix else self.message


class FrameError(SandboxError):
    """The other side of a pipe sent something that is not a frame: 422, or 413 when it is too long."""

    def __init__(self, message: str, *, fix: str = "", code: int = 422) -> None:
        super().__init__(message, fix=fix, code=code)


def root_of(raised: BaseException) -> BaseException:
    """The first exception in a group, however deep trio's nurseries put it; itself where it is no group."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised


MAX_QUOTED = 500
_MARKS = str.maketrans({"“": '"', "”": '"', "„": '"', "‟": '"'})


def quoted(text: str, *, most: int = MAX_QUOTED) -> str:
    """Return `“text”` for a sentence of ours: what a program or a model's API says, on one line, which it cannot leave.

    At most `most` characters of it, its end; "" for nothing. What is not printable becomes a replacement character.
    """
    words = " / ".join(line.strip() for line in text.translate(_MARKS).splitlines() if line.strip())
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in words)
    return f"“{'…' if len(shown) > most else ''}{shown[-most:]}”" if shown else ""
