"""What paths of registries ask for: each tool's own, and nothing that could carry more than a package's name. Pure."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.network.packages.grammar import Asked, asked_of, crate_file, crate_path, python_file, spelt
from sandbox.network.packages.listing import MOST, files
from sandbox.network.packages.wanted import KINDS, Kind, Wanted, normal_name


def anything(_: str) -> bool:
    return True


@pytest.mark.parametrize(
    ("kind", "path", "asked"),
    [
        ("pip", "requests/", Asked("list", "pip", "requests")),
        ("pip", "Zope.Interface", Asked("list", "pip", "zope-interface")),
        ("npm", "lodash", Asked("list", "npm", "lodash")),
        ("npm", "@types%2fnode", Asked("list", "npm", "@types/node")),
        ("npm", "@types/node", Asked("list", "npm", "@types/node")),
        ("npm", "lodash/-/lodash-4.17.21.tgz", Asked("file", "npm", "lodash", "4.17.21")),
        ("npm", "@types/node/-/node-22.1.0-rc.1.tgz", Asked("file", "npm", "@types/node", "22.1.0-rc.1")),
        ("cargo", "config.json", Asked("registry", "cargo")),
        ("cargo", "1/a", Asked("list", "cargo", "a")),
        ("cargo", "3/l/log", Asked("list", "cargo", "log")),
        ("cargo", "se/rd/serde_json", Asked("list", "cargo", "serde_json")),
        ("go", "golang.org/x/text/@v/list", Asked("list", "go", "golang.org/x/text")),
        ("go", "golang.org/x/text/@latest", Asked("list", "go", "golang.org/x/text")),
        ("go", "github.com/%21azure/go/@v/list", Asked("list", "go", "github.com/Azure/go")),
        ("go", "github.com/!azure/go/@v/v1.2.3.mod", Asked("file", "go", "github.com/Azure/go", "v1.2.3")),
        (
            "go",
            "golang.org/x/tools/@v/v0.0.0-20191119224855-298f0cb1881e.zip",
            Asked("file", "go", "golang.org/x/tools", "v0.0.0-20191119224855-298f0cb1881e"),
        ),
        ("go", "a.b/c/v3/@v/v3.0.0+incompatible.info", Asked("file", "go", "a.b/c/v3", "v3.0.0+incompatible")),
    ],
)
def test_what_the_tools_ask(kind: Kind, path: str, asked: Asked) -> None:
    assert asked_of(kind, path) == asked


@pytest.mark.parametrize(
    ("kind", "path"),
    [
        *(("pip", path) for path in ("", "../x", "requests/x", "a b", "requests//", "-x", "%2e%2e/x")),
        *(("npm", path) for path in ("", "-/v1/search", "-/npm/v1/security/audits", "a/-/b-1.0.0.tgz", "-/whoami")),
        *(("npm", path) for path in ("a/-/a-1.0.0.tgz/x", "@a", "@a/b/c", "a/1.0.0", "a/-/a-1.0.tgz", "..")),
        *(("cargo", path) for path in ("", "se/rd/other", "SE/rd/serde", "me", "api/v1/crates/new", "2/abc")),
        *(("go", path) for path in ("", "a.b/@v/", "a.b/@v/v1.zip", "a.b/@v/v1.2.3.exe", "a.b/../c/@latest")),
        *(("go", path) for path in ("sumdb/sum.example/lookup/x", "A.b/@latest", "a.b/@v/../../x.zip", "@latest")),
    ],
)
def test_what_is_nothing(kind: Kind, path: str) -> None:
    assert asked_of(kind, path) is None


@pytest.mark.parametrize(
    ("path", "name", "version"),
    [
        ("/packages/ab/cd/requests-2.31.0-py3-none-any.whl", "requests", "2.31.0"),
        ("/x/requests-2.31.0-py3-none-any.whl.metadata", "requests", "2.31.0"),
        ("/x/Zope_Interface-6.0.tar.gz", "zope-interface", "6.0"),
        ("/x/torch-2.1.0%2Bcpu-cp311-cp311-linux_x86_64.whl", "torch", "2.1.0+cpu"),
    ],
)
def test_files_of_python(path: str, name: str, version: str) -> None:
    assert python_file(path) == Asked("file", "pip", name, version)
    for nothing in ("/x/requests.whl", "/x/requests-.tar.gz", "/x/", "/x/requests-2.31.0.exe"):
        assert python_file(nothing) is None


def test_files_of_crates() -> None:
    there = "https://static.example/crates"
    assert crate_file(there, f"{there}/serde/1.0.1/download") == Asked("file", "cargo", "serde", "1.0.1")
    assert crate_file(there, f"{there}/serde/1.0.1/upload") is None
    assert crate_file(there, f"{there}x/serde/1.0.1/download") is None
    template = "https://s.example/{prefix}/{crate}-{version}.crate"
    assert crate_file(template, "https://s.example/Se/rd/Serde-1.0.1.crate") == Asked("file", "cargo", "Serde", "1.0.1")
    twice = "https://s.example/{lowerprefix}/{crate}/{crate}-{version}.crate"
    assert crate_file(twice, "https://s.example/3/l/Log/Log-1.0.1.crate") == Asked("file", "cargo", "Log", "1.0.1")
    assert crate_file("", "/serde/1.0.1/download") == Asked("file", "cargo", "serde", "1.0.1")
    for own in ("se/cr", "x", "SE/RD"):  # of the run's own
        assert crate_file(template, f"https://s.example/{own}/Serde-1.0.1.crate") is None
    assert crate_file(twice, "https://s.example/3/l/Log/log-1.0.1.crate") is None
    checksum = "https://s.example/{crate}/{version}/{sha256-checksum}"
    assert crate_file(checksum, f"https://s.example/log/1.0.1/{'0' * 64}") is None
    for broken in ("https://s.example/{crate}", "https://s.example/{version}{version}", "https://s.example/{prefix}"):
        assert crate_file(broken, "https://s.example/log") is None
    endless = "https://s.example/" + "{prefix}" * 30 + "{crate}{version}!"
    assert crate_file(endless, f"https://s.example/{'x' * 200}") is None
    assert [crate_path(name) for name in ("a", "ab", "abc", "Abcd")] == ["1/a", "2/ab", "3/a/abc", "ab/cd/abcd"]


@given(st.sampled_from(KINDS), st.text(max_size=60))
def test_any_path_asks_for_something_that_it_names_or_for_nothing(kind: Kind, path: str) -> None:
    asked = asked_of(kind, path)
    assert asked is None or (asked.name == normal_name(kind, asked.name) and asked.name.isascii())
    python_file(path)
    crate_file("https://s.example/{crate}/{version}", path)


@pytest.mark.parametrize(
    ("kind", "paths"),
    [
        ("pip", ["he-re/", "he-re", "He_rE/", "he-_.-_.re/"]),
        ("npm", ["@s%2fb", "@s%2Fb", "@s/b"]),
        ("go", ["a.b/!c/@v/v1.0.0-!r.zip", "a.b/%21c/@v/v1.0.0-%21r.zip"]),
        ("npm", ["@s/b/-/b-1.0.0.tgz", "@s%2fb%2F-%2fb-1.0.0.tgz"]),
    ],
)
def test_one_thing_is_asked_for_in_one_way(kind: Kind, paths: list[str]) -> None:
    """Else a run could say something by how it writes a name."""
    asked = [asked_of(kind, path) for path in paths]
    assert {spelt(each, path) for each, path in zip(asked, paths, strict=True) if each is not None} == {paths[0]}
    assert None not in asked


def test_what_is_wanted() -> None:
    crates = Wanted({"cargo": {"Adder": frozenset({"1.0"})}})
    assert crates.name("cargo", "adder") and crates.version("cargo", "Adder", "1.0")
    assert not crates.version("cargo", "adDer", "1.0")
    wanted = Wanted({"pip": {"a": frozenset({"1.0"})}})
    assert wanted.name("pip", "a") and wanted.version("pip", "a", "1.0")
    assert (
        not wanted.name("npm", "a") and not wanted.version("pip", "a", "2.0") and not wanted.version("pip", "b", "1.0")
    )
    assert Wanted(any=True).name("npm", "x") and Wanted(any=True).version("go", "x", "v1")


def test_where_a_list_says_that_files_are() -> None:
    address = "https://pypi.example/simple/a/"
    listed = b'{"files": [{"url": "https://Files.example/x/a-1.whl#sha256=0"}, {"url": "../../y/a-2.whl"}, {"url": "http://z/a"}]}'
    assert files(listed, "application/vnd.pypi.simple.v1+json", address, wanted=anything) == {
        "https://files.example/x/a-1.whl",
        "https://pypi.example/y/a-2.whl",
    }
    page = (
        b'<base href="https://b.example/d/"><a href="a-1.whl#x">1</a><a href=https://c.example/a-2.whl?q>2</a><a>3</a>'
    )
    assert files(page, "text/html", address, wanted=anything) == {
        "https://b.example/d/a-1.whl",
        "https://c.example/a-2.whl",
    }
    assert files(page, "text/html", address, wanted=lambda path: path.endswith("/d/a-1.whl")) == {
        "https://b.example/d/a-1.whl"
    }
    many = b"".join(b'<a href="f%d">x</a>' % number for number in range(MOST + 10))
    assert len(files(many, "text/html", address, wanted=anything)) == MOST
    deep = b'{"files":[],"a":' + b"[" * 100_000
    for broken in (b"{", b'{"files": 3}', b"\xff\xfe", b'{"files":[{"url":"\xff"}]}', deep):
        assert files(broken, "application/json", address, wanted=anything) == frozenset()
    assert files(b'<base href="http://["><a href="x">', "text/html", address, wanted=anything) == frozenset()


@pytest.mark.parametrize(
    "file",
    [
        *("https://127.0.0.1/a-1.whl", "https://[::1]/a-1.whl", "https://10.1/a-1.whl", "https://0x7f.1/a-1.whl"),
        *("https://intranet/a-1.whl", "https://wiki.internal/a-1.whl", "https://me:you@b.example/a-1.whl"),
        *("https://b.example:0/a-1.whl", "https://b.example:99999/a-1.whl", "https://.example.org/a-1.whl"),
        *("http://b.example/a-1.whl", "https://a..b/a-1.whl", "https://[/a-1.whl", "https://é.example/a-1.whl"),
    ],
)
def test_a_list_leads_to_hosts_of_the_internet(file: str) -> None:
    """Else it could have this machine's HTTP proxy look up another, and reach it in the person's own network."""
    content = msgspec.json.encode({"files": [{"url": file}, {"url": "/b-1.whl"}]})
    listed = files(content, "application/json", "https://nexus.internal/simple/a/", wanted=anything)
    assert listed == {"https://nexus.internal/b-1.whl"}


@given(st.binary(max_size=200))
def test_any_list_is_read(content: bytes) -> None:
    for content_type in ("application/json", "text/html"):
        assert all(
            file.startswith("https://")
            for file in files(content, content_type, "https://x.example/simple/a/", wanted=anything)
        )
