"""Booting one guest: qemu with the disks of image.py, every wait bounded, the console kept."""

from __future__ import annotations

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.kernels.image import Bootable

BEGUN: Final = "kernel tests: begun"
"""What inside.py says first. Of a guest whose console does not show it in time nothing can be asked."""
BOOT_SECONDS: Final = 120
END_SECONDS: Final = 1800
SLOWER: Final = 8
"""How much longer everything may take where the processor is emulated."""
_ACCELERATOR: Final = {"kvm": "kvm", "tcg": "tcg,thread=multi"}
_CPU: Final = {"kvm": "host,arch-capabilities=off", "tcg": "max"}
"""Without the register of that name, which a hypervisor above this machine may not let us set."""
_BOOT: Final = {"kvm": "", "tcg": "no_timer_check"}
"""A kernel panics if its first timer is late, as on an emulated processor of a busy machine."""
_PROBE_SECONDS: Final = 30
_LOOK_SECONDS: Final = 2.0
_RESULT_BYTES: Final = 64 << 20


@dataclass(frozen=True, slots=True)
class Ended:
    """How a guest ended: `problem` is "" where it powered itself off. `results`: the folder with what it left."""

    problem: str
    console: Path
    results: Path


def accelerator(vmlinuz: Path) -> str:
    """`kvm` where this machine's runs this kernel, else `tcg`, which emulates the processor.

    Tried with a boot that has no disk: such a kernel panics, and qemu ends. Some hypervisors offer a /dev/kvm under
    which a distribution's kernel gets nowhere.
    """
    words = [*_machine("kvm"), *("-m", "1024", "-serial", "null", "-kernel", str(vmlinuz), "-append", "panic=-1")]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        return "tcg"
    return "kvm" if done.returncode == 0 else "tcg"


def _machine(accelerated: str) -> list[str]:
    return [
        *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-machine", "pc"),
        *("-accel", _ACCELERATOR[accelerated], "-cpu", _CPU[accelerated]),
        *("-display", "none", "-no-reboot", "-nic", "none"),
    ]


def boot(kernel: Bootable, python: Path, checkout: Path, into: Path, *, accelerated: str) -> Ended:
    """Boot, wait until the guest is off, and unpack what it left. Kills a guest that does not end in time."""
    into.mkdir(parents=True)
    console, result = into / "console.txt", into / "result.raw"
    with result.open("wb") as file:
        file.truncate(_RESULT_BYTES)
    disks = [
        f"file={path},format=raw,if=virtio,snapshot=on" for path in (kernel.root, kernel.modules, python, checkout)
    ]
    disks.append(f"file={result},format=raw,if=none,id=result")
    words = [
        *(*_machine(accelerated), "-smp", "2", "-m", "4096", "-serial", f"file:{console}"),
        *(word for disk in disks for word in ("-drive", disk)),
        *("-device", "virtio-blk-pci,drive=result,serial=result", "-device", "virtio-rng-pci"),
        *("-kernel", str(kernel.vmlinuz), "-initrd", str(kernel.initrd)),
        *("-append", f"root=LABEL=root rw console=ttyS0 quiet panic=-1 systemd.show_status=no {_BOOT[accelerated]}"),
    ]
    slower = 1 if accelerated == "kvm" else SLOWER
    with subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as qemu:
        problem = ""
        try:
            if not _begun(qemu, console, BOOT_SECONDS * slower):
                ended = qemu.poll()
                problem = f"did not get as far as the tests in {BOOT_SECONDS * slower} s"
                problem = problem if ended is None else f"qemu ended before the tests began, with status {ended}"
            else:
                qemu.wait(END_SECONDS * slower)
        except subprocess.TimeoutExpired:
            problem = f"did not end in {END_SECONDS * slower} s"
        finally:
            qemu.kill()
        said = qemu.stdout.read().decode(errors="replace").strip() if qemu.stdout else ""
    results = into / "results"
    results.mkdir()
    try:
        with tarfile.open(result) as archive:
            archive.extractall(results, filter="data")
    except tarfile.TarError as error:
        problem = problem or f"left no results ({error})"
    result.unlink()
    problem = f"{problem}: {said[-500:]}" if problem and said else problem
    return Ended(problem, console, results)


def _begun(qemu: subprocess.Popen[bytes], console: Path, seconds: float) -> bool:
    """Whether the guest said BEGUN in time; a file has no event that says so, so it is looked at again."""
    waited = 0.0
    while waited < seconds:
        if console.exists() and BEGUN in console.read_text(errors="replace"):
            return True
        try:
            qemu.wait(_LOOK_SECONDS)
        except subprocess.TimeoutExpired:
            waited += _LOOK_SECONDS
        else:
            return BEGUN in console.read_text(errors="replace")
    return False
