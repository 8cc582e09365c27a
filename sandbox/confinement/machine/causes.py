"""From facts to the one cause that keeps runs from being confined, with what mends it. Pure."""

from __future__ import annotations

from typing import Final

from sandbox.confinement.cause import Cause, Commands
from sandbox.confinement.machine.facts import Facts

LEAST_KERNEL: Final = (5, 15)
"""The oldest that this was tried on (docs/testing.md)."""
TESTED_KERNELS: Final = (LEAST_KERNEL, (6, 1), (6, 8), (6, 18))
"""Those that the sandbox was tested on: booted by tests/kernels, and the last one, which the suite runs on."""
LEAST_BUBBLEWRAP: Final = "0.8.0"
"""The first with --disable-userns, by which nothing inside makes further namespaces. `--bind-fd` is newer: 0.10, and
the security updates of older ones.
"""
_PROFILE: Final = "bwrap-userns-restrict"
_APPARMOR: Final[Commands] = (
    ("install", "-m644", f"/usr/share/apparmor/extra-profiles/{_PROFILE}", "/etc/apparmor.d/"),
    ("apparmor_parser", "-r", f"/etc/apparmor.d/{_PROFILE}"),
)
_INSTALL: Final = {
    "apt-get": ("apt-get", "install", "-y"),
    "dnf": ("dnf", "install", "-y"),
    "pacman": ("pacman", "-S", "--noconfirm"),
    "zypper": ("zypper", "--non-interactive", "install"),
    "apk": ("apk", "add"),
}
_SYSCTL_FILE: Final = "/etc/sysctl.d/60-dispatch.conf"


def diagnose(facts: Facts) -> Cause | None:
    """The cause, None where nothing of these facts keeps a run from being confined."""
    return _kernel(facts) or _programs(facts) or _refused(facts)


def _kernel(facts: Facts) -> Cause | None:
    if facts.wsl == 1:
        return Cause(
            "wsl1",
            "this is WSL 1, which has no Linux kernel",
            "in PowerShell: `wsl --set-version DISTRIBUTION 2`, then start it again",
        )
    if facts.kernel < LEAST_KERNEL:
        have, need = (".".join(map(str, each)) for each in (facts.kernel, LEAST_KERNEL))
        return Cause(
            "kernel",
            f"this is Linux {have}; runs are confined from {need} on",
            "in PowerShell: `wsl --update`" if facts.wsl else f"boot Linux {need} or newer",
        )
    if not facts.user_namespaces:
        return Cause(
            "no user namespaces",
            "this kernel was built without user namespaces",
            "boot a kernel with CONFIG_USER_NS; every distribution's standard kernel has it",
        )
    return None


def _programs(facts: Facts) -> Cause | None:
    for path, program, package, what in (
        (facts.bwrap, "bwrap", "bubblewrap", "so runs cannot be confined"),
        (facts.prlimit, "prlimit", "util-linux", "so a run's processes cannot be bounded"),
    ):
        if path:
            continue
        theirs = [other for other in facts.others if other.endswith(f"/{program}")]
        if theirs:
            return Cause(
                "program of others",
                f"{theirs[0]} is not used, because users other than you and root can change it",
                f"install {package} from the system's packages, or make the program and its folders writable only by "
                "you or root",
            )
        return _installed(facts, f"no {package}", f"{package} is not installed, {what}", package)
    if facts.lacks:
        return _too_old(facts)
    return None


def _too_old(facts: Facts) -> Cause:
    """An older release than the one needed, or that release without its security update."""
    message = f"{facts.bwrap} is too old: it lacks {', '.join(facts.lacks)}"
    if "--disable-userns" in facts.lacks:
        return Cause(
            "old bubblewrap",
            message,
            f"install bubblewrap {LEAST_BUBBLEWRAP} or newer; if the distribution has none (Ubuntu 22.04), build it "
            "from source into /usr/local/bin: the older one can stay",
        )
    if facts.nixos:
        return Cause("old bubblewrap", message, "update the system's channel or flake, which brings a newer bubblewrap")
    return _installed(facts, "old bubblewrap", message, "bubblewrap")


def _installed(facts: Facts, name: str, message: str, package: str) -> Cause:
    if facts.nixos:
        return Cause(
            name, message, f"add `{package}` to environment.systemPackages, or `nix profile install nixpkgs#{package}`"
        )
    if facts.packages not in _INSTALL:
        return Cause(name, message, f"install {package} from the system's packages")
    return Cause(name, message, commands=((*_INSTALL[facts.packages], package),))


def _refused(facts: Facts) -> Cause | None:
    """Bubblewrap was tried, and the kernel refused it what it needs."""
    if not facts.failed:
        return None
    if facts.max_user_namespaces == 0:
        return _switched_off(facts, "user.max_user_namespaces", 15_000)
    if facts.userns_clone is False and not facts.root:
        return _switched_off(facts, "kernel.unprivileged_userns_clone", 1)
    if facts.container:
        return _in_container(facts)
    if facts.apparmor and not facts.root and facts.failed != "proc":
        return _apparmor(facts)
    if facts.failed == "proc" and facts.covered:
        return Cause(
            "masked proc",
            f"parts of /proc are covered by mounts ({', '.join(facts.covered[:3])}), so the kernel does not let a "
            "run have its own /proc; containers and some service managers do this",
            "run dispatch-daemon on the machine itself, not in a container; in a systemd unit, remove "
            "ProtectKernelTunables= and ProtectProc=",
        )
    if facts.seccomp:
        return Cause(
            "filter",
            "dispatch was started under a system-call filter that forbids new namespaces",
            "start dispatch-daemon without that filter: not in a container, snap or flatpak; in a systemd unit, "
            "remove RestrictNamespaces= and SystemCallFilter=",
        )
    return None


def _in_container(facts: Facts) -> Cause:
    seen = []
    if facts.seccomp:
        seen.append("has a system-call filter")
    if facts.covered:
        seen.append("masks parts of /proc")
    how = f" ({' and '.join(seen)})" if seen else ""
    return Cause(
        "container",
        f"this is a {facts.container}, which keeps runs from being confined{how}",
        "run dispatch-daemon on the machine itself, not in the container; sending and approving work in here too",
    )


def _switched_off(facts: Facts, sysctl: str, want: int) -> Cause:
    message = f"this machine does not let anybody create user namespaces: {sysctl} is 0"
    if facts.container:
        return Cause(sysctl, message, f"this is a {facts.container}: change the setting on the machine that hosts it")
    return Cause(
        sysctl,
        message,
        "somebody may have set it on purpose",
        commands=(
            ("sh", "-c", f"echo {sysctl}={want} >> {_SYSCTL_FILE}"),
            ("sysctl", "-q", "-p", _SYSCTL_FILE),
        ),
    )


def _apparmor(facts: Facts) -> Cause:
    """Ubuntu from 23.10 on: only programs with an AppArmor profile that says so may use a user namespace."""
    message = "AppArmor keeps bubblewrap from using user namespaces (kernel.apparmor_restrict_unprivileged_userns is 1"
    if facts.bwrap != "/usr/bin/bwrap":
        return Cause(
            "apparmor",
            f"{message}, and Ubuntu's profile for it is for /usr/bin/bwrap, not {facts.bwrap})",
            "sudo apt-get install bubblewrap, then `dispatch doctor` again",
        )
    if facts.profile:
        return Cause(
            "apparmor",
            f"{message}, and the profile in /etc/apparmor.d is not loaded or does not allow it)",
            commands=_APPARMOR[1:] if not facts.profile_at_hand else _APPARMOR,
        )
    package: Commands = () if facts.profile_at_hand else (("apt-get", "install", "-y", "apparmor-profiles"),)
    return Cause("apparmor", f"{message}, and it has no profile)", commands=(*package, *_APPARMOR))
