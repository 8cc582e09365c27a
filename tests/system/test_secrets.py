"""After a whole story: no secret and no word of a task in a log, in an argument or in an environment."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

from tests.system.world import Person

TASK = "Find the pomegranate under the staircase"
WORDS = (b"pomegranate", b"staircase", b"grandmother")


def secrets_of(person: Person) -> dict[str, bytes]:
    """Everything in a state folder that proves who somebody is, by name."""
    config = json.loads(person.state.config.read_bytes())
    found = {
        "the broker's token": config["token"].encode(),
        "the local token": person.state.local_token.read_bytes().strip(),
    }
    for path in (person.state.device_key, person.state.root_key):
        if path.exists():
            raw = path.read_bytes()
            for number, seed in enumerate(raw[at : at + 32] for at in range(0, len(raw), 32)):
                found[f"{path.name} {number}"] = seed
                found[f"{path.name} {number} in hex"] = seed.hex().encode()
                found[f"{path.name} {number} in base64"] = base64.b64encode(seed)
    return found


def seen_by_others() -> dict[str, bytes]:
    """Arguments and environments of every process but this one: what `ps` and /proc show."""
    seen = {}
    for folder in Path("/proc").glob("[0-9]*"):
        if folder.name == str(os.getpid()):
            continue
        for name in ("cmdline", "environ"):
            try:
                seen[str(folder / name)] = (folder / name).read_bytes()
            except OSError:
                continue  # it has ended
    return seen


def test_no_secret_leaves_its_file(pair: tuple[Person, Person]) -> None:
    alice, bob = pair
    bob.will(
        {"tool": "Write", "input": {"file_path": "grandmother.txt", "content": "grandmother's recipe"}},
        {"say": "The pomegranate is here."},
    )
    sent = alice.client.send(bob.email, TASK, background="It was grandmother's.")
    alice.state_of(sent["dispatch_id"], "pending")
    bob.client.accept(sent["dispatch_id"])
    call = bob.approval_of(sent["dispatch_id"])
    while_it_runs = seen_by_others()
    bob.client.approve(sent["dispatch_id"], call["request_id"])
    alice.state_of(sent["dispatch_id"], "completed", "failed")

    for person in pair:
        secrets = secrets_of(person)
        assert len(secrets) >= 5
        for place, content in while_it_runs.items():
            for name, secret in secrets.items():
                assert secret not in content, f"{name} of {person.name} is in {place}"
        for log in person.state.path.glob("daemon.log*"):
            text = log.read_bytes()
            for name, secret in secrets.items():
                assert secret not in text, f"{name} of {person.name} is in {log}"
            assert not [word for word in WORDS if word in text], log
        assert person.state.problems() == []
    for place, content in while_it_runs.items():
        assert not [word for word in WORDS if word in content], place
