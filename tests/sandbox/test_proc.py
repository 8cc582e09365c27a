"""Which entries of /proc a sandbox gets read-only, and which it does not get at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from sandbox.confinement.bubblewrap.start import host_layout, machine_wide


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    for folder in ("1", "sys", "new_subsystem"):
        (tmp_path / folder).mkdir()
    for name, mode in {
        "latency_stats": 0o644,  # of some kernels alone
        "sysrq-trigger": 0o200,
        "kcore": 0o400,
        "vmallocinfo": 0o400,
        "keys": 0o444,
        "meminfo": 0o444,
    }.items():
        (tmp_path / name).touch()
        (tmp_path / name).chmod(mode)
    (tmp_path / "self").symlink_to("1")
    return tmp_path


def test_whatever_may_be_written_is_read_only_and_what_its_owner_alone_reads_is_hidden(proc: Path) -> None:
    assert machine_wide(proc) == (
        ("latency_stats", "new_subsystem", "sys", "sysrq-trigger"),
        ("kcore", "keys", "vmallocinfo"),
    )


def test_on_this_machine() -> None:
    host = host_layout()
    assert "sys" in host.proc_read_only
    assert not {"self", "thread-self", "net", "mounts", "1"} & {*host.proc_read_only, *host.proc_hidden}
