"""libseccomp as it is used here, through pyseccomp: its types, which that package does not have, and its loading."""

from __future__ import annotations

from typing import IO, Protocol, cast

from sandbox.errors import SandboxError


class Filter(Protocol):
    """A filter that is being made: exported for another process, or loaded into this one."""

    def set_attr(self, attribute: int, value: int) -> None: ...
    def remove_arch(self, arch: int) -> None: ...
    def add_arch(self, arch: int) -> None: ...
    def add_rule(self, action: int, name: str, *arguments: object) -> None: ...
    def export_bpf(self, file: IO[bytes]) -> None: ...
    def load(self) -> None: ...


class Attributes(Protocol):
    """Names of a filter's attributes."""

    ACT_BADARCH: int


class Architectures(Protocol):
    """Names of architectures."""

    NATIVE: int


class Library(Protocol):
    """What is used of it."""

    ALLOW: int
    KILL_PROCESS: int
    MASKED_EQ: int
    NE: int
    Arch: Architectures
    Attr: Attributes

    def ERRNO(self, number: int, /) -> int: ...
    def Arg(self, position: int, comparison: int, *values: int) -> object: ...
    def SyscallFilter(self, default: int, /) -> Filter: ...


def load_library() -> Library:
    """Return the library. Raises SandboxError where it is missing."""
    try:
        import pyseccomp
    except (ImportError, RuntimeError) as problem:
        raise SandboxError(
            "the library libseccomp is missing, so system calls cannot be filtered",
            fix="sudo apt install libseccomp2",
        ) from problem
    return cast(Library, pyseccomp)
