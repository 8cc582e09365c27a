"""The one error hierarchy: every error has a code (HTTP's meaning), a sentence, and the fix. No I/O here.

A code says whose turn it is: 4xx the caller must change something, 5xx this machine or the network must. The same
triple crosses every boundary of the product: courier answers, the loopback API, problem details, `--json`, MCP.
"""

from __future__ import annotations

from typing import ClassVar


class DispatchError(Exception):
    """Something was refused or failed. `code` is an int of HTTP's meaning, `fix` the one thing that helps."""

    default_code: ClassVar[int] = 500
    default_fix: ClassVar[str] = ""

    def __init__(self, message: str, *, fix: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = self.default_fix if fix is None else fix
        self.code = self.default_code if code is None else code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}, {self.message!r})"

    def to_json(self) -> dict[str, int | str]:
        """Return {"code": int, "message": str, "fix": str}."""
        return {"code": self.code, "message": self.message, "fix": self.fix}


class Unauthorized(DispatchError):
    """The sign-in is missing, expired or not the broker's."""

    default_code = 401
    default_fix = "run `dispatch login --broker URL`"


class NotSignedIn(Unauthorized):
    """No saved sign-in and no flag or variable gives one."""


class Forbidden(DispatchError):
    """No trust edge permits this."""

    default_code = 403


class NotFound(DispatchError):
    """The id is not known here."""

    default_code = 404
    default_fix = "use the full id from `dispatch inbox --json`; was the daemon up when it arrived?"


class Conflict(DispatchError):
    """It was decided, or changed, before this came."""

    default_code = 409
    default_fix = "re-check `dispatch inbox` and `dispatch approvals`"


class Gone(DispatchError):
    """It expired."""

    default_code = 410
    default_fix = "ask the sender to send it again"


class TooLarge(DispatchError):
    """A limit on size or count was passed; the message says which and by how much."""

    default_code = 413


class Invalid(DispatchError):
    """An argument or a statement is not of the form it must have."""

    default_code = 422


class RateLimited(DispatchError):
    """Too many in the time allowed; the message says when it frees."""

    default_code = 429


class Internal(DispatchError):
    """Our own fault."""

    default_code = 500
    default_fix = "look at daemon.log in the state folder"


class Unavailable(DispatchError):
    """The daemon, the broker, the disk or the other side is not there now; the same call may succeed later."""

    default_code = 503


BY_CODE: dict[int, type[DispatchError]] = {
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    410: Gone,
    413: TooLarge,
    422: Invalid,
    429: RateLimited,
    500: Internal,
    503: Unavailable,
}


def from_code(code: int, message: str, fix: str = "") -> DispatchError:
    """Rebuild an error that crossed a boundary as {code, message, fix}."""
    kind = BY_CODE.get(code, Internal if code >= 500 else Invalid)
    return kind(message, fix=fix, code=code)


def root_of(raised: BaseException) -> BaseException:
    """Return the first exception in a group, however deep trio's nurseries put it; itself where it is none."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised
