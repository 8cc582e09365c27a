"""Generates docs/mcp.md from the tools: `python -m mcp_plugin.reference > docs/mcp.md`."""

from __future__ import annotations

import sys

from mcp_plugin.arguments import Arguments, JsonSchema, schema
from mcp_plugin.tools import TOOLS, Entry

HEAD = """\
# The MCP server

Written by `python -m mcp_plugin.reference`; a test compares. `dispatch-mcp` speaks MCP on standard input and output,
for the session of an agent's program; [plugin.md](plugin.md) says what it is to a person in Claude Code. For any other
host, `dispatch mcp-config HOST` prints the entry for its configuration.

**The node.** The server uses the running daemon. Without a daemon the session starts a node of its own: a process
beside it, which every other program of this person can use too, as long as the session lasts. After that another
session takes over, or `dispatch-daemon` does. Before anybody has signed in, every tool answers with `dispatch login`,
and nothing is started. A node with another sign-in than `$DISPATCH_BROKER` or `$DISPATCH_TOKEN` names refuses every tool
(409).

**Eras.** The versions with a handshake (`initialize`, 2024-11-05 to 2025-11-25); with `DISPATCH_MCP_ERA=auto` also
2026-07-28, for hosts that ask for it first. In that version a form ends a call, and the host repeats the call with the
answer.

**Results** are structured content. Claude Code and Codex show that to their models, so beside it they get a few words;
every other host gets the same as JSON text, too. A text of more than 2,000 characters in a waiting call is shown by its
head, its tail, its length and its SHA-256. Beyond 40 KB the longest texts of a result go to files of the state
folder (`long_texts`). What other people wrote stands in fields named `untrusted_…`, or is listed in the `note` beside
it, with control and bidirectional characters made visible. Errors are `{code, message, fix}` with `isError`; the
codes are those of [protocol.md](protocol.md). A `fix` names the tool that helps, or what the person does in a terminal;
an unknown name is answered with the contacts that it may mean (`candidates`). Lists have `more` and `next`, the `before`
of the next page.

**Time.** `accept`, `approve`, `deny` and `watch` follow a run, with progress, to its next gate (`status:
"approval_needed"`), its end, or for 45 seconds: then the result is `running`, and its `next` is the call that goes on.
Nothing that happens in between is lost. Time in which a form is open does not count. In Claude Code with the plugin a
call follows for an hour, since each further one is a turn of its model's; `DISPATCH_MCP_CALL_SECONDS` sets another
number. Cancelling a call leaves the run alone.

**Whose yes it is.** A host's model reads what senders wrote, so what it says is nobody's consent:

| where | a yes is given |
|---|---|
| Claude Code with the plugin | in the *picker*: the host asks its person the result's `question`, unchanged (an entry of AskUserQuestion's `questions`), the plugin's hook compares, and the answer is passed on. With `approval_ui` `form`, in a form at each gate |
| a host with forms (elicitation) | in a *form* of this server: for the dispatch, for each call of its run, for an invitation with its menu |
| a host without | on the local page (`dispatch open`) or in a terminal. The model shows numbered text, which only informs; `accept` and `approve` are refused (403), with the exact command, and a waiting call has `answer_at` |

A *no* (decline, deny, cancel, revoke) and a narrower edge are accepted from any host. An approval within 1.2 seconds of
the call being shown is not. If you drive this server with a picker of your own, and trust it, set
`DISPATCH_APPROVAL_UI=picker`. A send is asked about by the host's own permission question, and in Claude Code by the
plugin's: keep those on.

A dispatch that waits has a `question` in the inbox and its status, which names the folder it would run in; `accept`
returns `folder_choice_required`, and runs nothing, where a folder is suggested that the person has to choose, and where
something will not work in the folder and the session was not told so.

**A person's own word**, in a form that the server asks for, is needed everywhere for `always`, for accepting an
invitation, for every wider edge, and for what a run changed or returned. Where the host has no forms the refusal (403)
names the command for a terminal.

## Hosts

`dispatch mcp-config claude|codex|gemini|cursor` prints an entry with the path of this installation's `dispatch-mcp`, the
time that one call may take, and `DISPATCH_HOME` if it is set, since hosts keep unknown variables from their servers. Each
host's own permission questions stay: no entry trusts this server. As the hosts' documents were in November 2026:

| host | file | format | forms | what is missing |
|---|---|---|---|---|
| Claude Code | `~/.claude.json`; better `dispatch plugin install` | JSON | yes | without the plugin: the skill, the picker, what waits at a session's start |
| Codex | `~/.codex/config.toml` | TOML, a table `mcp_servers.dispatch` | yes; its limit does not run while one is open | picker, skill, news. A call has 60 seconds unless `tool_timeout_sec` says more, as here |
| Gemini CLI | `~/.gemini/settings.json` | JSON | no | picker and forms: decide on the page or in a terminal |
| Cursor | `~/.cursor/mcp.json`, or `.cursor/mcp.json` of a project | JSON | yes | picker, skill, news; no setting for the time of a call, so a form left open for a minute may end it. `watch` shows the call again |

Any other host that starts a program and speaks MCP: `command` is the absolute path of `dispatch-mcp`, without
arguments.

## Tools

Every tool refuses arguments that it does not know (422), and those that the given `action` or `what` does not use.
"""  # noqa: E501 the rows of its tables


def render() -> str:
    """Return the whole document."""
    return HEAD + "".join(_tool(entry) for entry in TOOLS.values())


def _tool(entry: Entry[Arguments]) -> str:
    hints = ["read-only" if entry.reads else "destructive" if entry.destroys else "additive"]
    hints += [] if entry.reads else ["open world"]
    described = schema(entry.arguments)
    lines = [f"\n### {entry.name}\n", f"{entry.description} *({', '.join(hints)})*\n"]
    if described["properties"]:
        required = described.get("required", [])
        lines.append("| argument | is | |\n|---|---|---|")
        lines += [
            f"| `{name}`{'' if name in required else '?'} | {_kind(about)} | {_cell(about)} |"
            for name, about in described["properties"].items()
        ]
    else:
        lines.append("No arguments.")
    return "\n".join(lines) + "\n"


_LIMITS = {"maxLength": "characters", "maxItems": "of them", "maxProperties": "pairs"}


def _cell(about: JsonSchema) -> str:
    limits = [f"at most {about[name]:,} {unit}" for name, unit in _LIMITS.items() if name in about]
    return "; ".join([about.get("description", ""), *limits]).replace("|", "&#124;")


def _kind(about: JsonSchema) -> str:
    if "enum" in about:
        return " &#124; ".join(f"`{choice}`" for choice in about["enum"])
    if "anyOf" in about:
        return " or ".join(_kind(choice) for choice in about["anyOf"])
    if about.get("type") == "array":
        return f"list of {_kind(about.get('items', {}))}"
    return {"string": "text", "integer": "number", "object": "texts by name"}.get(
        str(about.get("type")), str(about.get("type", "any"))
    )


if __name__ == "__main__":
    sys.stdout.write(render())
