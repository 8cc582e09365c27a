"""A clean machine: Debian 12's minimal system in a mount namespace of its own, with an ordinary user in it.

It is made once by mmdebstrap from the archive that this machine's own apt uses; each test has an overlay over it, so
what it installs is gone with it. The kernel, the network and how a package index is reached are this machine's.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.kernels.archives import mirror
from tests.kernels.table import DEBIAN
from tests.packaging.test_distributions import ROOT, SDIST, WHEEL, build

SECONDS = 1800.0
PACKAGES = ("python3-venv", "ca-certificates", "bubblewrap", "libseccomp2")
COMPILER = ("gcc", "libc6-dev", "libgmp-dev", "python3-dev")
"""As docs/install.md has them."""

ENTER = r"""
set -e
mount -t tmpfs none "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" none "$1/root"
cd "$1/root"
mount -t proc none proc
mount --rbind /sys sys
mount --rbind /dev dev
mount -t tmpfs none tmp && chmod 1777 tmp
cat /etc/resolv.conf > etc/resolv.conf
mkdir -p given && mount --bind "$3" given
mkdir -p etc/ssl/certs && cat /etc/ssl/certs/ca-certificates.crt > etc/ssl/certs/ca-certificates.crt
pivot_root . mnt
umount -l mnt
cd /
if [ -n "$4" ]; then
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq >&2 && apt-get install -y -qq --no-install-recommends $4 >&2
fi
useradd --create-home ana
cd /home/ana
exec setpriv --reuid ana --regid ana --init-groups env -i HOME=/home/ana LANG=C.UTF-8 \
    PATH=/home/ana/.local/bin:/usr/bin:/bin $5 sh -euc "$6"
"""


def base(folder: Path, packages: tuple[str, ...] = PACKAGES) -> Path:
    """Make the system. The test is skipped where that cannot be done."""
    if os.geteuid() or shutil.which("mmdebstrap") is None:
        pytest.skip("a clean machine is made by root, with mmdebstrap")
    made = folder / "debian-12"
    included = f"--include={','.join(packages)}"
    command = ["mmdebstrap", "--quiet", "--variant=minbase", included, "bookworm", made, mirror(DEBIAN)]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return made


def run(
    script: str, *, base: Path, given: Path, folder: Path, packages: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run a shell script as a user of a fresh clean machine with these packages more. `given` is its /given."""
    place = folder / "machine"
    place.mkdir()
    return subprocess.run(
        [
            *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-c", ENTER),
            *("sh", place, base, given, " ".join(packages), " ".join(index_settings()), script),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )


def distributions(folder: Path) -> Path:
    """Build a wheel, whose name `wheel` holds, and the source archive `source.tar.gz` into `folder`.

    `tools.txt` beside them pins uv and pipx.
    """
    folder.chmod(0o755)
    tree = folder / "tree"
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    shutil.copytree(ROOT, tree, ignore=shutil.ignore_patterns(".git", ".pytest_cache", *ignored))
    build(SDIST, tree, folder).rename(folder / "source.tar.gz")
    (folder / "wheel").write_text(build(WHEEL, tree, folder).name)
    shutil.rmtree(tree)
    shutil.copy(Path(__file__).with_name("tools.txt"), folder)
    return folder


def index_settings() -> list[str]:
    """How this machine's pip reaches an index, for pip and uv in there, but for what is on its own disk."""
    certificates = "/etc/ssl/certs/ca-certificates.crt"
    kept = ("PIP_INDEX_URL", "PIP_PROXY", "UV_INDEX_URL", "UV_DEFAULT_INDEX", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY")
    named = [f"{name}={value}" for name in kept if (value := os.environ.get(name))]
    return [*named, f"PIP_CERT={certificates}", f"SSL_CERT_FILE={certificates}", "PIP_DISABLE_PIP_VERSION_CHECK=1"]
