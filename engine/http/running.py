"""A server run: what the parent prepares, and what each of its processes does."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio
from attrs import field, frozen

from engine.config import Config
from engine.healing import open_healed
from engine.http.access import TOKENS, Access, Rules, is_local
from engine.http.access_log import AccessLog
from engine.http.adapters import speakers
from engine.http.adapters.operations import totals
from engine.http.observing import Observer, keep_writing, make_run
from engine.http.reserve import Reserve
from engine.http.server import Server
from engine.http.settings import PROCESS, Settings
from engine.http.sharing import Board
from engine.http.workers import Supervisor, address_of, listen, unlink_sockets
from store.errors import InputError

if TYPE_CHECKING:
    import ssl

_PARENT_SECONDS: Final = 0.5
"""How often a worker looks whether its parent is there."""

_LOOK_SECONDS: Final = 2.0
"""How often it is looked whether tokens and certificates can still be used."""

_GARBAGE: Final = (20_000, 20, 20)
"""Requests leave next to no cycles: to look for them after every 700 objects costs more."""


@frozen(kw_only=True)
class Plan:
    """What all processes of a server know."""

    root: Path
    config: Config
    settings: Settings
    run: Path
    listeners: Sequence[socket.socket]
    board: Board
    guarded: bool
    """Whether there was a file of tokens when it started."""
    started: float
    """Seconds since 1970."""
    parent: int = field(factory=os.getpid)
    """The process that makes the plan, which watches the others."""

    @property
    def tokens(self) -> Path:
        """The file of tokens."""
        return self.settings.tokens or self.root / TOKENS


def serve(root: Path, config: Config, settings: Settings, tell: Callable[[str], None]) -> None:
    """Serve the store at `root` until a signal ends it. Raises BnError."""
    listeners = listen(settings.bind)
    board = Board(settings.workers)
    try:
        guarded = _check(root, config, settings, listeners, tell)
        plan = Plan(
            root=root,
            config=config,
            guarded=guarded,
            settings=settings,
            run=make_run(root),
            listeners=listeners,
            board=board,
            started=time.time(),
        )
        scheme = "https" if settings.tls else "http"
        for listener in listeners:
            where = address_of(listener)
            tell(f"serving {root} at {where if where[:5] == 'unix:' else f'{scheme}://{where}/'}")
        supervisor = Supervisor(
            lambda index: work(index, plan),
            board,
            listeners,
            [("janitor", lambda: _keep_house(plan))],
            tell,
        )
        supervisor.run()
    finally:
        for listener in listeners:
            listener.close()
        board.close()
        unlink_sockets(settings.bind)


def _check(
    root: Path,
    config: Config,
    settings: Settings,
    listeners: Sequence[socket.socket],
    tell: Callable[[str], None],
) -> bool:
    """Find out before any process is started whether all can be opened, and return whether there
    is a file of tokens. Raises BnError."""
    open_healed(root, config, tell).close()
    tokens = settings.tokens or root / TOKENS
    access = Access(Rules(tokens=tokens, public=settings.public))
    if settings.tls is not None:
        from engine.http.tls import Contexts

        Contexts(settings.tls)
    if settings.log is not None and settings.log != "-":
        AccessLog(Path(settings.log)).close()
    others = [
        address_of(one)
        for one in listeners
        if one.family != socket.AF_UNIX and not is_local(one.getsockname()[0])
    ]
    certified = settings.tls is not None and bool(settings.tls.clients)
    public = any(what != "none" for what in settings.public.values())
    if others and not access.has_tokens and not certified and not public:
        raise InputError(
            f"{others[0]} can be reached by others, and nobody could be let in: there is no token",
            "bn serve token add NAME makes one; or set public of a name space in [serve]",
        )
    return access.has_tokens


def _keep_house(plan: Plan) -> None:
    from engine.http.janitor import keep_house

    settings, config = plan.settings, plan.config
    for listener in plan.listeners:
        listener.close()
    with open_healed(plan.root, config, _say) as store:
        if settings.durability == PROCESS:  # one that syncs would hold up the workers' commits
            store.relax()
        reserve = Reserve(store.cas.primary.root, settings.reserve)
        days = config.policy.keep_days
        keep_house(store, settings.quotas, days, reserve, plan.run, plan.parent)


def work(index: int, plan: Plan) -> None:
    """Be a worker: serve until SIGTERM comes."""
    from engine.http.service import Service

    _raise_descriptors()
    settings = plan.settings
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(open_healed(plan.root, plan.config, _say))
        if settings.durability == PROCESS:
            store.relax()
        observer = Observer(plan.run)
        stack.callback(observer.close)
        log = None
        if settings.log is not None:
            log = AccessLog(None if settings.log == "-" else Path(settings.log))
            stack.callback(log.close)
        secure: Callable[[], ssl.SSLContext] | None = None
        rules = Rules(
            tokens=plan.tokens,
            public=settings.public,
            guarded=plan.guarded or (settings.tls is not None and bool(settings.tls.clients)),
        )
        look: list[Callable[[], str]] = []
        if settings.tls is not None:
            from engine.http.tls import Contexts

            contexts = Contexts(settings.tls)
            secure = contexts.current
            access = Access(rules, contexts.identity, strict=False)
            look.append(contexts.look)
        else:
            access = Access(rules, strict=False)
        look.append(access.look)
        service = Service(
            store,
            quotas=settings.quotas,
            share_local=settings.share_local,
        )
        stack.callback(service.close)
        observer.totals = lambda: totals(service)
        reserve = Reserve(store.cas.primary.root, settings.reserve)
        adapters = speakers(observer, reserve, workers=settings.workers, started=plan.started)
        server = Server(
            adapters,
            service,
            gate=access,
            counter=observer,
            log=log,
            limits=settings.limits.of_worker(settings.workers),
            secure=secure,
            share=lambda sock: plan.board.give(index, sock),
            hold=lambda number: plan.board.hold(index, number),
            room=reserve.check,
        )
        gc.collect()
        gc.freeze()
        gc.set_threshold(*_GARBAGE)
        trio.run(_serve, index, plan, server, observer, log, [] if index else look)


async def _serve(
    index: int,
    plan: Plan,
    server: Server,
    observer: Observer,
    log: AccessLog | None,
    look: Sequence[Callable[[], str]],
) -> None:
    async with trio.open_nursery() as nursery:
        for one in look:
            nursery.start_soon(_tell_problems, one)
        nursery.start_soon(keep_writing, observer, log)
        nursery.start_soon(plan.board.receive, index, server.take)
        nursery.start_soon(_wait_for_end, server, nursery.cancel_scope, plan.parent)
        if log is not None:
            nursery.start_soon(_reopen, log)
        await server.run(plan.listeners)
        nursery.cancel_scope.cancel()


async def _wait_for_end(server: Server, scope: trio.CancelScope, parent: int) -> None:
    """End the server at a signal, or when the parent has gone; at a second signal at once."""
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:

        async def watch_parent() -> None:
            while os.getppid() == parent:  # noqa: ASYNC110 - nobody could set an event
                await trio.sleep(_PARENT_SECONDS)
            server.end()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_parent)
            ends = 0
            async for _ in signals:
                ends += 1
                if ends > 1:
                    scope.cancel()
                    return
                server.end()


async def _tell_problems(look: Callable[[], str]) -> None:
    """Say what turns out to be wrong with tokens or certificates, once each time."""
    before = ""
    while True:
        problem = look()
        if problem and problem != before:
            sys.stderr.write(f"serve: {problem}\n")
        before = problem
        await trio.sleep(_LOOK_SECONDS)


async def _reopen(log: AccessLog) -> None:
    """Open the log's file anew at each SIGHUP."""
    with trio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            await trio.to_thread.run_sync(log.reopen)


def _raise_descriptors() -> None:
    """Take as many descriptors as are allowed: each connection needs one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _say(text: str) -> None:
    sys.stderr.write(f"store: {text}\n")
