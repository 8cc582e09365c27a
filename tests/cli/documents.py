"""Well-formed documents of the loopback API, as the daemon gives them, and a hostile text to put into their fields."""

from __future__ import annotations

from typing import Any

from peer.trust import invitation_address

FIRST = "0198c0de-1111-7222-8333-4444abcd5555"
SECOND = "0198c0de-2222-7222-8333-4444aaaa7777"
THIRD = "0198c0df-3333-7222-8333-5555aaaa7777"
TOKEN = "0198c0de-9999-7222-8333-444455556666"
ADDRESS = invitation_address.build_address("https://b.example", token=TOKEN, digest=bytes(32), secret=bytes(32))

HOSTILE = "\x1b[2J\x1b]0;owned\x07evil\r\nerror: fake\u202egnp.exe\u2066\x9b31m\x00\u2028\U000e0041<b>[red]x[/red]"
"""Clears the screen, sets the title, fakes a line, reverses text, hides tags, and is markup to rich."""

FORBIDDEN = [
    chr(code) for code in (*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x2028, 0x2029, 0x202E, 0x2066)
]
FORBIDDEN += [chr(0xE0041)]
"""What no output may hold, the newline aside."""


def row(identity: str = FIRST, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "dispatch_id": identity,
        "status": "pending",
        "direction": "received",
        "peer": "alice@example.org",
        "sender_id": "alice@example.org",
        "recipient_id": "bob@example.org",
        "task": "Find why the build fails",
        "created": "2026-11-22T12:00:00.000Z",
        "expires_at": "2026-11-22T13:00:00.000Z",
        "updated": "2026-11-22T12:00:01.000Z",
        "attempt": 0,
    }
    return {**base, **changes}


def events() -> list[dict[str, Any]]:
    at = "2026-11-22T12:01:00.000Z"
    return [
        {"seq": 1, "attempt": 1, "at": at, "kind": "status", "status": "running", "detail": "bwrap"},
        {"seq": 2, "attempt": 1, "at": at, "kind": "reasoning", "text": "I look at the Makefile."},
        {
            "seq": 3,
            "attempt": 1,
            "at": at,
            "kind": "tool_call",
            "call_id": "c1",
            "tool": "Read",
            "input": {"file_path": "/w/Makefile"},
        },
        {
            "seq": 4,
            "attempt": 1,
            "at": at,
            "kind": "approval",
            "call_id": "c1",
            "outcome": "allowed",
            "by": "person",
            "grant": "once",
            "note": "fine",
        },
        {
            "seq": 5,
            "attempt": 1,
            "at": at,
            "kind": "tool_result",
            "call_id": "c1",
            "ok": True,
            "output": "all:\n\tcc x.c",
        },
    ]


def document(identity: str = FIRST, **changes: Any) -> dict[str, Any]:
    base = row(identity) | {
        "project": "shop",
        "links": ["https://example.org/a"],
        "deliverable": "a diagnosis",
        "background": "since Monday",
        "meta": {"ticket": "42"},
        "parent": None,
        "files": [{"name": "log.txt", "size": 10, "sha256": "0" * 64, "ready": True}],
        "events": events(),
        "approvals": [],
        "result": None,
        "suggestion": None,
        "edge_id": TOKEN,
        "cwd": None,
    }
    return {**base, **changes}


def result(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "status": "completed",
        "reply": "The tab in line 2\nis a space.",
        "files": [],
        "usage": {"turns": 3, "cost_usd": 0.02, "seconds": 4.5},
        "sandbox": {"tier": "bwrap"},
        "scope": None,
        "reason": None,
        "attempt": 1,
        "events": 5,
    }
    return {**base, **changes}


def approval(identity: str = FIRST, request: str = "r-1", **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "dispatch_id": identity,
        "request_id": request,
        "tool": "Write",
        "input": {"file_path": "notes.md", "content": "one\ntwo"},
        "resolved_path": "/home/bob/shop/notes.md",
        "diff": "@@ -1 +1 @@\n-old\n+one",
        "rule_if_always": {"tool": "Write", "pattern": "/home/bob/shop/notes.md"},
        "sandbox": "full",
        "unusual": [],
        "sender_id": "alice@example.org",
        "expires_in": 118,
    }
    return {**base, **changes}


def edge(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "trust_link_id": TOKEN,
        "from_user": "alice@example.org",
        "to_user": "bob@example.org",
        "direction": "incoming",
        "peer": "alice@example.org",
        "alias": "ally",
        "scopes": {
            "tools": ["Read", "Glob", "Grep"],
            "mcp_servers": [],
            "paths": ["/home/bob/shop"],
            "approval": "manual",
            "max_per_day": 50,
            "expires": None,
            "results": "full",
        },
        "status": "active",
        "peer_online": True,
        "can_edit_scopes": True,
        "verified": False,
        "path": "direct",
        "path_since": "2026-11-22T12:00:00.000Z",
        "round_trip_ms": 12,
        "addresses_typed": ["/ip4/192.0.2.7/tcp/4001/p2p/12D3KooWAlice"],
        "fingerprint": "tulip-anvil 1234",
        "budgets": {"minutes": 60, "turns": 100, "usd": 5.0, "output_bytes": 104857600},
        "git_folders": {"/home/bob/wt": "/home/bob/main/.git"},
        "pinned_servers": [
            {"name": "github", "command": "npx server-github", "tools": ["issue_read"]},
            {"name": "notes", "command": "notes --stdio", "tools": None},
        ],
        "rules": [{"id": 7, "tool": "Write", "pattern": "/home/bob/shop/x", "created": "2026-11-22T12:00:00.000Z"}],
    }
    return {**base, **changes}


def offer(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "status": "scope_choice_required",
        "inviter": "alice@example.org",
        "menu": ["1", "2"],
        "installed_mcp_servers": ["github"],
        "fingerprint": "tulip-anvil 1234",
        "verified": False,
        "standing": "Their key is not verified. Compare the fingerprint with them before you permit much.",
    }
    return {**base, **changes}


def me() -> dict[str, Any]:
    return {
        "user_id": "bob@example.org",
        "device_id": "12D3KooWBob",
        "device_name": "laptop",
        "fingerprint": "rose-hammer 5678",
        "root_stored": "file",
        "broker": "https://broker.example",
        "broker_signed_in": True,
        "brokers": [
            {
                "url": "https://b.example",
                "first": True,
                "email": "alice@example.org",
                "signed_in": True,
                "answers": True,
                "since": "2026-11-22T12:00:00.000Z",
                "error": None,
                "waiting": 0,
            }
        ],
        "daemon": {
            "running": True,
            "pid": 1,
            "port": 8001,
            "peer_id": "12D3KooWBob",
            "addresses": ["/ip4/1.2.3.4/tcp/5"],
            "version": "0.1.0",
        },
        "runtime": {"name": "claude", "version": "2.1", "login": "api key", "login_fix": ""},
        "sandbox": {"tier": "bwrap", "reason": "", "fix": ""},
    }


def every_text_hostile(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """Return the document with HOSTILE in each text, except under the keys that a command must be able to use."""
    if isinstance(value, str):
        return HOSTILE
    if isinstance(value, list):
        return [every_text_hostile(item, keep) for item in value]
    if isinstance(value, dict):
        return {
            (name if not name.startswith("ticket") else HOSTILE): item
            if name in keep
            else every_text_hostile(item, keep)
            for name, item in value.items()
        }
    return value
