"""`fetch`: the returned files, whole or not at all, and nothing of the person's is touched."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Cli
from tests.cli.documents import FIRST, document, result
from tests.cli.fake_api import FakeApi


def stored(cli: Cli, *contents: tuple[str, bytes]) -> list[dict[str, Any]]:
    files = []
    for name, data in contents:
        digest = hashlib.sha256(data).hexdigest()
        path = cli.folder.blobs / digest[:2] / digest
        cli.folder.blobs.mkdir(mode=0o700, exist_ok=True)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        files.append({"name": name, "size": len(data), "sha256": digest, "ready": True})
    return files


def returned(api: FakeApi, files: list[dict[str, Any]]) -> None:
    api[f"GET /v1/dispatches/{FIRST}"] = document(status="completed", result=result(files=files))


def test_into_a_new_folder(cli: Cli, api: FakeApi) -> None:
    files = stored(cli, ("a.txt", b"one"), ("b.bin", bytes(3_000_000)))
    returned(api, files)
    outcome = cli("fetch", FIRST, "--json")
    assert outcome.document == {
        "dispatch_id": FIRST,
        "folder": str(Path.cwd() / "dispatch-abcd5555"),
        "files": [{key: file[key] for key in ("name", "size", "sha256")} for file in files],
    }
    assert Path("dispatch-abcd5555/a.txt").read_bytes() == b"one"
    assert Path("dispatch-abcd5555/b.bin").stat().st_size == 3_000_000
    assert Path("dispatch-abcd5555/a.txt").stat().st_mode & 0o111 == 0
    assert "a.txt (3 bytes)" in cli("fetch", FIRST, "--to", "x/y").out


def test_without_a_daemon(cli: Cli, reader: dict[str, Any]) -> None:
    reader[FIRST] = document(result=result(files=stored(cli, ("a.txt", b"one"))))
    assert cli("fetch", FIRST).code == 0
    assert Path("dispatch-abcd5555/a.txt").read_bytes() == b"one"


def test_a_folder_that_is_there_is_left_alone(cli: Cli, api: FakeApi) -> None:
    returned(api, stored(cli, ("a.txt", b"new"), ("b.txt", b"b")))
    Path("out").mkdir()
    Path("out/b.txt").write_text("mine")
    refused = cli("fetch", FIRST, "--to", "out", "--json")
    assert (refused.code, refused.document["error"]["code"]) == (1, 409)
    forced = cli("fetch", FIRST, "--to", "out", "--force", "--json")
    assert (forced.code, forced.document["error"]["code"]) == (1, 409)
    assert "b.txt already exists" in forced.document["error"]["message"]
    assert [(path.name, path.read_text()) for path in Path("out").iterdir()] == [("b.txt", "mine")]
    Path("out/b.txt").rename("kept")
    assert cli("fetch", FIRST, "--to", "out", "--force").code == 0


@pytest.mark.parametrize("dangling", [True, False])
def test_links_are_not_followed(cli: Cli, api: FakeApi, dangling: bool) -> None:
    returned(api, stored(cli, ("a.txt", b"new")))
    target = Path("target")
    if not dangling:
        target.write_text("mine")
    Path("out").mkdir()
    Path("out/a.txt").symlink_to(target.absolute())
    assert cli("fetch", FIRST, "--to", "out", "--force").code == 1
    assert target.exists() is not dangling
    Path("real").mkdir()
    Path("link").symlink_to("real")
    assert cli("fetch", FIRST, "--to", "link", "--force").code == 1
    assert list(Path("real").iterdir()) == []


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/b", "", ".", "..", "a\0b", "a\nb", "a\x1b[2J", 7])
def test_a_name_that_is_no_plain_name(cli: Cli, api: FakeApi, name: str) -> None:
    (good,) = stored(cli, ("good.txt", b"x"))
    returned(api, [good, {**good, "name": name}])
    outcome = cli("fetch", FIRST, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 403)
    assert list(Path.cwd().iterdir()) == []


def test_bytes_that_changed_in_the_store(cli: Cli, api: FakeApi) -> None:
    first, second = stored(cli, ("a.txt", b"one"), ("b.txt", b"two"))
    (cli.folder.blobs / second["sha256"][:2] / second["sha256"]).write_bytes(b"tWo")
    returned(api, [first, second])
    outcome = cli("fetch", FIRST, "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 500)
    assert list(Path.cwd().iterdir()) == []


def test_files_that_will_not_come(cli: Cli, api: FakeApi) -> None:
    (here,) = stored(cli, ("a.txt", b"one"))
    gone = {"name": "b.txt", "size": 3, "sha256": "1" * 64, "ready": False, "withheld": True}
    returned(api, [here, gone])
    outcome = cli("fetch", FIRST)
    assert outcome.code == 0 and "b.txt was not fetched" in outcome.err
    assert [path.name for path in Path("dispatch-abcd5555").iterdir()] == ["a.txt"]
    returned(api, [gone])
    outcome = cli("fetch", FIRST, "--to", "elsewhere", "--json")
    assert (outcome.code, outcome.document["error"]["code"]) == (1, 410)
    assert not Path("elsewhere").exists()


def test_files_that_are_not_here_yet(cli: Cli, api: FakeApi) -> None:
    returned(api, [{"name": "a.txt", "size": 1, "sha256": "0" * 64}])
    assert cli("fetch", FIRST, "--json").document["error"]["code"] == 404
    returned(api, [{"name": "a.txt", "size": 1, "sha256": "../../etc/passwd"}])
    assert cli("fetch", FIRST, "--json").document["error"]["code"] == 500
    returned(api, [])
    nothing = cli("fetch", FIRST, "--json").document["error"]
    assert (nothing["code"], "returned no files" in nothing["message"]) == (404, True)
    assert list(Path.cwd().iterdir()) == []
