"""What a guest boots: a root bootstrapped by mmdebstrap, a kernel with its modules, this checkout with its Python.

All are files of `folder`, kept between calls but for the checkout. Needs root, and the programs of NEEDED.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

from tests.kernels.archives import Packages, keyring, mirror
from tests.kernels.table import COMMON, DEBIAN, Kernel, Root

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NEEDED: Final = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "zstd": "zstd",
}
"""Program → the Debian package that has it."""
SECONDS: Final = 1200
ROOM: Final = "12G"
"""Of the guest's disk, sparse: a run wants 1 GiB or a twentieth of a disk left."""

APART: Final = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child", "--mount-proc")
"""What packages start and mount while they are installed ends with the call, whatever becomes of it."""

_START: Final = """#!/bin/sh
# Started by systemd in the guest, as root.
set -e
mkdir -p /mnt/checkout /mnt/result
mount LABEL=checkout /mnt/checkout
exec sh /mnt/checkout/start
"""
_UNIT: Final = """[Unit]
Description=What tests/kernels runs in a guest
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/bin/sh /usr/local/sbin/kernel-tests
StandardOutput=journal+console
StandardError=journal+console
TimeoutStartSec=infinity
ExecStopPost=/bin/systemctl --no-block poweroff
[Install]
WantedBy=default.target
"""


@dataclass(frozen=True, slots=True)
class Bootable:
    """The files of one kernel: `release` is what `uname -r` will say."""

    release: str
    vmlinuz: Path
    initrd: Path
    modules: Path
    root: Path


def missing() -> list[str]:
    """The Debian packages that have to be installed first."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    return [package for program, package in NEEDED.items() if shutil.which(program, path=path) is None]


def prepare(folder: Path, kernel: Kernel) -> Bootable:
    """Everything that `kernel` boots but the checkout; made where it is not there yet."""
    tree, image = _root(folder, kernel.root)
    packages = Packages(folder, kernel.archive, kernel.suites)
    packages.update()
    names = packages.kernel(kernel.package)
    release = next(name for name in names if name.startswith("linux-image-")).removeprefix("linux-image-")
    here = folder / f"kernel-{kernel.name}-{release}-{kernel.root.name}"
    made = Bootable(release, here / "vmlinuz", here / "initrd", here / "modules.ext4", image)
    if not here.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as making:
            unpacked = Path(making, "unpacked")
            for file in packages.download(names):
                _call(["dpkg-deb", "-x", str(file), str(unpacked)])
            new = Path(making, "new")
            new.mkdir()
            _kernel(unpacked, tree, release, new)
            new.rename(here)
    return made


def _kernel(unpacked: Path, tree: Path, release: str, new: Path) -> None:
    shutil.copyfile(unpacked / f"boot/vmlinuz-{release}", new / "vmlinuz")
    found = next(place for place in ("usr/lib/modules", "lib/modules") if (unpacked / place / release).is_dir())
    modules = tree / "usr/lib/modules" / release
    shutil.rmtree(modules, ignore_errors=True)
    modules.parent.mkdir(exist_ok=True)
    shutil.copytree(unpacked / found / release, modules, symlinks=True)
    try:
        shutil.copyfile(unpacked / f"boot/config-{release}", tree / f"boot/config-{release}")
        _call([*APART, "chroot", str(tree), "depmod", release])
        _call([*APART, "chroot", str(tree), "mkinitramfs", "-o", "/boot/initrd", release])
        shutil.move(tree / "boot/initrd", new / "initrd")
        _image(new / "modules.ext4", modules.parent, "modules", "2G")
    finally:
        shutil.rmtree(modules)


def _root(folder: Path, root: Root) -> tuple[Path, Path]:
    """The unpacked tree, and the disk made of it."""
    packages = (*COMMON, *root.packages)
    wanted = repr((root, packages, _START, _UNIT)).encode()
    tree = folder / f"root-{root.name}-{hashlib.sha256(wanted).hexdigest()[:12]}"
    image = tree.with_suffix(".ext4")
    if not image.exists():
        shutil.rmtree(tree, ignore_errors=True)
        archive = root.archive
        _call(
            [
                *(*APART, "mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--architectures=amd64"),
                *(f"--keyring={keyring(folder, archive)}", f"--include={','.join(packages)}"),
                *(root.name, str(tree)),
                *(f"deb {mirror(archive)} {suite} {archive.components}" for suite in root.suites),
            ]
        )
        _furnish(tree)
        if root.newer:
            debian = Packages(folder, DEBIAN, ("bookworm", "bookworm-updates"))
            debian.update()
            (file,) = debian.download(["bubblewrap"])
            _call(["dpkg-deb", "-x", str(file), str(tree / root.newer.lstrip("/"))])
        _image(image, tree, "root", ROOM)
    return tree, image


def _furnish(tree: Path) -> None:
    """What makes the bootstrapped tree a machine with a person on it who may use sudo."""
    (tree / "etc/fstab").write_text("LABEL=root / ext4 rw 0 1\nLABEL=modules /usr/lib/modules ext4 ro,nofail 0 0\n")
    (tree / "etc/hostname").write_text("guest\n")
    (tree / "etc/hosts").write_text("127.0.0.1 localhost guest\n::1 localhost\n")
    (tree / "etc/initramfs-tools/initramfs.conf").write_text("MODULES=list\nBUSYBOX=auto\nCOMPRESS=zstd\n")
    (tree / "etc/initramfs-tools/modules").write_text("virtio_pci\nvirtio_blk\next4\n")
    (tree / "usr/local/sbin/kernel-tests").write_text(_START)
    (tree / "etc/systemd/system/kernel-tests.service").write_text(_UNIT)
    (tree / "etc/systemd/system/serial-getty@ttyS0.service").symlink_to("/dev/null")  # the console is the tests'
    wants = tree / "etc/systemd/system/default.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "kernel-tests.service").symlink_to("/etc/systemd/system/kernel-tests.service")
    have = (tree / "etc/passwd").read_text()
    if ":1000:" in have:  # Ubuntu's own first user
        _call([*APART, "chroot", str(tree), "userdel", "-f", "ubuntu"])
    _call([*APART, "chroot", str(tree), "useradd", "--uid", "1000", "--create-home", "--shell", "/bin/bash", "person"])
    (tree / "etc/sudoers.d/person").write_text("person ALL=(ALL) NOPASSWD: ALL\n")


def python(folder: Path) -> Path:
    """A disk with .venv and the Python that it was made with."""
    base = Path(os.path.realpath(sys.base_prefix))
    if base.is_relative_to("/usr"):
        raise SystemExit(
            f"the Python of .venv is {base}'s, which no guest has: set .venv up with one of uv or pyenv "
            "(make clean; PYTHON=$(uv python find 3.11) make setup-tests)"
        )
    stamp = (CHECKOUT / ".venv/.made-from").read_bytes() + str(base).encode()
    image = folder / f"python-{hashlib.sha256(stamp).hexdigest()[:12]}.ext4"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as making:
            library = f"lib/python{sys.version_info[0]}.{sys.version_info[1]}"
            _copy(CHECKOUT / ".venv", Path(making, "venv"), ("./inspector", "./mutmut"))
            _copy(base, Path(making, "base"), (f"./{library}/site-packages", f"./{library}/test"))
            _image(image, Path(making), "python", "4G")
    return image


def checkout(folder: Path, words: Sequence[str], *, slower: int) -> Path:
    """A disk with the files of this checkout as they are now, and what has to be started: inside.py with `words`.

    `slower`: how many times the tests' own deadlines apply.
    """
    image = folder / "checkout.ext4"
    with tempfile.TemporaryDirectory(dir=folder, prefix="making-") as making:
        tree = Path(making, "tree")
        listed = subprocess.run(
            ["git", "ls-files", "-coz", "--exclude-standard"], cwd=CHECKOUT, capture_output=True, check=True
        )
        for name in map(os.fsdecode, filter(None, listed.stdout.split(b"\0"))):
            if (CHECKOUT / name).is_file():
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(CHECKOUT / name, tree / name)
        (tree / ".venv").mkdir()
        base = os.path.realpath(sys.base_prefix)
        opened = " ".join(shlex.quote(str(parent)) for place in (base, CHECKOUT) for parent in Path(place).parents)
        program = shlex.join([f"{CHECKOUT}/.venv/bin/python", "-B", "-m", "tests.kernels.inside", *words])
        Path(making, "start").write_text(
            f"set -e\nmkdir -p /mnt/python {shlex.quote(base)} {shlex.quote(str(CHECKOUT))}\nchmod 755 {opened}\n"
            f"mount LABEL=python /mnt/python\nmount --bind /mnt/checkout/tree {shlex.quote(str(CHECKOUT))}\n"
            f"mount --bind /mnt/python/venv {shlex.quote(str(CHECKOUT / '.venv'))}\n"
            f"mount --bind /mnt/python/base {shlex.quote(base)}\ncd {shlex.quote(str(CHECKOUT))}\n"
            # The interface leads nowhere; that a run sees none of it shows only where there is one.
            "systemctl start usr-lib-modules.mount\nip link add outside type dummy\n"
            f"export TESTS_SLOWER={slower}\nexec {program}\n"
        )
        image.unlink(missing_ok=True)
        _image(image, Path(making), "checkout", "256M")
    return image


def _copy(source: Path, target: Path, without: Sequence[str]) -> None:
    target.mkdir()
    reading = ["tar", "-C", str(source), *(f"--exclude={name}" for name in without), "-c", "."]
    with subprocess.Popen(reading, stdout=subprocess.PIPE) as packing:
        _call(["tar", "-C", str(target), "-x"], stdin=packing.stdout)


def _image(image: Path, tree: Path, label: str, size: str) -> None:
    """A file with an ext4 that holds `tree`; in place at once or not at all."""
    new = image.with_suffix(".new")
    new.unlink(missing_ok=True)
    tree.chmod(0o755)
    _call(["mkfs.ext4", "-q", "-m", "0", "-L", label, "-d", str(tree), str(new), size])
    new.rename(image)


def _call(command: Sequence[str], stdin: IO[bytes] | int | None = subprocess.DEVNULL) -> None:
    env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command,
        env=env,
        stdin=stdin,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
        start_new_session=True,
    )
    if done.returncode != 0:
        raise SystemExit(f"{shlex.join(command)}: {done.stderr.strip() or done.stdout.strip()}")
