"""The kernels that are booted, and the file systems that they boot. Values only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Archive:
    """Where packages come from. `mirror`: the variable that names it; `keyring`: what signs its Release."""

    name: str
    mirror: str
    keyring: str
    components: str = "main"


DEBIAN: Final = Archive(
    "debian",
    "DEBIAN_MIRROR",
    "/usr/share/keyrings/debian-archive-keyring.gpg",
)
UBUNTU: Final = Archive(
    "ubuntu",
    "UBUNTU_MIRROR",
    "/usr/share/keyrings/ubuntu-archive-keyring.gpg",
    "main universe",
)


@dataclass(frozen=True, slots=True)
class Root:
    """The userland that a kernel boots: `suites` of `archive`, the first one bootstrapped.

    `newer`: the folder where Debian 12's bubblewrap is unpacked besides, for whom the archive's own is too old.
    """

    archive: Archive
    suites: tuple[str, ...]
    packages: tuple[str, ...] = ()
    newer: str = ""

    @property
    def name(self) -> str:
        return self.suites[0]


COMMON: Final = (
    *("systemd-sysv", "libpam-systemd", "dbus-user-session", "udev", "dbus", "initramfs-tools", "kmod", "zstd"),
    *("apparmor", "sudo"),
    *("bubblewrap", "git", "libseccomp2", "util-linux", "procps", "iproute2", "ca-certificates", "attr", "file"),
    *("python3-minimal", "openssl", "libffi8", "libsqlite3-0", "libreadline8", "libbz2-1.0", "liblzma5", "zlib1g"),
    *("libncursesw6", "libgdbm6", "libuuid1", "libgmp10", "libexpat1"),
)
"""What the programs, the tests and a Python that was built for Debian 12 load."""
BOOKWORM: Final = Root(DEBIAN, ("bookworm", "bookworm-updates"), ("polkitd",))
"""polkitd lets people say that their own services linger (service.py)."""
JAMMY: Final = Root(UBUNTU, ("jammy", "jammy-updates", "jammy-security"), newer="/opt/newer")
NOBLE: Final = Root(UBUNTU, ("noble", "noble-updates", "noble-security"), ("apparmor-profiles",))


@dataclass(frozen=True, slots=True)
class Kernel:
    """`package` of `suites` depends on the newest kernel there.

    `refused`: what a refusal has to say, "" where runs have to work.
    """

    name: str
    archive: Archive
    suites: tuple[str, ...]
    package: str
    root: Root = BOOKWORM
    refused: str = ""


KERNELS: Final = (
    Kernel("debian-12", DEBIAN, ("bookworm", "bookworm-updates"), "linux-image-amd64"),
    Kernel("ubuntu-22.04", UBUNTU, ("jammy-updates", "jammy-security"), "linux-image-generic"),
    Kernel("ubuntu-24.04", UBUNTU, ("noble-updates", "noble-security"), "linux-image-generic", NOBLE),
    Kernel("debian-13", DEBIAN, ("trixie", "trixie-updates"), "linux-image-amd64"),
    Kernel("debian-11", DEBIAN, ("bullseye",), "linux-image-amd64", refused="this is Linux 5.10"),
    Kernel(
        "ubuntu-22.04-programs",
        UBUNTU,
        ("jammy-updates", "jammy-security"),
        "linux-image-generic",
        JAMMY,
        refused="/usr/bin/bwrap is too old: it lacks --disable-userns, --size",
    ),
)
"""The last two are what has to be refused, with the reason: a kernel before 5.15, and a bubblewrap before 0.8."""
