"""Looking at this machine: what a sandbox needs of it, as a value. Concludes nothing."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from sandbox import programs

Step = Literal["namespaces", "network", "proc"]
"""What bubblewrap is tried with, each with what comes before it."""
_STEPS: Final[tuple[tuple[Step, tuple[str, ...]], ...]] = (
    ("namespaces", ("--unshare-user",)),
    ("network", ("--unshare-net",)),
    ("proc", ("--unshare-pid", "--proc", "/proc")),
)
NEEDED_OPTIONS: Final = (
    "--bind-fd",
    "--ro-bind-fd",
    "--file",
    "--disable-userns",
    "--size",
    "--perms",
)
"""Without --add-seccomp-fd, which is as old as these and misspelt in the help of 0.6."""
_SECONDS: Final = 10
_CONTAINERS: Final = (
    ("/workspaces/.codespaces", "GitHub codespace"),
    ("/run/.containerenv", "Podman container"),
    ("/.dockerenv", "Docker container"),
    ("/var/run/secrets/kubernetes.io", "Kubernetes container"),
)
"""Marks that the makers of containers leave, and whose they are."""
_PROFILES: Final = Path("/etc/apparmor.d")


@dataclass(frozen=True, slots=True)
class Facts:
    """One machine. The defaults are those of one where everything works.

    `container`, `seccomp`, `covered`: what it is called, whether a system-call filter is on this process, and which
    places below /proc are mounted over. `userns_clone`: Debian's own switch, None where the kernel has none.
    `apparmor`: Ubuntu's restriction is on; `profile`: one for bubblewrap is installed, `profile_at_hand`: one lies
    ready. `bwrap`, `prlimit`: paths, "" for none; `others`: programs passed over since somebody else could change
    them. `lacks`: options that this bubblewrap does not have. `failed`: the step at which bubblewrap failed when it
    was tried, "" if it was not or did not. `packages`: the program that installs packages, "" for none known.
    """

    kernel: tuple[int, int] = (6, 12)
    root: bool = False
    container: str = ""
    seccomp: bool = False
    covered: tuple[str, ...] = ()
    wsl: int = 0
    nixos: bool = False
    user_namespaces: bool = True
    max_user_namespaces: int = 10_000
    userns_clone: bool | None = None
    apparmor: bool = False
    profile: bool = False
    profile_at_hand: bool = False
    bwrap: str = "/usr/bin/bwrap"
    prlimit: str = "/usr/bin/prlimit"
    others: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    failed: Step | Literal[""] = ""
    packages: str = "apt-get"


def look(*, tries: bool) -> Facts:
    """Look at this machine; with `tries` also whether bubblewrap can make what it has to."""
    bwrap, prlimit = bubblewrap(), programs.find("prlimit")
    release = platform.release()
    clone = _read("/proc/sys/kernel/unprivileged_userns_clone")
    return Facts(
        kernel=kernel(release),
        root=os.geteuid() == 0,
        container=_container(),
        seccomp=bool(re.search(r"^Seccomp:\s*2$", _read("/proc/self/status"), re.MULTILINE)),
        covered=covered(_read("/proc/self/mountinfo")),
        wsl=wsl(release),
        nixos=Path("/etc/NIXOS").exists(),
        user_namespaces=Path("/proc/self/ns/user").exists(),
        max_user_namespaces=int(_read("/proc/sys/user/max_user_namespaces") or 0),
        userns_clone=None if not clone else clone != "0",
        apparmor=_read("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1",
        profile=tries and _has_profile(),
        profile_at_hand=Path("/usr/share/apparmor/extra-profiles/bwrap-userns-restrict").exists(),
        bwrap=bwrap.path,
        prlimit=prlimit.path,
        others=bwrap.others + prlimit.others,
        lacks=_lacks(bwrap.path) if bwrap.path else (),
        failed=_failed(bwrap.path) if tries and bwrap.path else "",
        packages=next((each for each in ("apt-get", "dnf", "pacman", "zypper", "apk") if shutil.which(each)), ""),
    )


def bubblewrap() -> programs.Search:
    """The bwrap of this machine: one that has what is needed, where another that is too old stands before it."""
    return programs.find("bwrap", fits=lambda path: not _lacks(path))


def kernel(release: str) -> tuple[int, int]:
    """(6, 8) of "6.8.0-45-generic"."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def wsl(release: str) -> int:
    """Which Windows Subsystem for Linux, 0 for none. WSL 1 says "4.4.0-19041-Microsoft" and has no kernel at all."""
    if "microsoft" not in release.lower():
        return 0
    return 1 if kernel(release) < (4, 19) else 2


def covered(mountinfo: str) -> tuple[str, ...]:
    """Places below /proc that something is mounted on. Over such a /proc the kernel lets nobody mount a new one.

    Except where the kernel keeps an empty folder for a file system of its own (binfmt_misc, often by automount).
    """
    places = {line.split(" ")[4] for line in mountinfo.splitlines() if line.count(" ") > 4}
    return tuple(sorted(p for p in places if p.startswith("/proc/") and p != "/proc/sys/fs/binfmt_misc"))


def _container() -> str:
    for mark, what in _CONTAINERS:
        if Path(mark).exists():
            return what
    named = _read("/run/systemd/container")  # systemd-nspawn and LXC, among others
    return f"{named} container" if named and named != "wsl" else ""


def _has_profile() -> bool:
    """Whether a profile is attached to /usr/bin/bwrap. Which ones are loaded is shown to root alone."""
    try:
        files = [path for path in _PROFILES.iterdir() if path.is_file()]
    except OSError:
        return False
    return any(re.search(r"^\s*(?:profile\s.*)?/usr/bin/bwrap\b", _read(str(path)), re.MULTILINE) for path in files)


def _lacks(bwrap: str) -> tuple[str, ...]:
    done = _call([bwrap, "--help"])
    words = (done.stdout + done.stderr).decode(errors="replace").split() if done else []
    return tuple(option for option in NEEDED_OPTIONS if option not in words)


def _failed(bwrap: str) -> Step | Literal[""]:
    words: list[str] = []
    for step, more in _STEPS:
        words += more
        done = _call([bwrap, "--ro-bind", "/", "/", *words, "--", bwrap, "--version"])
        if done is None or done.returncode != 0:
            return step
    return ""


def _call(words: Sequence[str]) -> subprocess.CompletedProcess[bytes] | None:
    try:
        return subprocess.run(
            words, env={}, stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None


def _read(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace").strip()
    except OSError:
        return ""
