"""The errors of this package: a code, one sentence, and the fix. Nothing is decided here."""

from __future__ import annotations


class SandboxError(Exception):
    """What went wrong while preparing or running a dispatch.

    `code` is HTTP-like, `fix` what the person can do.
    """

    default_code = 500

    def __init__(self, message: str, *, fix: str = "", code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.fix = fix
        self.code = self.default_code if code is None else code

    def to_json(self) -> dict[str, object]:
        """{"code", "message", "fix"}."""
        return {"code": self.code, "message": self.message, "fix": self.fix}


class FrameError(SandboxError):
    """The other side of a pipe said something that is not a frame."""

    default_code = 422
