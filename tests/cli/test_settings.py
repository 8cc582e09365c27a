"""config.json and the state folder: what is accepted, what is refused, and that nobody else can read it."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.machine import settings as config
from peer.machine.setting_keys import KEYS
from peer.machine.settings import MASK, ModelSettings, Settings
from peer.machine.state_folder import StateFolder, read_private
from peer.protocol.errors import DispatchError, Forbidden, Invalid, NotSignedIn, Unavailable


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    return StateFolder(tmp_path / "state")


def write(folder: StateFolder, document: object, mode: int = 0o600) -> None:
    folder.create()
    folder.config.write_text(document if isinstance(document, str) else json.dumps(document))
    folder.config.chmod(mode)


def test_the_folder_is_the_variable_else_the_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert StateFolder.locate({}).path == tmp_path / ".dispatch"
    assert StateFolder.locate({"DISPATCH_HOME": "/x/y"}).path == Path("/x/y")
    assert StateFolder.locate({"DISPATCH_HOME": "~/z"}).path == tmp_path / "z"
    with pytest.raises(Invalid, match="DISPATCH_HOME"):
        StateFolder.locate({"DISPATCH_HOME": "relative"})


def test_what_is_written_is_private_whatever_the_umask(folder: StateFolder) -> None:
    before = os.umask(0)
    try:
        config.save(folder, Settings(token="t" * 20))
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE(folder.config.stat().st_mode) == 0o600
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(
    folder: StateFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    config.save(folder, Settings(email="alice@example.org"))

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(Unavailable, match="No space left"):
        config.save(folder, Settings(email="bob@example.org"))
    assert config.load(folder).email == "alice@example.org"
    assert [path.name for path in folder.path.iterdir()] == ["config.json"]


def test_no_file_means_the_defaults(folder: StateFolder) -> None:
    assert config.load(folder) == Settings()
    assert not folder.path.exists()


def test_what_is_saved_is_loaded(folder: StateFolder) -> None:
    settings = Settings(
        broker="https://broker.example",
        token="abc.def",
        email="alice@example.org",
        port=0,
        listen=("/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/4001"),
        roots=("/code",),
        runtime="scripted",
        model=ModelSettings(api_key="sk-1", base_url="http://127.0.0.1:9", name="m"),
    )
    config.save(folder, settings)
    assert config.load(folder) == settings


@pytest.mark.parametrize(
    ("document", "message", "fix"),
    [
        ({"brokr": "https://x.example"}, "unknown key 'brokr'", "did you mean `broker`?"),
        ({"model": {"apikey": "x"}}, "unknown key 'model.apikey'", "did you mean `model.api_key`?"),
        ({"zzzzzz": 1}, "unknown key", "known keys: broker"),
        ({"port": "8001"}, "port is not right", "port must be the loopback port"),
        ({"port": 70000}, "port can't be '70000'", "0 to 65535"),
        ({"model": "x"}, "model is not right", "model must be an object"),
        ({"listen": ["tcp:80"]}, "can't listen on", "/ip4/0.0.0.0/tcp"),
        ({"listen": ["/ip4/1.2.3.4/tcp/99999"]}, "can't listen on", "/ip4/0.0.0.0/tcp"),
        ({"roots": ["code"]}, "not an absolute path", "use /"),
        ({"runtime": "popup"}, "runtime is not right", "`claude` or `scripted`"),
        ({"broker": "ftp://x"}, "not a URL with http or https", "https://"),
        ({"email": "not an address"}, "is not an e-mail address", "name@example.org"),
        ({"device_name": "a\x1b[2Jb"}, "device_name has control characters", "1 to 64"),
        ("[]", "must hold one JSON object", "correct or remove"),
        ("{", "is not JSON", "correct or remove"),
    ],
)
def test_a_wrong_file_is_refused_with_its_fix(folder: StateFolder, document: object, message: str, fix: str) -> None:
    write(folder, document)
    with pytest.raises(Invalid) as caught:
        config.load(folder)
    assert message in caught.value.message
    assert fix in caught.value.fix


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o622])
def test_a_file_that_others_reach_is_not_used(folder: StateFolder, mode: int) -> None:
    write(folder, {"token": "secret"}, mode)
    with pytest.raises(Forbidden, match="can be reached by others") as caught:
        config.load(folder)
    assert caught.value.fix == "run `dispatch doctor --fix`"


def test_a_link_in_place_of_a_secret_is_not_followed(folder: StateFolder, tmp_path: Path) -> None:
    folder.create()
    other = tmp_path / "other"
    other.write_text("{}")
    other.chmod(0o600)
    folder.config.symlink_to(other)
    with pytest.raises(Forbidden):
        config.load(folder)
    assert [(path, wrong) for path, wrong, _ in folder.problems()] == [(folder.config, "is a symbolic link")]
    assert folder.repair() == []


def test_a_pipe_in_place_of_a_secret_does_not_hang(folder: StateFolder) -> None:
    folder.create()
    os.mkfifo(folder.config, 0o600)
    with pytest.raises(Forbidden, match="is not a file"):
        read_private(folder.config)


def test_repair_takes_the_modes_away(folder: StateFolder) -> None:
    write(folder, {}, 0o644)
    folder.path.chmod(0o755)
    assert [path for path, _, _ in folder.problems()] == [folder.path, folder.config]
    assert folder.repair() == [folder.path, folder.config]
    assert folder.problems() == []


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://Broker.Example/", "https://broker.example"),
        ("https://broker.example/dispatch/", "https://broker.example/dispatch"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://localhost:1", "http://localhost:1"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_a_broker_address_has_one_form(url: str, canonical: str) -> None:
    assert config.broker_url(url) == canonical


@pytest.mark.parametrize(
    "url",
    [
        "http://broker.example",
        "http://10.0.0.1",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "https://user:pw@broker.example",
        "https://broker.example?x=1",
        "https://broker.example/#x",
        "https://",
        "broker.example",
        "https://a b",
        "https://[::1",
        "https://x:99999",
    ],
)
def test_a_wrong_broker_address_is_refused(url: str) -> None:
    with pytest.raises(Invalid) as caught:
        config.broker_url(url)
    assert "https://" in caught.value.fix


def test_flags_come_before_variables_and_variables_before_the_file(folder: StateFolder) -> None:
    write(folder, {"broker": "https://file.example", "token": "file"})
    env = {"DISPATCH_BROKER": "https://env.example", "DISPATCH_TOKEN": "env"}
    one = config.resolve(folder, env={})
    two = config.resolve(folder, env=env)
    three = config.resolve(folder, broker="https://flag.example", token="flag", env=env)
    assert [(s.broker, s.token) for s in (one, two, three)] == [
        ("https://file.example", "file"),
        ("https://env.example", "env"),
        ("https://flag.example", "flag"),
    ]


def test_a_saved_token_goes_to_no_other_broker(folder: StateFolder) -> None:
    write(folder, {"broker": "https://file.example", "token": "file"})
    assert config.resolve(folder, broker="https://other.example", env={}).token == ""
    assert config.resolve(folder, broker="https://FILE.example/", env={}).token == "file"
    assert config.set_value(config.load(folder), "broker", "https://other.example").token == ""


def test_variables_for_the_model(folder: StateFolder) -> None:
    settings = config.resolve(folder, env={"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": "http://127.0.0.1:7/"})
    assert (settings.model.api_key, settings.model.base_url) == ("k", "http://127.0.0.1:7")
    write(folder, {"model": {"name": "claude-sonnet-5"}})
    assert config.resolve(folder, env={}).model.name == "claude-sonnet-5"
    assert config.resolve(folder, env={"DISPATCH_EXECUTOR_MODEL": "claude-opus-5-5"}).model.name == "claude-opus-5-5"
    with pytest.raises(Invalid, match=r"model\.name"):
        config.resolve(folder, env={"DISPATCH_EXECUTOR_MODEL": "two words"})


def test_no_token_says_what_to_type(folder: StateFolder) -> None:
    with pytest.raises(NotSignedIn, match="no token") as caught:
        config.resolve(folder, env={}).require_token()
    assert (caught.value.code, caught.value.fix) == (401, "run `dispatch login --broker URL`")
    with pytest.raises(NotSignedIn):
        Settings().require_broker()


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("port", "0", 0),
        ("listen", "/ip4/127.0.0.1/tcp/1, /ip4/127.0.0.1/tcp/2", ["/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/2"]),
        ("email", " Alice@Example.ORG ", "alice@example.org"),
        ("model.api_key", "sk-x", "sk-x"),
        ("model.name", "", ""),
    ],
)
def test_set_then_get(key: str, text: str, value: object) -> None:
    assert config.get_value(config.set_value(Settings(), key, text), key) == value


def test_roots_are_stored_absolute_and_must_exist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "code").mkdir()
    assert config.set_value(Settings(), "roots", "code").roots == (str(tmp_path / "code"),)
    for nothing in ("nothing", "n" * 300):  # the second was seen as a bug of dispatch
        with pytest.raises(Invalid, match="there is no folder"):
            config.set_value(Settings(), "roots", nothing)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("port", "x"),
        ("port", "-1"),
        ("runtime", "gpt"),
        ("token", "two words"),
        ("nope", "1"),
    ],
)
def test_set_refuses(key: str, text: str) -> None:
    with pytest.raises(Invalid) as caught:
        config.set_value(Settings(), key, text)
    assert caught.value.fix
    if key == "token":
        assert text not in caught.value.message


def test_secrets_are_masked_and_every_key_is_shown() -> None:
    values = config.shown(Settings(token="secret-1", model=ModelSettings(api_key="secret-2")))
    assert list(values) == list(KEYS)
    assert (values["token"], values["model.api_key"]) == (MASK, MASK)
    assert "secret-" not in str(values)


@given(st.text(max_size=40), st.sampled_from(sorted(KEYS)))
def test_whatever_is_typed_is_taken_or_refused_properly(text: str, key: str) -> None:
    try:
        new = config.set_value(Settings(), key, text)
    except DispatchError as error:
        assert error.code == 422
    else:
        config.set_value(new, "port", "1")
