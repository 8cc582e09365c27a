"""Renders the table of statements as CDDL (RFC 8610), for docs/protocol.md and other implementations. Pure."""

from __future__ import annotations

import re

from peer.protocol.cose import ALG, EDDSA, KID, TYP
from peer.protocol.fields import IGNORABLE
from peer.protocol.growth import FIRST_IGNORABLE, LAST_IGNORABLE
from peer.protocol.names import MAX_USER_ID, PEER_ID_PREFIX
from peer.protocol.signing import media_type
from peer.protocol.statements import TYPES, Statement, parts_of
from peer.protocol.table import DEVICE_FORM, FIELDS, FILE_FORM

_TEXT = re.compile(r"\btext-(\d+)\b")
_WIDTH = 100


def render() -> str:
    """Return the CDDL of every statement: the envelope, one rule for each type, then the shared rules."""
    rules = [_envelope(), *(_statement(kind) for kind in TYPES.values()), _shared()]
    body = "\n\n".join(rules)
    sizes = sorted({int(size) for size in _TEXT.findall(body)})
    # .size counts bytes, our limits count characters, and a character has at most four bytes in UTF-8.
    texts = "\n".join(f"text-{size} = tstr .size (0..{4 * size})  ; at most {size} characters" for size in sizes)
    return f"{body}\n\n{texts}\n"


def _envelope() -> str:
    types = " / ".join(f'"{media_type(name)}"' for name in TYPES)
    return f"""\
statement = #6.18([
  protected: bstr .cbor header,
  unprotected: {{}},
  payload: bstr .cbor content,
  signature: bstr .size 64,
])

header = {{
  {ALG}: {EDDSA},  ; alg: EdDSA
  {KID}: peer-id / digest,  ; kid: the device's peer id, or the SHA-256 of the root key
  {TYP}: media-type,  ; typ
}}

media-type = {_wrapped(types)}

content = {_wrapped(" / ".join(TYPES))}"""


def _statement(kind: type[Statement]) -> str:
    lines = [
        f'  {FIELDS["type"].key}: "{kind.type_name}",  ; type',
        f"  {FIELDS['version'].key}: {kind.version},  ; version",
    ]
    for part in sorted(parts_of(kind), key=lambda part: FIELDS[part.name].key):
        field = FIELDS[part.name]
        lines.append(f"  {'' if part.required else '? '}{field.key}: {_named(field.form.cddl)},  ; {part.name}")
    lines.append(f"  {IGNORABLE},")
    return "\n".join((f"{kind.type_name} = {{", *lines, "}"))


def _named(cddl: str) -> str:
    for name, form in (("device", DEVICE_FORM), ("file", FILE_FORM)):
        cddl = cddl.replace(form.cddl, name)
    return cddl


def _shared() -> str:
    return f"""\
device = {DEVICE_FORM.cddl}
  ; peer id, X25519 key for sealing, name, membership

file = {FILE_FORM.cddl}
  ; base name, size in bytes, SHA-256

user-id = tstr .size (3..{MAX_USER_ID})  ; an e-mail address, ASCII, in lower case
peer-id = bstr .size {len(PEER_ID_PREFIX) + 32}  ; h'{PEER_ID_PREFIX.hex()}' and the Ed25519 key
uuid = bstr .size 16  ; UUIDv7
digest = bstr .size 32  ; SHA-256
ignorable = {FIRST_IGNORABLE}..{LAST_IGNORABLE}  ; keys of later versions: signed, kept, without effect"""


def _wrapped(alternatives: str) -> str:
    """Break a long choice into lines before its slashes."""
    lines = [""]
    for part in alternatives.split(" / "):
        if len(lines[-1]) + len(part) > _WIDTH:
            lines.append("")
        lines[-1] += f" / {part}" if lines != [""] else part
    return "\n ".join(lines)
