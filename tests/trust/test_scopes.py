"""Scopes: reading what a person typed, bounds, comparing, summing up."""

import math
from datetime import UTC, datetime

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from peer.protocol.errors import DispatchError, Forbidden, Invalid
from peer.protocol.fields import LAST_TIME
from peer.trust import grants, scopes
from peer.trust.grants import McpServer, ScopeInput
from peer.trust.scopes import Budget, Scope

NOW = 1_795_000_000_000
DAY = 86_400_000

names = st.text(st.characters(categories=["Ll", "Nd"]), min_size=1, max_size=20)
scope_values = st.builds(
    Scope,
    tools=st.sets(st.sampled_from(scopes.TOOLS), min_size=1).map(scopes.ordered),
    mcp_servers=st.sets(names, max_size=4).map(lambda s: tuple(sorted(s))),
    paths=st.lists(names.map("/home/".__add__), unique=True, max_size=4).map(tuple),
    approval=st.sampled_from(scopes.APPROVALS),
    max_per_day=st.integers(1, 1000),
    expires=st.none() | st.integers(0, LAST_TIME),
    results=st.sampled_from(scopes.RESULTS),
    budget=st.builds(
        Budget,
        minutes=st.integers(1, 1440),
        turns=st.integers(1, 1000),
        usd=st.floats(0.01, 1000),
        output_bytes=st.integers(0, 250 * scopes.MB),
    ),
)


@given(scope_values)
def test_a_scope_survives_its_json(scope: Scope) -> None:
    assert scopes.decode(scopes.encode(scope)) == scope


@given(scope_values)
def test_a_summary_survives_its_text_and_holds_no_path_and_no_budget(scope: Scope) -> None:
    told = scopes.summary(scope)
    text = scopes.encode_summary(told)
    assert scopes.decode_summary(text) == told
    assert "paths" not in text and "budget" not in text
    assert len(text) <= 16_384


@given(scope_values)
def test_no_scope_widens_itself(scope: Scope) -> None:
    assert scopes.widens(scope, scope) == ()


@given(scope_values, scope_values, scope_values)
def test_narrower_is_transitive(a: Scope, b: Scope, c: Scope) -> None:
    if not scopes.widens(b, a) and not scopes.widens(c, b):
        assert not scopes.widens(c, a)


@given(scope_values, scope_values)
def test_two_scopes_that_do_not_widen_each_other_permit_the_same(a: Scope, b: Scope) -> None:
    if not scopes.widens(b, a) and not scopes.widens(a, b):
        assert msgspec.structs.replace(a, paths=()) == msgspec.structs.replace(b, paths=())


@pytest.mark.parametrize(
    "change",
    [
        {"tools": ("Read", "Grep")},
        {"mcp_servers": ("github", "mail")},
        {"paths": ("/home/bob/shop", "/home/bob/notes")},
        {"paths": ("/home/bob",)},
        {"paths": ("/home/bob/shopping",)},
        {"paths": ()},
        {"approval": "review"},
        {"approval": "auto"},
        {"max_per_day": 51},
        {"expires": NOW + 2 * DAY},
        {"expires": None},
        {"results": "full"},
        {"apply": "auto"},
        {"toolchains": ("/opt/tool",)},
        {"toolchains": ("auto",)},
        {"toolchains": ()},
        {"network": ("a.example",)},
        {"network": ("packages",)},
        {"budget": Budget(minutes=61)},
        {"budget": Budget(turns=101)},
        {"budget": Budget(usd=5.01)},
        {"budget": Budget(output_bytes=100 * scopes.MB + 1)},
        {"budget": Budget(network_bytes=1_000 * scopes.MB + 1)},
    ],
)
def test_every_part_of_a_scope_can_widen_it(change: dict[str, object]) -> None:
    old = Scope(
        tools=("Read",),
        mcp_servers=("github",),
        paths=("/home/bob/shop",),
        expires=NOW + DAY,
        results="redacted",
        toolchains=("none",),
    )
    new = msgspec.structs.replace(old, **change)
    assert len(scopes.widens(old, new)) == 1


def test_a_folder_below_a_granted_one_is_narrower() -> None:
    old = Scope(tools=("Read",), paths=("/home/bob/shop",))
    assert not scopes.widens(old, msgspec.structs.replace(old, paths=("/home/bob/shop/api",)))


def test_naming_folders_where_none_was_named_is_wider() -> None:
    assert scopes.widens(Scope(tools=("Read",)), Scope(tools=("Read",), paths=("/srv/a",))) == ("folder /srv/a",)


def test_a_flag_and_a_list_give_the_same_tools_in_order() -> None:
    assert grants.parse_tools(" Grep,Read , Glob") == ("Read", "Glob", "Grep")
    assert grants.parse_tools(["Bash", "Read", "Bash"]) == ("Read", "Bash")
    assert grants.parse_tools("Read,, Grep,") == ("Read", "Grep")


@pytest.mark.parametrize(
    ("typed", "meant"), [("Raed", "Read"), ("read", "Read"), ("BASH", "Bash"), ("Greps", "Grep"), ("Writes", "Write")]
)
def test_an_unknown_tool_is_named_with_the_nearest(typed: str, meant: str) -> None:
    with pytest.raises(Invalid) as refused:
        grants.parse_tools(["Read", typed])
    assert f"`{typed}`" in refused.value.message and f"did you mean `{meant}`?" in refused.value.message
    assert "Read, Glob, Grep, Write, Edit, Bash" in refused.value.fix
    assert refused.value.code == 422


@pytest.mark.parametrize("typed", ["", " , ", [], "*", "all", "\x1b[31mRead", "WebFetch"])
def test_no_tools_are_ever_picked_for_the_person(typed: str | list[str]) -> None:
    with pytest.raises(Invalid) as refused:
        grants.parse_tools(typed)
    assert "\x1b" not in refused.value.message


def test_a_grant_without_tools_is_refused() -> None:
    with pytest.raises(Invalid, match="no tools were chosen"):
        grants.grant(ScopeInput(approval="auto"), installed=[], now=NOW)


def test_a_grant_of_tools_alone_has_the_product_defaults() -> None:
    assert grants.grant(ScopeInput(tools="Read"), installed=["github"], now=NOW) == Scope(
        tools=("Read",),
        mcp_servers=(),
        paths=(),
        approval="manual",
        max_per_day=50,
        expires=None,
        results="full",
        budget=Budget(minutes=60, turns=100, usd=5.0, output_bytes=100 * 1024 * 1024),
    )


def test_a_star_means_the_servers_installed_now_less_dispatch() -> None:
    installed = [
        McpServer("mail"),
        McpServer("github", ("npx", "server-github")),
        McpServer("courier", ("/usr/bin/python3", "-m", "mcp_plugin.server")),
    ]
    assert grants.parse_mcp_servers("*", installed) == ("github", "mail")
    assert grants.parse_mcp_servers("none", installed) == ()
    assert grants.parse_mcp_servers("mail,github", installed) == ("github", "mail")


@pytest.mark.parametrize(
    "server",
    [
        McpServer("dispatch"),
        McpServer("plugin_dispatch_dispatch"),
        McpServer("Dispatch-MCP"),
        McpServer("friend", ("dispatch-mcp",)),
        McpServer("friend", ("/opt/x/bin/dispatch-mcp", "--stdio")),
        McpServer("friend", ("C:\\tools\\dispatch-mcp.exe",)),
        McpServer("friend", ("python", "-m", "mcp_plugin")),
        McpServer("friend", ("python", "/opt/x/mcp_plugin/server.py")),
        McpServer("friend", ("uvx", "--from", "dispatch-courier[claude]", "x")),
        McpServer("friend", ("sh", "-c", "cd /; exec dispatch-mcp")),
        McpServer("friend", ("run",), ("dispatch_send",)),
        McpServer("friend", ("run",), ("read", "mcp__plugin_x__dispatch_act")),
        McpServer("friend", ("run",), ("notes_dispatch_send",)),
        McpServer("friend", ("run",), ("x-dispatch_read",)),
        McpServer("friend", ("run",), ("x.dispatch_pending_approvals_v2",)),
        McpServer("friend", ("run",), ("Dispatch-Trust",)),
    ],
)
def test_dispatch_itself_is_never_grantable_whatever_its_name(server: McpServer) -> None:
    assert grants.parse_mcp_servers("*", [server, McpServer("mail")]) == ("mail",)
    with pytest.raises(Forbidden) as refused:
        grants.parse_mcp_servers(server.name, [server])
    assert refused.value.code == 403 and refused.value.fix


def test_other_servers_are_not_mistaken_for_dispatch() -> None:
    for server in (
        McpServer("github", ("npx", "-y", "@modelcontextprotocol/server-github"), ("create_issue",)),
        McpServer(
            "events", ("dispatcher",), ("send_dispatch", "redispatch_send", "x_dispatch_reader", "dispatcher_act")
        ),
    ):
        assert not grants.is_dispatch(server)


def test_an_unknown_server_is_named_with_the_installed_ones() -> None:
    with pytest.raises(Invalid) as refused:
        grants.parse_mcp_servers("gihtub", ["github", "mail"])
    assert "did you mean `github`?" in refused.value.message and refused.value.fix == "choose from: github, mail"
    for mixed in ("*,mail", "none,mail"):
        with pytest.raises(Invalid, match="combined with other"):
            grants.parse_mcp_servers(mixed, ["mail"])
    with pytest.raises(Invalid) as refused:
        grants.parse_mcp_servers("mail", [])
    assert refused.value.fix == "choose from: none"


def test_what_cannot_be_granted_is_in_no_star_and_has_its_reason() -> None:
    servers = [McpServer("mail"), McpServer("old", unusable="its command is gone"), McpServer("x", dispatch=True)]
    assert grants.parse_mcp_servers("*", servers) == grants.grantable_names(servers) == ("mail",)
    with pytest.raises(Invalid, match="its command is gone"):
        grants.parse_mcp_servers("old", servers)
    with pytest.raises(Forbidden):
        grants.parse_mcp_servers("x", servers)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("30d", NOW + 30 * DAY),
        ("12H", NOW + DAY // 2),
        ("8 w", NOW + 56 * DAY),
        ("90m", NOW + 90 * 60_000),
        ("1y", NOW + 365 * DAY),
        ("90s", NOW + 90_000),
        ("3600", NOW + 3_600_000),
        ("never", None),
        (None, None),
    ],
)
def test_durations(typed: str | None, meant: int | None) -> None:
    assert grants.parse_expires(typed, now=NOW) == meant


def test_an_expiry_is_a_minute_to_ten_years_away() -> None:
    assert grants.parse_expires("1m", now=NOW) == NOW + 60_000
    assert grants.parse_expires("10y", now=NOW) == NOW + grants.MAX_EXPIRY_MS
    for seconds in (-30, 59, 10 * 365 * 86_400 + 1):
        at = datetime.fromtimestamp(NOW / 1000 + seconds, UTC).isoformat()
        with pytest.raises(Invalid):
            grants.parse_expires(at, now=NOW)


def test_dates_and_times() -> None:
    def ms(*at: int) -> int:
        return int(datetime(*at, tzinfo=UTC).timestamp() * 1000)  # type: ignore[misc,arg-type]

    assert grants.parse_expires("2027-01-31", now=NOW) == ms(2027, 2, 1)
    assert grants.parse_expires("2027-01-31T10:00:00Z", now=NOW) == ms(2027, 1, 31, 10)
    assert grants.parse_expires("2027-01-31T10:00:00.000+02:00", now=NOW) == ms(2027, 1, 31, 8)


@pytest.mark.parametrize(
    "typed",
    ["", "30", "59s", "0", "20270131", "0d", "-3d", "d", "30 days", "soon", "2020-01-01", "2027-02-30", "11y", "٣d",
     "2027-01-31T10:00:00", "9999-12-31", "999999y", "2027-01-31T10:00:00+99:00"],
)  # fmt: skip
def test_an_expiry_that_is_none_is_refused_with_what_is(typed: str) -> None:
    with pytest.raises(Invalid) as refused:
        grants.parse_expires(typed, now=NOW)
    assert refused.value.fix


@pytest.mark.parametrize("typed", [0, 1001, -1, "0", "1001", "ten", "1e2", "5.0", "", True, "٣"])
def test_the_daily_rate_has_bounds(typed: int | str) -> None:
    with pytest.raises(Invalid):
        grants.parse_max_per_day(typed)
    assert grants.parse_max_per_day("50") == 50
    assert (grants.parse_max_per_day(1), grants.parse_max_per_day(1000)) == (1, 1000)


@pytest.mark.parametrize(
    "budget",
    [
        Budget(minutes=0),
        Budget(minutes=1441),
        Budget(turns=0),
        Budget(turns=1001),
        Budget(usd=0),
        Budget(usd=math.nan),
        Budget(usd=math.inf),
        Budget(output_bytes=-1),
        Budget(output_bytes=250 * 1024 * 1024 + 1),
    ],
)
def test_budgets_have_bounds(budget: Budget) -> None:
    named = grants.BudgetInput(**msgspec.structs.asdict(budget))
    with pytest.raises(Invalid) as refused:
        grants.grant(ScopeInput(tools="Read", budget=named), installed=[], now=NOW)
    assert refused.value.fix


def test_a_part_of_the_budget_is_changed_and_the_others_kept() -> None:
    old = Scope(tools=("Read",), budget=Budget(minutes=5, turns=6, usd=7.0, output_bytes=8))
    changed = grants.edit(old, ScopeInput(budget=grants.BudgetInput(turns=9)), installed=[], now=NOW)
    assert changed.budget == Budget(minutes=5, turns=9, usd=7.0, output_bytes=8)
    granted = grants.grant(ScopeInput(tools="Read", budget=grants.BudgetInput(usd=0.5)), installed=[], now=NOW)
    assert granted.budget == Budget(usd=0.5)


def test_an_edit_changes_what_was_named_and_keeps_the_rest() -> None:
    old = Scope(
        tools=("Read", "Bash"), mcp_servers=("gone",), paths=("/srv/a",), approval="auto", max_per_day=7, expires=NOW
    )
    assert grants.edit(old, ScopeInput(), installed=[], now=NOW) == old
    changed = grants.edit(old, ScopeInput(tools="Read", expires=None, paths="none"), installed=[], now=NOW)
    assert changed == msgspec.structs.replace(old, tools=("Read",), expires=None, paths=())


def test_paths_are_split_and_kept_in_order() -> None:
    assert grants.parse_paths("/srv/b, /srv/a,/srv/b") == ("/srv/b", "/srv/a")
    assert grants.parse_paths(["/srv/with,comma"]) == ("/srv/with,comma",)
    longest = "/".ljust(scopes.MAX_PATH, "x")
    most = [f"/srv/{number}" for number in range(scopes.MAX_PATHS)]
    assert grants.parse_paths([longest]) == (longest,)
    assert grants.parse_paths(most) == tuple(most)
    for bad in ("src", "./x", "~/x", ["/x"] * 33, longest + "x"):
        with pytest.raises(Invalid):
            grants.parse_paths(bad)


@pytest.mark.parametrize("field", ["approval", "results"])
def test_a_wrong_word_is_answered_with_the_right_ones(field: str) -> None:
    with pytest.raises(Invalid) as refused:
        grants.grant(ScopeInput(tools="Read", **{field: "Auto!"}), installed=[], now=NOW)  # type: ignore[arg-type]
    assert " or " in refused.value.fix


def test_the_right_words_are_taken() -> None:
    for approval in scopes.APPROVALS:
        for results in scopes.RESULTS:
            chosen = ScopeInput(tools="Read", approval=approval, results=results, max_per_day="3", mcp_servers="mail")
            scope = grants.grant(chosen, installed=["mail"], now=NOW)
            assert scope == Scope(
                tools=("Read",), mcp_servers=("mail",), approval=approval, results=results, max_per_day=3
            )


def test_what_needs_a_second_yes() -> None:
    assert scopes.needs_confirmation(Scope(tools=("Read", "Glob", "Grep"))) == ()
    assert scopes.needs_confirmation(
        Scope(tools=("Read", "Write", "Edit", "Bash"), mcp_servers=("mail",), approval="auto")
    ) == ("Write", "Edit", "Bash", "the MCP server mail", "auto approval")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b'{"tools":[]}',
        b'{"tools":["Bash","Read"]}',
        b'{"tools":["Read","Root"]}',
        b'{"tools":["Read"],"more":1}',
        b'{"tools":["Read"],"max_per_day":0}',
        b'{"tools":["Read"],"max_per_day":true}',
        b'{"tools":["Read"],"approval":"none"}',
        b'{"tools":["Read"],"paths":["x"]}',
        b'{"tools":["Read"],"paths":["/x","/x"]}',
        b'{"tools":["Read"],"expires":-1}',
        b'{"tools":["Read"],"expires":253402300800000}',
        b'{"tools":["Read"],"mcp_servers":["b","a"]}',
        b'{"tools":["Read"],"mcp_servers":["\\u202e"]}',
        b'{"tools":["Read"],"budget":{"usd":1e999}}',
        b"\xff",
    ],
)
def test_a_scope_that_breaks_its_rules_is_not_read(raw: bytes) -> None:
    with pytest.raises(Invalid):
        scopes.decode(raw)


@pytest.mark.parametrize(("field", "most"), [("mcp_servers", scopes.MAX_MCP_SERVERS), ("paths", scopes.MAX_PATHS)])
def test_the_lists_of_a_scope_are_bounded(field: str, most: int) -> None:
    def raw(count: int) -> bytes:
        return msgspec.json.encode({"tools": ["Read"], field: [f"/s{number:04}" for number in range(count)]})

    if field == "paths":
        scopes.decode(raw(most))
    with pytest.raises(Invalid, match=f"at most {most}"):
        scopes.decode(raw(most + 1))


@given(st.binary() | st.text())
def test_only_our_errors_come_out_of_reading(raw: bytes | str) -> None:
    with pytest.raises(DispatchError):
        scopes.decode(raw)
    with pytest.raises(DispatchError):
        scopes.decode_summary(raw if isinstance(raw, str) else raw.decode("latin-1"))


def test_an_older_version_reads_a_review_as_the_strictest_mode_it_knows() -> None:
    told = scopes.summary(Scope(tools=("Read",), approval="review"))
    members = msgspec.json.decode(scopes.encode_summary(told))
    assert members.pop("approval?") == "review"
    assert scopes.decode_summary(msgspec.json.encode(members).decode()).approval == "manual"
    # A mode that is still to come is left out as an older version leaves out `review`.
    later = msgspec.json.encode({**members, "approval?": "dawn"}).decode()
    assert scopes.decode_summary(later).approval == "manual"
    assert msgspec.json.decode(scopes.encode_report(Scope(tools=("Read",), approval="review")))["approval"] == "review"


@pytest.mark.parametrize(
    ("old", "new", "ways"),
    [
        ("review", "manual", ("results sent without a review",)),
        ("review", "auto", ("auto approval",)),
        ("auto", "manual", ()),
        ("auto", "review", ()),
        ("review", "review", ()),
    ],
)
def test_which_change_of_the_mode_permits_more(
    old: scopes.Approval, new: scopes.Approval, ways: tuple[str, ...]
) -> None:
    before, after = (Scope(tools=("Read",), approval=approval) for approval in (old, new))
    assert scopes.widens(before, after) == ways


@given(st.text(), st.sampled_from(["tools", "mcp_servers", "paths", "approval", "max_per_day", "expires", "results"]))
def test_no_input_of_a_person_breaks_the_reader(typed: str, field: str) -> None:
    try:
        scope = grants.grant(
            ScopeInput(**{"tools": "Read", field: typed}),  # type: ignore[arg-type]
            installed=["mail"],
            now=NOW,
        )
    except DispatchError as refused:
        assert refused.code in (403, 422) and refused.fix and refused.message.isprintable()
    else:
        assert scopes.decode(scopes.encode(scope)) == scope


@pytest.mark.parametrize("expires", [-1, LAST_TIME + 1, 1 << 53])
def test_a_contact_tells_no_expiry_that_cannot_be_shown(expires: int) -> None:
    told = msgspec.structs.replace(scopes.summary(Scope(tools=("Read",))), expires=expires)
    with pytest.raises(Invalid, match="not a time"):
        scopes.decode_summary(scopes.encode_summary(told))


def test_what_may_land_unreviewed_needs_a_confirmation() -> None:
    assert scopes.needs_confirmation(Scope(tools=("Read",), apply="auto")) == (scopes.UNREVIEWED,)
    assert scopes.needs_confirmation(Scope(tools=("Read",), approval="review")) == ()


def told(**changes: object) -> str:
    """A summary as another machine may send it."""
    members = msgspec.json.decode(scopes.encode_summary(scopes.summary(Scope(tools=("Read",)))))
    return msgspec.json.encode({**members, **changes}).decode()


def test_a_summary_says_the_mode_once_unless_it_came_later() -> None:
    assert set(msgspec.json.decode(told())) == set(scopes.Summary.__struct_fields__)


@pytest.mark.parametrize(
    "changes",
    [
        {"tools": ["Glob", "Read"]},
        {"tools": []},
        {"mcp_servers": ["b", "a"]},
        {"mcp_servers": [""]},
        {"mcp_servers": ["x" * (scopes.MAX_MCP_NAME + 1)]},
        {"max_per_day": 0},
        {"max_per_day": scopes.MAX_PER_DAY + 1},
        {"expires": -1},
    ],
)
def test_what_a_contact_tells_keeps_the_bounds_of_a_scope(changes: dict[str, object]) -> None:
    with pytest.raises(Invalid):
        scopes.decode_summary(told(**changes))


@pytest.mark.parametrize("expires", [0, LAST_TIME])
def test_the_bounds_themselves_are_within(expires: int) -> None:
    names = [f"{number:0{scopes.MAX_MCP_NAME}}" for number in range(scopes.MAX_MCP_SERVERS)]
    summary = scopes.decode_summary(told(expires=expires, mcp_servers=names))
    assert (summary.expires, len(summary.mcp_servers)) == (expires, scopes.MAX_MCP_SERVERS)
    largest = Budget(**{name: most for name, (_, most) in scopes.BUDGET_BOUNDS.items()})  # type: ignore[arg-type]
    path = "/" + "x" * (scopes.MAX_PATH - 1)
    scopes.check(Scope(tools=("Read",), paths=(path,), expires=expires, budget=largest, mcp_servers=("m",)))
    with pytest.raises(Invalid, match="absolute"):
        scopes.check(Scope(tools=("Read",), paths=(path + "x",)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("auto", ("auto",)),
        ("none", ("none",)),
        ("default", ()),
        ("/opt/b, auto,/opt/a,auto", ("auto", "/opt/b", "/opt/a")),
        (["/opt/a"], ("/opt/a",)),
    ],
)
def test_toolchains_of_a_scope(given: str | list[str], words: tuple[str, ...]) -> None:
    scope = grants.grant(ScopeInput(tools="Bash", toolchains=given), installed=(), now=NOW)
    assert scope.toolchains == words and scopes.decode(scopes.encode(scope)) == scope
    assert "toolchains" not in scopes.encode_summary(scopes.summary(scope))  # the sender gains nothing from it


@pytest.mark.parametrize(
    "given",
    [
        "",
        ",",
        "none,auto",
        "none,/opt/a",
        "default,auto",
        "opt/a",
        "~/a",
        "/opt/\x1b",
        ",".join(f"/{n}" for n in range(17)),
    ],
)
def test_what_no_toolchains_are(given: str) -> None:
    with pytest.raises(Invalid) as refused:
        grants.grant(ScopeInput(tools="Bash", toolchains=given), installed=(), now=NOW)
    assert "auto" in refused.value.fix


def test_an_edge_of_an_earlier_version_says_nothing_of_toolchains() -> None:
    assert scopes.decode(b'{"tools": ["Bash"]}').toolchains == ()
