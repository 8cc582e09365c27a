"""The broker's unit under a systemd that is process 1: a Debian 12 in a container of systemd-nspawn, where it has its
dynamic user, its view of the file system and its user namespace, none of which a user's manager can make.

The kernel is this machine's, and the container has the capabilities that nspawn leaves.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.packaging import clean
from tests.rendezvous.test_deploy import DEPLOY, UNIT

pytestmark = [pytest.mark.long, pytest.mark.root, pytest.mark.timeout(3 * clean.SECONDS)]

PACKAGES = (*clean.COMPILER, "python3-venv", "ca-certificates", "systemd-sysv", "dbus", "curl")
VARIABLES = """\
DISPATCH_PUBLIC_URL=https://broker.example.org
DISPATCH_SMTP_HOST=127.0.0.1
DISPATCH_SMTP_USER=dispatch
DISPATCH_SMTP_FROM=dispatch <dispatch@example.org>
DISPATCH_SMTP_PASSWORD=correct-horse
"""
LOOK = r"""#!/bin/sh
# What each command prints stands behind its name in /result.
exec 2>&1
said() { echo "$1: $(shift; "$@" 2>&1 | tr '\n' ' ')"; }
health() { curl -s --retry 60 --retry-delay 1 --retry-all-errors http://127.0.0.1:8800/health; }
cd /
systemctl start dispatch-rendezvous
said health health
pid=$(systemctl show -p MainPID --value dispatch-rendezvous)
uid=$(stat -c %u "/proc/$pid")
data=/var/lib/private/dispatch-rendezvous
inside() { nsenter -t "$pid" -m -S "$uid" -G "$uid" sh -c "$1"; }
said status sed -n '/^Uid/p;/^CapEff/p;/^CapBnd/p;/^NoNewPrivs/p;/^Seccomp:/p' "/proc/$pid/status"
said users cat "/proc/$pid/uid_map"
said homes nsenter -t "$pid" -m find /home /root /tmp -name secret
said written nsenter -t "$pid" -m sh -c 'for at in /etc /opt /usr /var; do touch $at/x 2>/dev/null && echo $at; done'
said devices inside 'ls /dev'
said variables inside 'cat /etc/dispatch-rendezvous.env'
said init inside 'ls -d /proc/1'
said folder stat -c '%a %u' $data $data/data
said key sha256sum $data/data/jwt.secret
said accounts inside '/opt/dispatch/bin/dispatch-rendezvous user list --json --data /var/lib/dispatch-rendezvous/data'
said backup inside 'cd /var/lib/dispatch-rendezvous && /opt/dispatch/bin/dispatch-rendezvous backup saved --data data'
systemctl restart dispatch-rendezvous
said again health
said kept sha256sum $data/data/jwt.secret
systemctl kill --signal=KILL dispatch-rendezvous
for _ in $(seq 300); do [ "$(systemctl show -p NRestarts --value dispatch-rendezvous)" = 1 ] && break; sleep 0.2; done
said killed health
systemctl stop dispatch-rendezvous
said result systemctl show -p Result --value dispatch-rendezvous
echo end:
systemctl poweroff --no-block
"""
STARTED = "[Service]\nType=oneshot\nExecStart=/look\nStandardOutput=file:/result\n"


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was seen of a broker that runs as its unit says, installed as the unit says."""
    if shutil.which("systemd-nspawn") is None:
        pytest.skip("systemd-nspawn is not installed (Debian: systemd-container)")
    folder = tmp_path_factory.mktemp("broker")
    root = clean.base(folder, PACKAGES)
    given = clean.distributions(tmp_path_factory.mktemp("given"))
    for name in ("etc/resolv.conf", "etc/ssl/certs/ca-certificates.crt"):
        shutil.copy(Path("/") / name, root / name)
    wheel = (given / "wheel").read_text()
    shutil.copy(given / wheel, root)
    install = f"python3 -m venv /opt/dispatch && /opt/dispatch/bin/pip install -q /{wheel}"
    done = subprocess.run(
        ["chroot", root, "env", *clean.index_settings(), "sh", "-c", install],
        capture_output=True,
        text=True,
        timeout=clean.SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    units = root / "etc/systemd/system"
    shutil.copy(DEPLOY / UNIT, units)
    (root / "etc/dispatch-rendezvous.env").write_text(VARIABLES)
    (root / "etc/dispatch-rendezvous.env").chmod(0o600)
    for name in ("home", "root", "tmp"):
        (root / name / "secret").touch()
    (root / "look").write_text(LOOK)
    (root / "look").chmod(0o755)
    (units / "look.service").write_text(STARTED)
    (units / "multi-user.target.wants").mkdir(exist_ok=True)
    (units / "multi-user.target.wants/look.service").symlink_to("../look.service")
    boot = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--private-network", "-D", str(root), "--boot"]
    done = subprocess.run(boot, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=300, check=False)
    told = (root / "result").read_text() if (root / "result").exists() else ""
    assert told.endswith("end:\n"), told + done.stdout[-3000:] + done.stderr[-3000:]
    return {name: text.strip() for name, _, text in (line.partition(":") for line in told.splitlines())}


def test_it_serves_and_keeps_its_data_over_restarts(looked: dict[str, str]) -> None:
    for each in ("health", "again", "killed"):
        answer = json.loads(looked[each])
        assert (answer["status"], answer["origin"]) == ("ok", "https://broker.example.org")
    assert looked["key"] == looked["kept"] and len(looked["key"]) > 64
    assert looked["result"] == "success"


def test_it_has_a_user_of_its_own_and_no_capability(looked: dict[str, str]) -> None:
    status = dict(field.split(":\t", 1) for field in looked["status"].split(" "))
    uid = status["Uid"].split("\t")[0]
    assert 61184 <= int(uid) <= 65519, "of systemd's dynamic users"
    assert {status["CapEff"], status["CapBnd"]} == {"0" * 16}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    assert looked["users"].split() == ["0", "0", "1", uid, uid, "1"], (
        "of this machine's users it has root's name and its own"
    )
    assert looked["folder"] == f"700 {uid} 700 {uid}"
    # Its operator's commands, as docs/broker.md calls them.
    assert json.loads(looked["accounts"]) == {"users": [], "next": None}
    assert looked["backup"].startswith("copied to saved: ")


def test_it_sees_little_and_writes_nowhere_else(looked: dict[str, str]) -> None:
    """Of a container's few devices the console is one."""
    assert (looked["written"], looked["homes"]) == ("", "")
    assert "null" in looked["devices"].split() and "console" not in looked["devices"].split()
    assert "correct-horse" not in looked["variables"] and "Permission denied" in looked["variables"]
    assert "No such file" in looked["init"]
