"""What the page shows and does to set this machine up: sign-in, model key, sandbox, project folders; and settings.

The same before and after this machine has an identity, so it needs no node.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Final

import msgspec
import trio
from starlette.requests import Request
from starlette.routing import Route

from peer.api import agent
from peer.api.page.sign_in_flow import SignInFlow
from peer.api.responses import Body, Reply, as_json, body_of
from peer.machine import model_key, model_route, sandbox_proof, setup_state
from peer.machine import settings as settings_file
from peer.machine.setting_keys import KEYS
from peer.machine.settings import Settings
from peer.machine.state_folder import StateFolder
from peer.projects.survey import survey
from peer.protocol.documents import Document
from peer.protocol.errors import DispatchError, Forbidden, Invalid, Unauthorized, Unavailable

EDITABLE: Final = frozenset({"notifications", "roots", "approval_ui", "lan", "map_port", "model.name", "model.price"})
"""What the page may set. The rest decides whom this machine trusts, where its key goes, or what is deleted, and is set
on a terminal, or by a step of the set-up that says what it does."""

SURVEY_SECONDS: Final = 60.0


class BrokerBody(Body):
    broker: Annotated[str, msgspec.Meta(max_length=512)]
    email: Annotated[str, msgspec.Meta(max_length=320)] = ""


class KeyBody(Body):
    key: Annotated[str, msgspec.Meta(max_length=8192)]


class SettingBody(Body):
    key: Annotated[str, msgspec.Meta(max_length=64)]
    value: Annotated[str, msgspec.Meta(max_length=16_384)]


class SetupRoutes:
    """One method per route.

    `current()` returns the settings in force; `reload` puts a change of config.json in force; `flow` signs in.
    """

    def __init__(
        self,
        folder: Callable[[], StateFolder],
        current: Callable[[], Settings],
        reload: Callable[[], Awaitable[None]],
        flow: SignInFlow,
    ) -> None:
        self._folder = folder
        self._current = current
        self._reload = reload
        self._flow = flow
        self._machine: Document | None = None
        self._proof: Document | None = None
        self._asking = trio.Lock()
        self._surveyed: tuple[tuple[str, ...], float, list[Document]] = ((), float("-inf"), [])

    def table(self) -> list[Route]:
        """Return the routes."""
        return [
            Route("/v1/page/setup", as_json(self.state)),
            Route("/v1/page/setup/sign-in", as_json(self.sign_in), methods=["POST"]),
            Route("/v1/page/setup/sign-in", as_json(self.give_up), methods=["DELETE"]),
            Route("/v1/page/setup/model-key", as_json(self.set_model_key), methods=["POST"]),
            Route("/v1/page/setup/sandbox", as_json(self.prove), methods=["POST"]),
            Route("/v1/page/settings", as_json(self.settings)),
            Route("/v1/page/settings", as_json(self.change), methods=["PATCH"]),
        ]

    async def state(self, _request: Request) -> Reply:
        """Return {parts, project_folders, sandbox, sign_in, broker, email, roots, can_run}.

        `parts`: [{name, done, detail, command, needed}].
        """
        await self._look_at_machine()
        return await self._document()

    async def sign_in(self, request: Request) -> Reply:
        """Begin a sign-in at a broker; return as `state`, with the code that the person agrees to."""
        body = await body_of(request, BrokerBody)
        broker = settings_file.broker_url(body.broker.strip())
        await self._flow.begin(broker, body.email.strip() or None)
        return await self._document()

    async def give_up(self, _request: Request) -> Reply:
        """Give up the sign-in that is under way; return as `state`."""
        self._flow.cancel()
        return await self._document()

    async def set_model_key(self, request: Request) -> Reply:
        """Ask the model's API whether it takes a key and save it; return as `state`, with `said` of the API.

        A key that is refused is not saved. It is in no answer and no log.
        """
        body = await body_of(request, KeyBody)
        if not body.key.strip():
            raise Invalid("no key was given", fix="paste the key")
        folder = self._folder()
        changed = settings_file.set_value(
            await trio.to_thread.run_sync(settings_file.load, folder), "model.api_key", body.key.strip()
        )
        said = await self._said_of(changed)
        await trio.to_thread.run_sync(model_key.save, folder, changed)
        await self._reload()
        return await self._document() | {"said": said}

    async def prove(self, _request: Request) -> Reply:
        """Prove the sandbox with its canaries, which takes a second or more; return as `state`."""
        async with self._asking:
            self._proof = await agent.ask("--prove")
        return await self._document()

    async def settings(self, _request: Request) -> Reply:
        """Return {settings: [{key, value, default, about, example, secret, editable}]}, secrets masked."""
        saved = await trio.to_thread.run_sync(settings_file.load, self._folder())
        values, defaults = settings_file.shown(saved), settings_file.shown(Settings())
        return {
            "settings": [
                {
                    "key": key,
                    "value": _text(values[key]),
                    "default": _text(defaults[key]),
                    "about": about.allowed,
                    "example": about.example,
                    "secret": about.secret,
                    "editable": key in EDITABLE,
                }
                for key, about in KEYS.items()
            ]
        }

    async def change(self, request: Request) -> Reply:
        """Set one of EDITABLE in config.json ("" is its default); return {key, value}. Raises Forbidden, Invalid."""
        body = await body_of(request, SettingBody)
        if body.key not in EDITABLE:
            raise Forbidden(
                "this setting is not changed on the page", fix=f"`dispatch config set {_known(body.key)} VALUE`"
            )
        folder = self._folder()

        def change() -> Settings:
            changed = settings_file.set_value(settings_file.load(folder), body.key, body.value.strip())
            settings_file.save(folder, changed)
            return changed

        changed = await trio.to_thread.run_sync(change)
        await self._reload()
        return {"key": body.key, "value": _text(settings_file.get_value(changed, body.key))}

    async def _document(self) -> Document:
        folder, chosen = self._folder(), self._current()
        signed_in = await trio.to_thread.run_sync(partial(setup_state.sign_in, folder, chosen))
        parts = [signed_in, setup_state.model(chosen), setup_state.projects(chosen)]
        sandbox = self._sandbox()
        return {
            "parts": [part._asdict() for part in parts],
            "project_folders": await self._project_folders(chosen.roots),
            "sandbox": sandbox,
            "can_run": parts[1].done and sandbox["state"] in ("possible", "proven"),
            "sign_in": self._flow.document(),
            "broker": chosen.broker,
            "email": chosen.email,
            "roots": list(chosen.roots),
        }

    async def _project_folders(self, roots: tuple[str, ...]) -> list[Document]:
        """Return {folder, count, names, cut, words} of each folder of projects, looked at anew once a minute."""
        surveyed, at, documents = self._surveyed
        if surveyed != roots or trio.current_time() - at > SURVEY_SECONDS:
            look = partial(survey, roots, clock=time.monotonic, excluded=(str(self._folder().path),))
            documents = [each.document() for each in await trio.to_thread.run_sync(look)]
            self._surveyed = (roots, trio.current_time(), documents)
        return documents

    def _sandbox(self) -> Document:
        """Return {state, detail, fix}: proven, possible (nothing is in its way), impossible, or unknown."""
        try:
            if self._proof is not None:
                return {"state": "proven", "detail": sandbox_proof.sandbox(self._proof), "fix": ""}
        except Unavailable as error:
            return {"state": "impossible", "detail": error.message, "fix": error.fix}
        if self._machine is None:
            return {"state": "unknown", "detail": "the agent program of this machine did not answer", "fix": ""}
        if cause := self._machine.get("cause"):
            fix = "`dispatch doctor --fix`" if cause.get("commands") else str(cause["fix"])
            return {"state": "impossible", "detail": str(cause["message"]), "fix": fix}
        return {"state": "possible", "detail": "nothing on this machine keeps it from being built", "fix": ""}

    async def _look_at_machine(self) -> None:
        """Ask once what keeps this machine from confining a run; again while something does."""
        async with self._asking:
            if self._machine is None or self._machine.get("cause"):
                try:
                    self._machine = await agent.ask("--machine")
                except Unavailable:
                    self._machine = None

    async def _said_of(self, changed: Settings) -> str:
        """Return what the model's API says of the key. Raises Unauthorized if it refuses it."""
        described = msgspec.json.encode(model_route.model(changed))
        try:
            answer = await agent.ask("--model", changed.runtime, given=described)
        except DispatchError as error:
            return f"It is saved, and could not be tried: {error.message}."
        if (problem := answer.get("error")) is None:
            return str(answer["detail"])
        if problem["code"] == 401:
            raise Unauthorized(str(problem["message"]), fix=str(problem["fix"]), code=422)
        return f"It is saved, and could not be tried: {problem['message']}."


def _known(key: str) -> str:
    return key if key in KEYS else "KEY"


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
