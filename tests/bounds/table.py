"""What one peer, local user, run or broker account can make us hold: each resource with its bound and its test.

A bound is the constant that the programs use, never a copy. `held_in` names the containers and tables that hold the
resource, as containers.py spells them; what is neither is described in words. test_bounds.py compares this table with
the programs: a container or table without a row fails, and so does a row of something that is gone. `docs/bounds.md` is
made from it: `python -m tests.bounds.document`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, cast, get_args

import rendezvous.app
import rendezvous.invitations
import rendezvous.presence
import rendezvous.signin_pages
import rendezvous.tokens
import rendezvous.web
from mcp_plugin import announce, results, server, session, transport
from peer.api import connections as api_connections
from peer.api import routes
from peer.api.page import guard, sessions, stream, uploads
from peer.broker import client as broker_client
from peer.broker import presence as peer_presence
from peer.client import http
from peer.dispatches import reports, retention
from peer.machine import disguises, log_file, mcp_servers, settings
from peer.mesh.blobs import BlobLimits
from peer.mesh.courier import driver, wire
from peer.mesh.courier.limits import CourierLimits
from peer.mesh.guards.swarm import SwarmLimits
from peer.mesh.guards.yamux import YamuxLimits
from peer.mesh.host import MeshLimits
from peer.mesh.peer_record import MAX_ADDRESSES
from peer.node import changes, colouring, delivery, notifications
from peer.projects import discovery
from peer.protocol import codec, content, growth, table
from peer.runs import recorder, removal
from peer.steps import hellos, inbound, inviting, receiving
from peer.trust import edge_lifecycle, fingerprints, scopes
from rendezvous import change_signal, ratelimit
from rendezvous.connections import ConnectionLimits
from rendezvous.storage import limits as storage_limits
from rendezvous.storage.sqlite import database
from sandbox import supervisor
from sandbox.changes import bounds as change_bounds
from sandbox.changes import colours as change_colours
from sandbox.commits import confined, gathering
from sandbox.confinement import walk
from sandbox.confinement.bubblewrap import zone_server
from sandbox.confinement.profile import Limits
from sandbox.frames import MAX_LINE
from sandbox.gate import gate
from sandbox.mcp import server as mcp_server
from sandbox.model_api.anthropic import scripted_model
from sandbox.model_api.connection import ProxyLimits
from sandbox.run import collect
from sandbox.runtimes.claude import session as claude_session
from sandbox.runtimes.claude import transport as claude_transport
from sandbox.views import copy as view_copies

Whose = Literal["a peer", "a local user", "a run", "a broker account", "the person"]
"""Who makes us hold it. "a local user": anybody who may connect to this machine's loopback ports."""

PER_ACT: Final = 1
"""What grows by the person's own acts, one for each, and by nothing else."""

_courier = CourierLimits()
_swarm = SwarmLimits()
_yamux = YamuxLimits()
_storage = storage_limits.StorageLimits()
_machine = Limits()
_proxy = ProxyLimits()
_connections = ConnectionLimits()


@dataclass(frozen=True, kw_only=True)
class Row:
    """One resource. `limit` is in `unit`; `test` is the node id of the test that shows that the bound is enforced."""

    what: str
    whose: Whose
    limit: float
    unit: str
    held_in: tuple[str, ...]
    test: str


def _default(function: Callable[..., object], name: str) -> int:
    """Return the default of a parameter."""
    return cast(int, inspect.signature(function).parameters[name].default)


PEER: Final[tuple[Row, ...]] = (
    Row(
        what="connections of one peer",
        whose="a peer",
        limit=_swarm.connections_per_peer,
        unit="connections",
        held_in=("sockets of the mesh",),
        test="tests/mesh/test_host.py::test_one_peer_has_a_few_connections_the_newest_ones",
    ),
    Row(
        what="inbound handshakes, of strangers too",
        whose="a peer",
        limit=_swarm.pending_handshakes,
        unit="handshakes",
        held_in=(
            "peer.mesh.guards.handshakes:Handshakes._under_way",
            "peer.mesh.guards.handshakes:Handshakes._expected",
        ),
        test="tests/mesh/test_host.py::test_half_open_connections_keep_nobody_out",
    ),
    Row(
        what="addresses where admitted peers connected from",
        whose="a peer",
        limit=_swarm.addresses_remembered,
        unit="addresses",
        held_in=("peer.mesh.guards.swarm:GuardedSwarm._seen_at",),
        test="tests/mesh/test_handshakes.py::test_addresses_where_contacts_were_seen_are_forgotten_when_there_are_many",
    ),
    Row(
        what="connected devices with what they share",
        whose="a peer",
        limit=_swarm.connections,
        unit="connections",
        held_in=("peer.mesh.guards.yamux:SafeMuxer._shares",),
        test="tests/mesh/test_host.py::test_so_many_peers_are_connected_at_once",
    ),
    Row(
        what="open streams that a device opened",
        whose="a peer",
        limit=_yamux.inbound_streams,
        unit="streams, on all its connections together",
        held_in=("peer.mesh.guards.yamux:SafeYamux.streams", "peer.mesh.guards.yamux:SafeYamux._backlog"),
        test="tests/mesh/test_yamux.py::test_a_flood_of_streams_is_cut_off",
    ),
    Row(
        what="received data that nobody has read, beyond the first window of each stream",
        whose="a peer",
        limit=_yamux.window_budget,
        unit="bytes a device, on all its connections together",
        held_in=("peer.mesh.guards.yamux_stream:SafeYamuxStream._buffer",),
        test="tests/mesh/test_memory.py::test_a_device_makes_us_hold_a_bounded_number_of_bytes",
    ),
    Row(
        what="replies to control frames that the peer does not read",
        whose="a peer",
        limit=_yamux.control_frames,
        unit="frames a connection",
        held_in=("peer.mesh.guards.yamux:SafeYamux._control",),
        test="tests/mesh/test_yamux.py::test_a_flood_of_pings_nobody_reads_the_answers_of_ends_the_connection",
    ),
    Row(
        what="data for a peer that waits for its socket",
        whose="a peer",
        limit=_yamux.queued_data,
        unit="bytes a connection",
        held_in=("peer.mesh.guards.yamux:SafeYamux._data",),
        test="tests/mesh/test_yamux.py::test_small_writes_pass_bulk_on_the_same_connection",
    ),
    Row(
        what="a frame that is being received",
        whose="a peer",
        limit=wire.MAX_FRAME,
        unit="bytes a stream",
        held_in=("peer.protocol.frames:Deframer._buffer",),
        test="tests/system/test_refusals.py::test_frames_without_end",
    ),
    Row(
        what="a statement",
        whose="a peer",
        limit=codec.MAX_BYTES,
        unit="bytes",
        held_in=("a statement that is opened",),
        test="tests/protocol/test_codec.py::test_too_many_bytes_are_refused_before_they_are_read",
    ),
    Row(
        what="the parts of a statement",
        whose="a peer",
        limit=codec.MAX_ITEMS,
        unit="items",
        held_in=("a statement that is opened",),
        test="tests/protocol/test_codec.py::test_too_many_items_are_refused_both_ways",
    ),
    Row(
        what="keys of a statement that this version ignores",
        whose="a peer",
        limit=growth.MAX_IGNORED,
        unit="keys",
        held_in=("a statement that is opened",),
        test="tests/protocol/test_growth.py::test_what_is_ignored_is_bounded",
    ),
    Row(
        what="frames of unknown kinds on one stream",
        whose="a peer",
        limit=wire.MAX_UNKNOWN,
        unit="frames",
        held_in=("the state of a stream",),
        test="tests/mesh/test_courier_receiver.py::test_frames_of_unknown_kinds_are_ignored_up_to_a_limit",
    ),
    Row(
        what="statements for one peer in memory, with what is to be done about them",
        whose="a peer",
        limit=_courier.in_flight,
        unit="statements",
        held_in=(
            "peer.mesh.courier.window:Window._in_flight",
            "peer.mesh.courier.window:Window._storing",
            "peer.mesh.courier.sender:PeerSender._commands",
            "peer.mesh.courier.driver:SenderDriver._to_do",
            "peer.mesh.courier.driver:SenderDriver._to_store",
        ),
        test="tests/mesh/test_courier_sender.py::test_at_most_sixteen_are_out_until_they_are_recorded",
    ),
    Row(
        what="bytes of these",
        whose="a peer",
        limit=_courier.in_flight_bytes,
        unit="bytes",
        held_in=("frames that wait for the socket",),
        test="tests/mesh/test_courier_sender.py::test_at_most_a_mebibyte_is_out_and_a_larger_statement_goes_alone",
    ),
    Row(
        what="statements that a peer asked for again later",
        whose="a peer",
        limit=_courier.retries_waiting,
        unit="statements",
        held_in=("peer.mesh.courier.window:Window._waiting", "peer.mesh.courier.window:Window._tried"),
        test="tests/mesh/test_courier_sender.py::test_too_many_retries_waiting_hold_everything_up_until_one_is_due",
    ),
    Row(
        what="events for a sender that does not run, each kind once",
        whose="a peer",
        limit=len(get_args(driver.OutsideEvent)),
        unit="events",
        held_in=("peer.mesh.courier.driver:SenderDriver._early",),
        test="tests/mesh/test_courier.py::test_a_courier_that_runs_again_goes_on_where_it_was",
    ),
    Row(
        what="streams of the courier",
        whose="a peer",
        limit=_swarm.connections,
        unit="streams, one each way of a connected peer",
        held_in=(
            "peer.mesh.courier.courier:Courier._inbound",
            "peer.mesh.courier.driver:SenderDriver._streams",
        ),
        test="tests/mesh/test_courier.py::test_a_newer_stream_of_a_peer_ends_its_older_one",
    ),
    Row(
        what="what is kept in memory for each device of a contact",
        whose="a peer",
        limit=table.MAX_DEVICES,
        unit="devices a contact",
        held_in=(
            "peer.mesh.courier.courier:Courier._senders",
            "peer.mesh.courier.courier:Courier._turns",
            "peer.node.delivery:BlobFetcher._resting",
            "peer.node.delivery:BlobFetcher._under_way",
            "peer.node.people:Admission._users",
            "peer.node.people:People._connected",
            "peer.node.people:People._looked_up",
            "peer.node.people:People._wake",
        ),
        test="tests/mesh/test_courier.py::test_nothing_is_kept_of_a_peer_that_is_admitted_no_longer",
    ),
    Row(
        what="devices of a contact, and what each signed last",
        whose="a peer",
        limit=table.MAX_DEVICES,
        unit="devices in a device-set, one set for each invitation that was answered",
        held_in=("peer.store/contact_devices", "peer.store/memberships"),
        test="tests/protocol/test_statements.py::test_limits",
    ),
    Row(
        what="the hello of a device",
        whose="a peer",
        limit=hellos.MAX_HELLO,
        unit="bytes",
        held_in=("a row of contact_devices",),
        test="tests/steps/test_growth.py::test_a_hello_has_a_largest",
    ),
    Row(
        what="the presence of contacts that was asked for lately",
        whose="a peer",
        limit=MAX_ADDRESSES,
        unit="addresses a device",
        held_in=("peer.broker.sync:BrokerSync._presence",),
        test="tests/broker/test_sync.py::test_what_was_learned_of_presence_is_forgotten_when_it_is_old",
    ),
    Row(
        what="dials under way, to all peers together",
        whose="a peer",
        limit=_courier.dials,
        unit="dials",
        held_in=("tasks of the courier",),
        test="tests/mesh/test_courier.py::test_so_many_peers_are_dialled_at_once",
    ),
    Row(
        what="dials to the addresses of one contact",
        whose="a peer",
        limit=MeshLimits().dials_per_minute,
        unit="dials a minute",
        held_in=("peer.mesh.dialing:DialBudget._dials",),
        test="tests/mesh/test_dialing.py::test_all_devices_of_a_contact_have_one_number_of_dials",
    ),
    Row(
        what="files that one peer fetches at once",
        whose="a peer",
        limit=BlobLimits().streams_per_peer,
        unit="streams",
        held_in=("peer.mesh.blobs:serve.busy",),
        test="tests/mesh/test_blobs.py::test_a_peer_has_a_few_transfers_at_once",
    ),
    Row(
        what="files of one peer that are taken up together",
        whose="a peer",
        limit=delivery.PULLED_AT_ONCE,
        unit="files",
        held_in=("peer.node.delivery:BlobFetcher._one_by_one",),
        test="tests/node/test_blob_fetcher.py::test_what_is_held_of_a_sender_does_not_grow_with_its_files",
    ),
    Row(
        what="files that were fetched before anybody accepted them",
        whose="a peer",
        limit=receiving.MAX_WAITING_BYTES,
        unit="bytes an edge and day",
        held_in=("the folder of blobs",),
        test="tests/steps/test_hostile_sender.py::test_files_that_nobody_accepted_are_bounded_and_swept",
    ),
    Row(
        what="events and files of all dispatches from one contact, or of all to one; then nothing new is taken or sent",
        whose="a peer",
        limit=retention.CONTACT_BYTES,
        unit="bytes each way, and what the runs under way add",
        held_in=("peer.store/held", "the folder of blobs"),
        test="tests/steps/test_thinning.py::test_what_is_kept_of_one_contact_is_bounded",
    ),
    Row(
        what="of these, what a recipient's machine reports of runs; then its events and returned files are refused",
        whose="a peer",
        limit=retention.CONTACT_BYTES,
        unit="bytes",
        held_in=("rows of trace and event_batches",),
        test="tests/steps/test_thinning.py::test_a_recipient_reports_no_more_than_there_is_room_for",
    ),
    Row(
        what="of these, changes of runs that wait for the person; they are never removed to make room",
        whose="a peer",
        limit=retention.CONTACT_BYTES,
        unit="bytes",
        held_in=("peer.store/change_sets", "the folder of changes"),
        test="tests/steps/test_change_sets.py::test_changes_that_wait_fill_the_room_of_a_contact",
    ),
    Row(
        what="of these, what runs returned and the person has not sent yet; it is never removed to make room",
        whose="a peer",
        limit=retention.CONTACT_BYTES,
        unit="bytes",
        held_in=("peer.store/unreleased", "peer.store/unreleased_events"),
        test="tests/steps/test_releasing.py::test_what_is_held_counts_and_is_not_thinned",
    ),
    Row(
        what="dispatches over one edge",
        whose="a peer",
        limit=scopes.MAX_PER_DAY,
        unit="dispatches a day, or fewer as the person grants",
        held_in=("peer.store/dispatches", "peer.store/searchable", "peer.store/history"),
        test="tests/steps/test_life.py::test_the_daily_rate",
    ),
    Row(
        what="what a recipient's device says of the changes of its run; the newest is kept, and waits to be sent",
        whose="a peer",
        limit=scopes.MAX_PER_DAY,
        unit="dispatches a day over one edge, with one report each",
        held_in=("peer.store/landing_reports",),
        test="tests/steps/test_landing_reports.py::test_at_most_one_report_of_a_dispatch_waits_and_what_says_the_same_is_not_sent",
    ),
    Row(
        what="files of a dispatch, and files that it returns",
        whose="a peer",
        limit=content.MAX_FILES,
        unit="files each",
        held_in=("peer.store/files", "peer.store/freed_blobs"),
        test="tests/dispatches/test_payload.py::test_one_past_a_limit_is_too_large_by_how_much",
    ),
    Row(
        what="one file",
        whose="a peer",
        limit=content.MAX_FILE_BYTES,
        unit="bytes",
        held_in=("the folder of blobs",),
        test="tests/dispatches/test_payload.py::test_one_past_a_limit_is_too_large_by_how_much",
    ),
    Row(
        what="statements of one device that are remembered, for eight days",
        whose="a peer",
        limit=inbound.MAX_REMEMBERED,
        unit="statements",
        held_in=("peer.store/seen", "peer.store/tombstones", "peer.store/remembered"),
        test="tests/steps/test_hostile_sender.py::test_what_one_device_makes_us_remember_is_bounded",
    ),
    Row(
        what="the signed events that a recipient's machine reports of one dispatch",
        whose="a peer",
        limit=reports.MAX_TRACE_BYTES,
        unit="bytes",
        held_in=("peer.store/event_batches",),
        test="tests/steps/test_hostile_recipient.py::test_a_trace_without_end_ends",
    ),
    Row(
        what="live views and notifications that a peer's dispatches cause",
        whose="a peer",
        limit=notifications.REMEMBERED,
        unit="notifications remembered",
        held_in=("peer.node.notifications:Notifier._seen",),
        test="tests/node/test_notifications.py::test_so_many_are_shown_a_minute_and_so_many_are_remembered",
    ),
    Row(
        what="notifications that are shown",
        whose="a peer",
        limit=notifications.MOST_A_MINUTE,
        unit="a minute",
        held_in=("peer.node.notifications:Notifier._times",),
        test="tests/node/test_notifications.py::test_so_many_are_shown_a_minute_and_so_many_are_remembered",
    ),
    Row(
        what="changes that are kept for views that reconnect",
        whose="a peer",
        limit=changes.KEPT,
        unit="changes",
        held_in=("peer.node.changes:ChangeLog._changes",),
        test="tests/node/test_notifications.py::test_a_log_of_changes_keeps_the_newest",
    ),
)

LOCAL_USER: Final[tuple[Row, ...]] = (
    Row(
        what="connections to the loopback port",
        whose="a local user",
        limit=api_connections.MAX_CONNECTIONS,
        unit="connections, of all users together",
        held_in=("peer.api.local_users:Places._held",),
        test="tests/system/test_api_guard.py::test_connections_are_bounded_and_over_with_their_client",
    ),
    Row(
        what="connections of another user to the loopback port",
        whose="a local user",
        limit=api_connections.FOR_ONE_OTHER_USER,
        unit="connections",
        held_in=("sockets of the loopback port",),
        test="tests/system/test_api_guard.py::test_places_of_this_user_come_first",
    ),
    Row(
        what="the body of a request",
        whose="a local user",
        limit=guard.MAX_BODY,
        unit="bytes",
        held_in=("a request",),
        test="tests/system/test_api_guard.py::test_bodies_of_another_form",
    ),
    Row(
        what="what a program buffers of an answer on the daemon's port, whoever sends it",
        whose="a local user",
        limit=http.MAX_BODY,
        unit="bytes",
        held_in=(
            "peer.client.http:Response._body",
            "peer.client.http:Response._raw",
            "peer.client.http:EventParser._data",
        ),
        test="tests/cli/test_client.py::test_an_event_without_end_is_cut",
    ),
    Row(
        what="the head of such an answer",
        whose="a local user",
        limit=http.MAX_HEAD,
        unit="bytes",
        held_in=("peer.client.http:Response.headers",),
        test="tests/cli/test_client.py::test_another_program_on_the_port_is_named_as_such",
    ),
)

RUN: Final[tuple[Row, ...]] = (
    Row(
        what="memory of all its processes",
        whose="a run",
        limit=_machine.memory,
        unit="bytes",
        held_in=("processes in the sandbox",),
        test="tests/attacks/test_exhaustion.py::test_the_run_is_ended",
    ),
    Row(
        what="processes and threads",
        whose="a run",
        limit=_machine.processes,
        unit="processes",
        held_in=("processes in the sandbox",),
        test="tests/attacks/test_exhaustion.py::test_a_whole_run_says_which_bound_it_passed",
    ),
    Row(
        what="processor time of one process",
        whose="a run",
        limit=_machine.cpu_seconds,
        unit="seconds",
        held_in=("processes in the sandbox",),
        test="tests/sandbox/test_canaries.py::test_limits_gone_is_noticed",
    ),
    Row(
        what="open files of one process",
        whose="a run",
        limit=_machine.open_files,
        unit="descriptors",
        held_in=("processes in the sandbox",),
        test="tests/sandbox/test_confinement.py::test_limits_hold",
    ),
    Row(
        what="one file that it writes",
        whose="a run",
        limit=_machine.file_size,
        unit="bytes",
        held_in=("the folders that it may write",),
        test="tests/sandbox/test_confinement.py::test_limits_hold",
    ),
    Row(
        what="disk in its own folders",
        whose="a run",
        limit=_machine.disk,
        unit="bytes",
        held_in=("the folder of the run",),
        test="tests/attacks/test_exhaustion.py::test_the_run_is_ended",
    ),
    Row(
        what="files in its own folders",
        whose="a run",
        limit=_machine.files,
        unit="files",
        held_in=("the folder of the run",),
        test="tests/attacks/test_exhaustion.py::test_the_run_is_ended",
    ),
    Row(
        what="its /tmp",
        whose="a run",
        limit=_machine.tmp_size,
        unit="bytes",
        held_in=("a file system in memory",),
        test="tests/sandbox/test_confinement.py::test_limits_hold",
    ),
    Row(
        what="minutes",
        whose="a run",
        limit=scopes.BUDGET_BOUNDS["minutes"][1],
        unit="minutes, or fewer as the person grants",
        held_in=("the run's place on this machine",),
        test="tests/sandbox/test_agent.py::test_the_clock_of_the_budget_ends_a_run",
    ),
    Row(
        what="turns of the model",
        whose="a run",
        limit=scopes.BUDGET_BOUNDS["turns"][1],
        unit="turns, or fewer as the person grants",
        held_in=("the model's bill",),
        test="tests/sandbox/test_runtime_claude.py::test_a_program_that_does_not_count_its_turns_is_ended_from_outside",
    ),
    Row(
        what="money for the model",
        whose="a run",
        limit=scopes.BUDGET_BOUNDS["usd"][1],
        unit="USD, or less as the person grants",
        held_in=("the model's bill",),
        test="tests/sandbox/test_runtime_claude.py::test_a_program_that_does_not_count_its_money_is_ended_from_outside",
    ),
    Row(
        what="a request to the model",
        whose="a run",
        limit=_proxy.request_bytes,
        unit="bytes",
        held_in=("the model proxy",),
        test="tests/sandbox/test_model_proxy.py::test_encoded_and_oversized_bodies",
    ),
    Row(
        what="an answer of the model",
        whose="a run",
        limit=_proxy.response_bytes,
        unit="bytes",
        held_in=("the model proxy",),
        test="tests/sandbox/test_model_proxy.py::test_redirects_errors_and_silence_upstream",
    ),
    Row(
        what="connections to the model proxy",
        whose="a run",
        limit=_proxy.connections,
        unit="connections",
        held_in=("the model proxy",),
        test="tests/sandbox/test_model_proxy.py::test_bad_clients_disturb_nobody",
    ),
    Row(
        what="tool calls that are judged and recorded",
        whose="a run",
        limit=gate.CALLS_OF_A_RUN,
        unit="calls",
        held_in=(
            "sandbox.gate.gate:Gate._seen",
            "sandbox.mcp.bridge:McpBridge._tickets",
            "sandbox.runtimes.claude.session:_Session._judged",
            "peer.store/approvals",
            "peer.store/trace",
        ),
        test="tests/sandbox/test_gate.py::test_a_run_makes_so_many_calls_and_leaves_no_trace_of_more",
    ),
    Row(
        what="shell commands that run at once, each with the launcher that waits for it",
        whose="a run",
        limit=zone_server.CONNECTIONS,
        unit="commands",
        held_in=(
            "sandbox.confinement.bubblewrap.zone_server:Zone._launchers",
            "sandbox.confinement.bubblewrap.zone_server:Zone._commands",
        ),
        test="tests/sandbox/test_zone.py::test_there_is_a_bound_on_commands_at_once",
    ),
    Row(
        what="tool calls that wait for the gate",
        whose="a run",
        limit=claude_session.CALLS_AT_ONCE,
        unit="calls",
        held_in=(
            "sandbox.gate.gate:Gate._pending",
            "sandbox.gate.shells:Shells._held",
            "sandbox.runtimes.claude.session:_Session._allowed",
            "sandbox.runtimes.claude.session:_Session._announced",
            "sandbox.runtimes.claude.session:_Session._calls",
            "sandbox.runtimes.claude.session:_Session._calls_send",
        ),
        test="tests/sandbox/test_claude_session.py::test_so_many_calls_are_held_and_more_are_denied_at_once",
    ),
    Row(
        what="one line between the agent's process and the node",
        whose="a run",
        limit=MAX_LINE,
        unit="bytes",
        held_in=("pipes of the agent's process",),
        test="tests/sandbox/test_frames.py::test_a_line_over_the_limit_ends_the_conversation",
    ),
    Row(
        what="the output of one tool call in the trace",
        whose="a run",
        limit=supervisor._OUTPUT_KEPT,
        unit="characters",
        held_in=("rows of trace",),
        test="tests/sandbox/test_mcp_bridge.py::test_a_trace_keeps_the_beginning_of_a_long_result",
    ),
    Row(
        what="events that wait to be stored",
        whose="a run",
        limit=recorder.MAX_BUFFERED,
        unit="events",
        held_in=("peer.runs.recorder:Recorder._events",),
        test="tests/runs/test_run_buffers.py::test_events_wait_in_memory_up_to_a_bound",
    ),
    Row(
        what="signed events of one dispatch that wait for its sender",
        whose="a run",
        limit=reports.MAX_REPORTED_BYTES,
        unit="bytes",
        held_in=("peer.store/outbox",),
        test="tests/steps/test_records.py::test_nothing_is_recorded_past_the_bound",
    ),
    Row(
        what="files that it returns",
        whose="a run",
        limit=scopes.BUDGET_BOUNDS["output_bytes"][1],
        unit="bytes, or fewer as the person grants",
        held_in=("peer.runs.returned_files:Returned.files", "sandbox.run.returned:ReturnedFiles.files"),
        test="tests/sandbox/test_agent.py::test_returned_files_over_the_budget_are_left_out_and_named",
    ),
    Row(
        what="entries that are looked at for them",
        whose="a run",
        limit=collect._MAX_ENTRIES,
        unit="entries",
        held_in=(
            "peer.runs.returned_files:Returned.left_out",
            "sandbox.run.collect:_Taking.files",
            "sandbox.run.collect:_Taking.left_out",
            "sandbox.run.collect:_Taking.taken",
            "sandbox.run.collect:walk.waiting",
        ),
        test="tests/sandbox/test_collect.py::test_deep_and_wide_trees_end",
    ),
    Row(
        what="files of a view that is a copy",
        whose="a run",
        limit=view_copies.MAX_ENTRIES,
        unit="files, of all views together",
        held_in=("the folder of the run", "sandbox.views.copy:Left.named"),
        test="tests/sandbox/test_views.py::test_a_copy_is_bounded",
    ),
    Row(
        what="levels of folders in such a view",
        whose="a run",
        limit=view_copies.MAX_DEPTH,
        unit="levels",
        held_in=("sandbox.views.copy:Copying._way",),
        test="tests/sandbox/test_views.py::test_a_copy_of_what_is_nested_without_end",
    ),
    Row(
        what="bytes of them",
        whose="a run",
        limit=view_copies.MAX_BYTES,
        unit="bytes, of all views together",
        held_in=("the folder of the run",),
        test="tests/sandbox/test_views.py::test_a_copy_is_bounded",
    ),
    Row(
        what="changes of a run",
        whose="a run",
        limit=change_bounds.MAX_ENTRIES,
        unit="entries of a change set",
        held_in=(
            "sandbox.changes.bounds:Bounds._said",
            "sandbox.changes.comparing:Comparison.drafts",
            "sandbox.changes.comparing:Comparison.handles",
            "sandbox.changes.draft:Draft.marks",
            "sandbox.changes.draft:Draft.notes",
            "sandbox.changes.ignored:VersionControl._asked",
            "sandbox.changes.overlay_reader:OverlayReader._lost",
        ),
        test="tests/sandbox/changes/test_hostile.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="changes that are put in place or taken back together",
        whose="a run",
        limit=change_bounds.MAX_ENTRIES,
        unit="entries of a change set",
        held_in=(
            "peer.landing.engine:_roll_back.beside",
            "peer.landing.placing:Mover._unsynced",
            "peer.landing.planning:Planner._added",
            "peer.landing.planning:Planner._before",
            "peer.landing.planning:Planner._made",
            "peer.landing.planning:Planner._modes",
            "peer.landing.planning:Planner._removed",
            "peer.landing.planning:Planner._spellings",
            "peer.landing.planning:Planner.commits",
            "peer.landing.planning:Planner.refusals",
            "peer.landing.tree:Tree._open",
            "peer.landing.undoing:Undo._refused",
            "peer.runs.returned_files:Returned.not_seen",
        ),
        test="tests/sandbox/changes/test_hostile.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="names that are looked at to find them",
        whose="a run",
        limit=change_bounds.MAX_LOOKED_AT,
        unit="names",
        held_in=(
            "sandbox.changes.copy_reader:CopyReader._conflicts",
            "sandbox.changes.copy_reader:CopyReader._seen",
            "sandbox.changes.copy_reader:CopyReader._staying",
            "sandbox.changes.copy_reader:CopyReader._unlisted",
            "sandbox.changes.copy_reader:CopyReader._whole",
        ),
        test="tests/sandbox/changes/test_hostile.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="one file that is kept of them",
        whose="a run",
        limit=change_bounds.MAX_FILE,
        unit="bytes",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_hostile.py::test_what_is_too_large_is_named_and_not_read",
    ),
    Row(
        what="all files that are kept of them",
        whose="a run",
        limit=change_bounds.MAX_KEPT,
        unit="bytes",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_hostile.py::test_contents_together_are_bounded",
    ),
    Row(
        what="a text of it that gets colours",
        whose="a run",
        limit=change_colours.MAX_COLOURED,
        unit="characters",
        held_in=("the node's memory, before and after, and once more for each that waits",),
        test="tests/node/test_colouring.py::test_what_is_too_long_is_not_asked",
    ),
    Row(
        what="texts of it that wait for their colours",
        whose="a run",
        limit=colouring.MAX_WAITING,
        unit="files",
        held_in=("the tasks that wait in peer.node.colouring",),
        test="tests/node/test_colouring.py::test_few_wait_for_their_colours",
    ),
    Row(
        what="colours of one",
        whose="a run",
        limit=change_colours.MAX_ANSWER,
        unit="bytes",
        held_in=("an answer of sandbox.changes.colouring",),
        test="tests/node/test_colouring.py::test_no_answer_is_no_colours",
    ),
    Row(
        what="commits that are kept of one repository",
        whose="a run",
        limit=gathering.MAX_COMMITS,
        unit="commits",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_commits.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="branches of them, in one repository",
        whose="a run",
        limit=gathering.MAX_BRANCHES,
        unit="branches",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_commits.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="all that they hold, of one repository",
        whose="a run",
        limit=gathering.MAX_PACK,
        unit="bytes",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_commits.py::test_what_is_too_much_is_said",
    ),
    Row(
        what="the text that shows them, of one repository",
        whose="a run",
        limit=gathering.MAX_TEXT,
        unit="bytes",
        held_in=("the folder of the change set",),
        test="tests/sandbox/changes/test_commits.py::test_a_text_that_is_too_long_is_cut_and_says_so",
    ),
    Row(
        what="one command of git that looks at them",
        whose="a run",
        limit=int(confined.SECONDS),
        unit="seconds",
        held_in=("a sandbox",),
        test="tests/sandbox/changes/test_commits.py::test_a_repository_that_makes_git_wait_for_ever",
    ),
    Row(
        what="folders that a walk keeps open",
        whose="a run",
        limit=walk.OPEN,
        unit="descriptors",
        held_in=(
            "sandbox.confinement.walk:Folder.inner",
            "sandbox.confinement.walk:_Way._above",
            "sandbox.confinement.walk:_Way._known",
            "sandbox.confinement.walk:_Way.path",
        ),
        test="tests/sandbox/test_walk.py::test_any_depth_with_few_descriptors",
    ),
    Row(
        what="names that the removal of its folder holds at a time",
        whose="a run",
        limit=removal._MAX_NEXT,
        unit="names",
        held_in=("peer.runs.removal:Pass._next", "peer.runs.removal:Pass.left"),
        test="tests/runs/test_removal.py::test_whatever_a_run_leaves_is_removed",
    ),
    Row(
        what="file systems that it may fill and that are watched",
        whose="a run",
        limit=scopes.MAX_PATHS,
        unit="folders of a scope",
        held_in=(
            "sandbox.confinement.bubblewrap.watchdog:Watchdog._rooms",
            "sandbox.confinement.bubblewrap.resource_usage:RunProcesses._tmpfs",
        ),
        test="tests/trust/test_scopes.py::test_the_lists_of_a_scope_are_bounded",
    ),
    Row(
        what="MCP servers that are started for it, and their commands",
        whose="a run",
        limit=scopes.MAX_MCP_SERVERS,
        unit="servers",
        held_in=(
            "peer.runs.run:Run._mcp_commands",
            "sandbox.runtimes.runtime:RunContext._started",
            "sandbox.gate.shells:Shells._programs",
        ),
        test="tests/trust/test_scopes.py::test_the_lists_of_a_scope_are_bounded",
    ),
    Row(
        what="tools that one of them lists",
        whose="a run",
        limit=mcp_server.LISTED_LIMIT,
        unit="tools",
        held_in=(
            "sandbox.mcp.server:ServerConnection.listed",
            "sandbox.mcp.server:ServerConnection.left_out",
            "sandbox.mcp.bridge:McpBridge.left_out",
        ),
        test="tests/sandbox/test_mcp_bridge.py::test_a_server_that_lists_too_many_tools_does_not_start",
    ),
    Row(
        what="tools of these that are offered",
        whose="a run",
        limit=mcp_server.TOOLS_LIMIT,
        unit="tools a server",
        held_in=(
            "sandbox.mcp.server:ServerConnection.tools",
            "sandbox.mcp.bridge:McpBridge.tools",
            "sandbox.mcp.bridge:McpBridge.changed",
            "sandbox.mcp.bridge:McpBridge.first_listed",
            "sandbox.policy.decision:Scope.changed",
        ),
        test="tests/sandbox/test_mcp_bridge.py::test_a_server_that_lists_too_many_tools_does_not_start",
    ),
    Row(
        what="standard error of an MCP server",
        whose="a run",
        limit=mcp_server._STDERR_KEPT,
        unit="bytes",
        held_in=("sandbox.mcp.server:ServerConnection._stderr",),
        test="tests/sandbox/test_mcp_bridge.py::test_of_standard_error_the_end_is_kept",
    ),
    Row(
        what="standard error of the agent program",
        whose="a run",
        limit=claude_transport._STDERR_KEPT,
        unit="bytes",
        held_in=("sandbox.runtimes.claude.transport:ConfinedTransport._stderr",),
        test="tests/sandbox/test_claude_session.py::test_of_the_programs_standard_error_the_end_is_kept",
    ),
)

ACCOUNT: Final[tuple[Row, ...]] = (
    Row(
        what="invitations that wait for a person's answer on their device",
        whose="a broker account",
        limit=inviting.MAX_OPEN,
        unit="invitations, of all inviters together",
        held_in=("rows of invitations",),
        test="tests/steps/test_hostile_broker.py::test_invitations_without_end_are_not_kept",
    ),
    Row(
        what="invitations on a person's device that ended without an edge",
        whose="a broker account",
        limit=inviting.MAX_ENDED,
        unit="invitations",
        held_in=("peer.store/invitations",),
        test="tests/steps/test_hostile_broker.py::test_invitations_that_are_withdrawn_at_once_do_not_pile_up",
    ),
    Row(
        what="an answer of the broker",
        whose="a broker account",
        limit=broker_client.MAX_ANSWER,
        unit="bytes",
        held_in=("a response",),
        test="tests/broker/test_client.py::test_an_endless_answer_is_cut",
    ),
    Row(
        what="the presence of a device, opened",
        whose="a broker account",
        limit=peer_presence.MAX_RECORD,
        unit="bytes",
        held_in=("a record that is opened",),
        test="tests/broker/test_presence.py::test_bounds",
    ),
    Row(
        what="connections to the broker from one network",
        whose="a broker account",
        limit=_connections.per_network,
        unit="connections",
        held_in=("rendezvous.connections:serve_within.open_from",),
        test="tests/rendezvous/test_bounds.py::test_open_connections_leave_room_for_others",
    ),
    Row(
        what="the body of a request to the broker",
        whose="a broker account",
        limit=rendezvous.web.MAX_BODY,
        unit="bytes",
        held_in=("a request",),
        test="tests/rendezvous/test_bounds.py::test_a_body_that_is_too_large_is_refused_unread",
    ),
    Row(
        what="accounts and networks whose rate is remembered",
        whose="a broker account",
        limit=_default(ratelimit.Buckets.__init__, "max_keys"),
        unit="buckets of each kind",
        held_in=("rendezvous.ratelimit:Buckets._levels",),
        test="tests/rendezvous/test_bounds.py::test_the_memory_of_buckets_is_bounded",
    ),
    Row(
        what="requests of one user that wait for a change",
        whose="a broker account",
        limit=change_signal.WAITING_PER_USER,
        unit="requests",
        held_in=("rendezvous.change_signal:ChangeSignal._waiting",),
        test="tests/rendezvous/test_invitations.py::test_waiting_is_bounded",
    ),
    Row(
        what="what is kept for an account, in whatever state",
        whose="a broker account",
        limit=_storage.kept_bytes,
        unit="bytes",
        held_in=("rows of the broker's tables",),
        test="tests/rendezvous/storage/test_quota.py::test_two_accounts_cannot_fill_the_disk_with_answers",
    ),
    Row(
        what="the account itself: one for a verified e-mail address",
        whose="a broker account",
        limit=PER_ACT,
        unit="account an address",
        held_in=("rendezvous.storage/users", "rendezvous.storage/versions"),
        test="tests/rendezvous/storage/test_accounts.py::test_who_may_claim_an_address",
    ),
    Row(
        what="devices of an account",
        whose="a broker account",
        limit=table.MAX_DEVICES,
        unit="devices, those of the newest device-set",
        held_in=("rendezvous.storage/devices", "rendezvous.storage/memberships"),
        test="tests/rendezvous/storage/test_accounts.py::test_devices_are_those_of_the_newest_device_set",
    ),
    Row(
        what="sign-ins under way",
        whose="a broker account",
        limit=_storage.open_sign_ins,
        unit="sign-ins",
        held_in=("rendezvous.storage/logins",),
        test="tests/rendezvous/storage/test_accounts.py::test_open_sign_ins_are_bounded_for_one_source_and_in_all",
    ),
    Row(
        what="nonces, kept for as long as a signed request is valid",
        whose="a broker account",
        limit=rendezvous.writes.WINDOW_MS,
        unit="milliseconds; how many a device sends is limited by rate",
        held_in=("rendezvous.storage/nonces",),
        test="tests/rendezvous/test_bounds.py::test_writes_of_one_device_are_limited",
    ),
    Row(
        what="the sealed presence of a device",
        whose="a broker account",
        limit=rendezvous.presence.MAX_BOX,
        unit="bytes a device",
        held_in=("rendezvous.storage/presence",),
        test="tests/rendezvous/test_presence.py::test_the_size_of_a_box_is_bounded",
    ),
    Row(
        what="open invitations that an account has sent",
        whose="a broker account",
        limit=_storage.open_invitations_sent,
        unit="invitations",
        held_in=("rendezvous.storage/invitations",),
        test="tests/rendezvous/storage/test_invitations.py::test_open_invitations_are_bounded",
    ),
    Row(
        what="the sealed answer to an invitation",
        whose="a broker account",
        limit=rendezvous.invitations.MAX_SEALED,
        unit="bytes a device of the inviter",
        held_in=("rendezvous.storage/answers",),
        test="tests/rendezvous/test_invitations.py::test_a_page_of_the_largest_answers_can_be_read",
    ),
    Row(
        what="sign-in mails to one user",
        whose="a broker account",
        limit=_storage.sign_in_mails_to_one_user,
        unit="mails a day",
        held_in=("rendezvous.storage/mails",),
        test="tests/rendezvous/storage/test_accounts.py::test_nothing_uses_up_the_mails_for_somebody_else_s_sign_in",
    ),
    Row(
        what="sign-in mails to one user from one network",
        whose="a broker account",
        limit=_storage.sign_in_mails_from_one_network,
        unit="mails a day",
        held_in=("rows of mails",),
        test="tests/rendezvous/storage/test_accounts.py::test_nothing_uses_up_the_mails_for_somebody_else_s_sign_in",
    ),
    Row(
        what="invitation mails to one user",
        whose="a broker account",
        limit=_storage.invitation_mails_to_one_user,
        unit="mails a day",
        held_in=("rows of mails",),
        test="tests/rendezvous/storage/test_accounts.py::test_mails_for_invitations_are_counted_by_the_two_and_by_each_for_a_day",
    ),
    Row(
        what="invitation mails that one account causes",
        whose="a broker account",
        limit=_storage.invitation_mails_by_one_account,
        unit="mails a day",
        held_in=("rows of mails",),
        test="tests/rendezvous/storage/test_accounts.py::test_mails_for_invitations_are_counted_by_the_two_and_by_each_for_a_day",
    ),
    Row(
        what="invitation mails between two",
        whose="a broker account",
        limit=_storage.invitation_mails_between_two,
        unit="mails a day",
        held_in=("rows of mails",),
        test="tests/rendezvous/storage/test_accounts.py::test_mails_for_invitations_are_counted_by_the_two_and_by_each_for_a_day",
    ),
    Row(
        what="connections for reads of the broker's database",
        whose="a broker account",
        limit=database.READERS,
        unit="connections",
        held_in=("rendezvous.storage.sqlite.database:Database._readers",),
        test="tests/rendezvous/storage/test_sqlite.py::test_reads_do_not_wait_for_a_writer",
    ),
)

PERSON: Final[tuple[Row, ...]] = (
    Row(
        what="contacts, edges and blocked users",
        whose="the person",
        limit=PER_ACT,
        unit="for each invitation or block of theirs",
        held_in=("peer.store/contacts", "peer.store/edges", "peer.store/blocked"),
        test="tests/steps/test_inviting.py::test_one_open_invitation_a_person_and_none_to_oneself",
    ),
    Row(
        what="events and files of all dispatches that have ended; then the oldest go",
        whose="the person",
        limit=settings.Settings().retention_mb * content.MB,
        unit="bytes, or as they set retention_mb",
        held_in=("rows of trace and event_batches", "the folder of blobs"),
        test="tests/steps/test_thinning.py::test_the_oldest_go_until_the_rest_fits",
    ),
    Row(
        what="how long these are kept",
        whose="the person",
        limit=settings.Settings().retention_days,
        unit="days, or as they set retention_days",
        held_in=("rows of trace and event_batches", "the folder of blobs"),
        test="tests/steps/test_thinning.py::test_the_oldest_go_until_the_rest_fits",
    ),
    Row(
        what="writes that the broker has not confirmed",
        whose="the person",
        limit=PER_ACT,
        unit="for each answer or withdrawal of theirs",
        held_in=("peer.store/broker_outbox",),
        test="tests/steps/test_inviting.py::test_a_declined_invitation_is_answered",
    ),
    Row(
        what="times that changes of a run were put in place",
        whose="the person",
        limit=PER_ACT,
        unit="for each time that they apply some",
        held_in=("peer.store/landings",),
        test="tests/steps/test_change_sets.py::test_entries_land_once_and_the_rest_waits",
    ),
    Row(
        what="rules that are stored with an edge",
        whose="the person",
        limit=edge_lifecycle.MAX_RULES,
        unit="rules",
        held_in=("peer.store/edge_rules",),
        test="tests/trust/test_edge_lifecycle.py::test_a_rule_is_stored_once_and_only_for_a_granted_tool",
    ),
    Row(
        what="MCP servers that an edge grants",
        whose="the person",
        limit=scopes.MAX_MCP_SERVERS,
        unit="servers",
        held_in=("peer.store/edge_mcp_servers",),
        test="tests/trust/test_scopes.py::test_the_lists_of_a_scope_are_bounded",
    ),
    Row(
        what="counters of this device",
        whose="the person",
        limit=PER_ACT,
        unit="for each counter that the programs have",
        held_in=("peer.store/settings",),
        test="tests/store/test_database.py::test_a_counter_grows_whatever_the_clock_does",
    ),
    Row(
        what="runs at a time",
        whose="the person",
        limit=PER_ACT,
        unit="for each dispatch that they accept",
        held_in=("peer.runs.registry:RunRegistry._runs",),
        test="tests/steps/test_life.py::test_accepting_twice_is_one_run",
    ),
    Row(
        what="folders of runs that could not be set aside yet",
        whose="the person",
        limit=PER_ACT,
        unit="for each dispatch that they accept",
        held_in=("peer.runs.removal:Remover._stuck",),
        test="tests/runs/test_removal.py::test_what_cannot_be_set_aside_stops_nothing",
    ),
    Row(
        what="live views of a dispatch",
        whose="the person",
        limit=routes.MAX_STREAMS,
        unit="views",
        held_in=("peer.node.changes:ChangeSignal._events",),
        test="tests/system/test_api_guard.py::test_a_view_that_nobody_reads_to_the_end_is_given_back",
    ),
    Row(
        what="live streams of pages",
        whose="the person",
        limit=stream.MAX_STREAMS,
        unit="streams",
        held_in=("connections of browsers",),
        test="tests/page/test_security.py::test_streams_are_bounded_and_end_with_their_session",
    ),
    Row(
        what="sessions of browsers",
        whose="the person",
        limit=sessions.MAX_SESSIONS,
        unit="sessions",
        held_in=("peer.api.page.sessions:Sessions._sessions",),
        test="tests/page/test_sessions.py::test_one_more_browser_ends_the_oldest_session",
    ),
    Row(
        what="sign-in codes for browsers",
        whose="the person",
        limit=sessions.MAX_CODES,
        unit="codes",
        held_in=("peer.api.page.sessions:Sessions._codes",),
        test="tests/page/test_sessions.py::test_a_code_is_short_lived_and_the_oldest_of_many_stops_working",
    ),
    Row(
        what="files that were dropped on a page and not sent",
        whose="the person",
        limit=uploads.MAX_WAITING,
        unit="files",
        held_in=("the folder of uploads",),
        test="tests/page/test_security.py::test_uploads_are_bounded_private_and_gone_when_they_should",
    ),
    Row(
        what="one file of the log",
        whose="the person",
        limit=log_file.LOG_BYTES,
        unit="bytes",
        held_in=("daemon.log and the files that it was renamed to",),
        test="tests/machine/test_log_file.py::test_every_file_of_the_log_is_private",
    ),
    Row(
        what="earlier files of the log",
        whose="the person",
        limit=log_file.LOG_FILES,
        unit="files",
        held_in=("daemon.log and the files that it was renamed to",),
        test="tests/machine/test_log_file.py::test_every_file_of_the_log_is_private",
    ),
    Row(
        what="projects of this machine that are indexed",
        whose="the person",
        limit=discovery.MAX_PROJECTS,
        unit="projects",
        held_in=("peer.projects/project", "peer.projects/project_words"),
        test="tests/projects/test_discovery.py::test_count_is_bounded",
    ),
    Row(
        what="MCP servers that are configured on this machine",
        whose="the person",
        limit=mcp_servers.MAX_SERVERS,
        unit="servers",
        held_in=("peer.machine.mcp_servers:InstalledServers.servers",),
        test="tests/machine/test_mcp_servers.py::test_too_many_servers_and_names_that_cannot_be_shown",
    ),
    Row(
        what="files that are looked into for whether such a server is dispatch",
        whose="the person",
        limit=disguises.MAX_FILES,
        unit="files a server",
        held_in=("peer.machine.disguises:leads_to_dispatch.waiting",),
        test="tests/machine/test_mcp_servers.py::test_looking_into_scripts_is_bounded",
    ),
    Row(
        what="what a session of the MCP server remembers, of each kind, however long calls and ids are",
        whose="the person",
        limit=session.REMEMBERED * session.MAX_ENTRY,
        unit="bytes",
        held_in=(
            "mcp_plugin.session:Session._folders",
            "mcp_plugin.session:Session._questions",
            "mcp_plugin.session:Session._shown",
            "mcp_plugin.session:Session.followed",
            "mcp_plugin.session:Session.tools",
        ),
        test="tests/mcp_plugin/test_memory.py::test_what_a_session_remembers_is_bounded_in_bytes",
    ),
    Row(
        what="calls of a session at once",
        whose="the person",
        limit=server.MAX_CALLS,
        unit="calls",
        held_in=("tasks of dispatch-mcp",),
        test="tests/mcp_plugin/test_wire.py::test_one_call_too_many_at_a_time_is_refused",
    ),
    Row(
        what="a message of a host",
        whose="the person",
        limit=transport.MAX_LINE,
        unit="bytes",
        held_in=("standard input of dispatch-mcp",),
        test="tests/mcp_plugin/test_wire.py::test_a_line_that_is_no_message_is_answered_and_skipped",
    ),
    Row(
        what="what a tool returns within its result",
        whose="the person",
        limit=results.MAX_INLINE,
        unit="characters",
        held_in=("a result",),
        test="tests/mcp_plugin/test_refusals.py::test_long_texts_are_in_files",
    ),
    Row(
        what="what was announced to a session, and what it waits to announce",
        whose="the person",
        limit=announce.PAGE,
        unit="of each, dispatches and calls",
        held_in=("mcp_plugin.announce:Announcements._done", "mcp_plugin.announce:Announcements._seen"),
        test="tests/mcp_plugin/plugin/test_announce.py::test_so_many_dispatches_and_calls_are_looked_at",
    ),
    Row(
        what="fingerprints that were computed",
        whose="the person",
        limit=fingerprints.fingerprint.cache_parameters()["maxsize"],
        unit="keys",
        held_in=("peer.trust.fingerprints:fingerprint",),
        test="tests/trust/test_fingerprints.py::test_fingerprints_that_were_computed_are_forgotten_when_there_are_many",
    ),
    Row(
        what="requests that the scripted model of the demo remembers",
        whose="the person",
        limit=scripted_model._REMEMBERED,
        unit="requests",
        held_in=(
            "sandbox.model_api.anthropic.scripted_model:ScriptedModel.requests",
            "sandbox.model_api.anthropic.scripted_model:ScriptedModel._errors_given",
        ),
        test="tests/sandbox/test_agent_model.py::test_the_conversation_chooses_the_turn",
    ),
)

ROWS: Final[tuple[Row, ...]] = PEER + LOCAL_USER + RUN + ACCOUNT + PERSON

_ONE_CALL = "a local of one call, which fills it at most once or twice"
VALUES: Final[dict[str, str]] = {
    "cli.base:LazyGroup.entries": "the table of commands, which is in the code",
    "cli.demo.processes:DemoProcesses._started": "the three processes of the demo",
    "peer.api.page.words:permits.lines": "the lines of one scope, made for one answer",
    "peer.dispatches.fitting:Understood.versions": "read from one hello, whose size is bounded",
    "peer.dispatches.masking:Masker._found": "counts by kind of secret; the kinds are in the code",
    "peer.dispatches.masking:_Bare._ends": "two entries, for two patterns",
    "peer.machine.keychains:_within.errors": _ONE_CALL,
    "peer.machine.keychains:_within.results": _ONE_CALL,
    "peer.machine.mcp_servers:InstalledServer.env": "read from one file, whose size is bounded",
    "peer.mesh.blobs:_pull.failed": _ONE_CALL,
    "peer.mesh.dialing:race.won": _ONE_CALL,
    "peer.runs.recorder:Recorder.calls": "two counts: calls that were allowed, and denied",
    "peer.mesh.host:MeshHost._on_connected": "filled by the wiring at the start of a node",
    "peer.mesh.host:MeshHost._on_disconnected": "filled by the wiring at the start of a node",
    "peer.node.node:Node._left_runs": "folders of runs that were under way when the last process ended",
    "peer.projects.discovery:Walk.roots": "the folders that the person has set",
    "peer.protocol.statements:Result.usage": "a field of one statement, whose size is bounded",
    "peer.runs.recorder:Recorder._notes": "one note for each kind of secret that was masked, at the end of a run",
    "rendezvous.broker:Broker.responses_by_status": "counts by HTTP status; the broker itself chooses those",
    "sandbox.changes.text:_hidden": "ranges of Unicode's characters, made once",
    "sandbox.confinement.bubblewrap.watchdog:Watchdog._trees": "the agent's sandbox and the shell zone",
    "sandbox.confinement.bubblewrap.canaries:_run_inside.output": "what our own probe prints, for some seconds",
    "sandbox.confinement.bubblewrap.seccomp:allow_list": "one entry for each architecture",
    "sandbox.confinement.bubblewrap.seccomp:argument_filter": "one entry for each architecture",
    "sandbox.confinement.bubblewrap.seccomp:shell_filter": "one entry for each architecture",
    "sandbox.gate.gate:Ruling.input": "the input of one call, whose size is bounded",
    "sandbox.runtimes.gate_proof:_Witness.seen": "the calls of one proof, which a script of ours makes",
}
"""Containers that nobody outside can fill, with the reason."""
