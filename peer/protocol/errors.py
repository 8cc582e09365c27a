"""The one error hierarchy: every error has a code as in HTTP, a sentence, and a fix. No I/O here.

4xx: the caller must change something. 5xx: this machine or the network failed. The same triple crosses every boundary
of the product: acknowledgements, the loopback API, problem details, `--json`, MCP.

A fix is part of the type: a raise without one does not pass mypy, unless its class has one that fits wherever it is
raised (`WithUsualFix`). Where the reader can do nothing, or only the other side's program reads the error, `NO_FIX`
says that this is deliberate.
"""

from __future__ import annotations

from typing import ClassVar, Final

NO_FIX: Final = ""
"""Nothing that the reader does would help."""


class DispatchError(Exception):
    """Something was refused or failed. `code` is an HTTP status code, `fix` what the reader can do about it."""

    default_code: ClassVar[int] = 500

    def __init__(self, message: str, *, fix: str, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = self.default_code if code is None else code

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.code}, {self.message!r})"

    def to_json(self) -> dict[str, int | str]:
        """Return {"code": int, "message": str, "fix": str}."""
        return {"code": self.code, "message": self.message, "fix": self.fix}


class WithUsualFix(DispatchError):
    """An error whose class knows what helps, unless the raise knows better. Stands first among a class's bases."""

    usual_fix: ClassVar[str]

    def __init__(self, message: str, *, fix: str | None = None, code: int | None = None) -> None:
        super().__init__(message, fix=self.usual_fix if fix is None else fix, code=code)


class Unauthorized(WithUsualFix):
    """The sign-in is missing or expired, or belongs to another broker."""

    default_code = 401
    usual_fix = "run `dispatch login --broker URL`"


class NotSignedIn(Unauthorized):
    """There is no saved sign-in, and no flag or variable gives one."""


class Forbidden(DispatchError):
    """No trust edge permits this."""

    default_code = 403


class NotFound(WithUsualFix):
    """Nothing here has this id."""

    default_code = 404
    usual_fix = "use the full id from `dispatch inbox --json`; was the daemon up when it arrived?"


class Conflict(WithUsualFix):
    """The object was decided or changed before this request."""

    default_code = 409
    usual_fix = "re-check `dispatch inbox` and `dispatch approvals`"


class Gone(WithUsualFix):
    """The object has expired."""

    default_code = 410
    usual_fix = "ask the sender to send it again"


class TooLarge(DispatchError):
    """A limit on size or count is exceeded; the message names it and the excess."""

    default_code = 413


class Invalid(DispatchError):
    """An argument or a statement does not have the required form."""

    default_code = 422


class RateLimited(DispatchError):
    """Too many requests in a period; the message contains the time of the next chance."""

    default_code = 429


class Internal(WithUsualFix):
    """A defect in this program."""

    default_code = 500
    usual_fix = "look at daemon.log in the state folder"


class Unavailable(DispatchError):
    """The daemon, the broker, the disk or the other device cannot serve now; the same call may succeed later."""

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


def from_code(code: int, message: str, fix: str = NO_FIX) -> DispatchError:
    """Rebuild an error that crossed a boundary as {code, message, fix}."""
    kind = BY_CODE.get(code, Internal if code >= 500 else Invalid)
    return kind(message, fix=fix, code=code)


def root_of(raised: BaseException) -> BaseException:
    """Return the first exception inside nested exception groups (trio's nurseries raise these), else `raised`."""
    while isinstance(raised, BaseExceptionGroup):
        raised = raised.exceptions[0]
    return raised
