"""Caches of cargo, npm, go, uv and pip as these tools lay them out, with made-up contents."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import zipfile
from pathlib import Path

import msgspec

from peer.projects.lock_files import Package
from sandbox.network.packages.grammar import crate_path

PUBLIC = "registry+https://github.com/rust-lang/crates.io-index"
NPM = "https://registry.npmjs.org/"


def cargo_cache(home: Path, *archives: str, registry: str = "index.crates.io-0123") -> None:
    """Crates, by the names of their archives, in ~/.cargo."""
    for archive in archives:
        places = {
            f"cache/{registry}/{archive}.crate": archive,
            f"index/{registry}/config.json": "{}",
            f"index/{registry}/.cache/{crate_path(archive.rpartition('-')[0])}": "index",
        }
        for place, content in places.items():
            file = home / ".cargo/registry" / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)


def npm_cache(home: Path, name: str, content: bytes, *, registry: str = NPM) -> Package:
    """A package in ~/.npm, and how package-lock.json names it."""
    address = f"{registry}{name}/-/{name}-1.0.0.tgz"
    digest = hashlib.sha512(content)
    integrity = f"sha512-{base64.b64encode(digest.digest()).decode()}"
    key = f"make-fetch-happen:request-cache:{address}"
    line = json.dumps({"key": key, "integrity": integrity})
    for part, of, text in (
        ("index-v5", hashlib.sha256(key.encode()).hexdigest(), f"\n{hashlib.sha1(line.encode()).hexdigest()}\t{line}"),
        ("content-v2/sha512", digest.hexdigest(), content.decode()),
    ):
        file = home / ".npm/_cacache" / part / of[:2] / of[2:4] / of[4:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return Package("npm", name, "1.0.0", address, integrity)


def h1(files: dict[str, bytes]) -> str:
    """go's digest of files (golang.org/x/mod/sumdb/dirhash, Hash1)."""
    lines = (f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return f"h1:{base64.b64encode(hashlib.sha256(''.join(lines).encode()).digest()).decode()}"


def go_cache(
    home: Path, name: str, version: str, files: dict[str, str], *, known: bool = True
) -> tuple[Package, Package]:
    """A module in ~/go, and how go.sum names it. `known`: to the public checksum database.

    By the documents of go (go.dev/ref/mod); test_seeds.py shows that go takes it where there is one.
    """
    content = {f"{name}@{version}/{file}": text.encode() for file, text in files.items()}
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for file, text in content.items():
            archive.writestr(file, text)
    mod = files["go.mod"].encode()
    sums = (h1(content), h1({"go.mod": mod}))
    escaped, escaped_version = (
        "".join(f"!{each.lower()}" if each.isupper() else each for each in text) for text in (name, version)
    )
    lookup = (
        f"7\n{name} {version} {sums[0]}\n{name} {version}/go.mod {sums[1]}\n\n"
        "go.sum database tree\n8\nAAAA\n\n— sum.golang.org AAAA\n"
    )
    written = {
        f"{escaped}/@v/{escaped_version}.info": json.dumps({"Version": version}).encode(),
        f"{escaped}/@v/{escaped_version}.mod": mod,
        f"{escaped}/@v/{escaped_version}.zip": packed.getvalue(),
        f"{escaped}/@v/{escaped_version}.ziphash": sums[0].encode(),
        **({f"sumdb/sum.golang.org/lookup/{escaped}@{escaped_version}": lookup.encode()} if known else {}),
    }
    for place, data in written.items():
        file_path = home / "go/pkg/mod/cache/download" / place
        file_path.parent.mkdir(parents=True, exist_ok=True)
        file_path.write_bytes(data)
    return (
        Package("go", name, version, integrity=sums[0]),
        Package("go", name, version, integrity=sums[1], file="go.mod"),
    )


def uv_pointer(archive: str, sha256: str, wheel: str, address: str, bucket: int) -> bytes:
    """A .http file: before wheels-v8 with the policy's length at its end, then with the value's, and other hashes."""
    if bucket < 8:
        value = msgspec.msgpack.encode([archive, [["Sha256", sha256]], wheel, 0])
        policy = address.encode() + bytes(100)
        return value + policy + len(policy).to_bytes(8, "little")
    value = msgspec.msgpack.encode([archive, [{"Sha256": sha256}], wheel, 0, 1])
    return value + bytes(9) + address.encode() + bytes(100) + len(value).to_bytes(8, "little")


def uv_cache(
    home: Path, name: str, *, bucket: int = 8, index: str = "pypi", files: str = "https://files.pythonhosted.org/"
) -> Package:
    """A wheel in ~/.cache/uv, and how uv.lock names it."""
    wheel, archive = f"{name}-1.0-py3-none-any.whl", f"{name}_id-{bucket}"
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    address = f"{files}packages/{wheel}"
    about = f"{name}-1.0.dist-info"
    contents = {
        f"{name}/__init__.py": f"print('{name}')\n",
        f"{name}/bin/tool": "#!/bin/sh\n",
        f"{about}/METADATA": "x",
    }
    rows = [
        f"{place},sha256={base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip('=')},1"
        for place, text in contents.items()
    ]
    contents[f"{about}/RECORD"] = "\n".join([*rows, f"{about}/RECORD,,"])
    for place, text in contents.items():
        file = home / ".cache/uv/archive-v0" / archive / place
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (home / ".cache/uv/archive-v0" / archive / name / "bin/tool").chmod(0o755)
    pointer = home / f".cache/uv/wheels-v{bucket}/{index}/{name}/1.0-py3-none-any.http"
    pointer.parent.mkdir(parents=True, exist_ok=True)
    pointer.write_bytes(uv_pointer(archive, sha256, wheel, address, bucket))
    pointer.with_suffix("").symlink_to(home / ".cache/uv/archive-v0" / archive)
    return Package("pip", name, "1.0", address, f"sha256:{sha256}", "https://pypi.org/simple")


def pip_cache(home: Path, name: str, *, files: str = "https://files.pythonhosted.org/") -> Package:
    """A wheel that was built here, in ~/.cache/pip, and how a list of requirements names its sources."""
    sha256 = hashlib.sha256(name.encode()).hexdigest()
    folder = home / ".cache/pip/wheels/1a/b0/8c" / sha256[:50]
    folder.mkdir(parents=True)
    (folder / f"{name}-1.0-py3-none-any.whl").write_text(name)
    archive = {"hash": f"sha256={sha256}", "hashes": {"sha256": sha256}}
    (folder / "origin.json").write_text(
        json.dumps({"archive_info": archive, "url": f"{files}packages/{name}-1.0.tar.gz"})
    )
    return Package("pip", name, "1.0", integrity=f"sha256:{sha256}")
