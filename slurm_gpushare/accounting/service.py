"""`gpushare serve`: takes usage records and live samples from agents, answers reports; HTTP, identity by munge."""

import asyncio
import functools
import hashlib
import os
import pwd
import resource
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from aiohttp import web

from slurm_gpushare.accounting.gather import Gather
from slurm_gpushare.accounting.identity import Identity, IdentityError, identify
from slurm_gpushare.accounting.incoming import parse_lines
from slurm_gpushare.accounting.live import LiveBoard
from slurm_gpushare.accounting.refresh import Refresher
from slurm_gpushare.accounting.reports import REPORTS
from slurm_gpushare.accounting.selection import Selection, from_query
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.summaries import Summaries
from slurm_gpushare.errors import GrantError, RequestError, StoreError
from slurm_gpushare.metrics.live import LONGEST, sample_from_json
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.config import slurm_user
from slurm_gpushare.usage import UsageRecord

MAX_BODY = 8 << 20  # bytes; an agent sends a few hundred records, of less than 10 KiB each, at a time
BODY_TIMEOUT = 60.0  # seconds that a client may take to send its body
_DAY = 86400.0  # seconds
_STOP_TIMEOUT = 5.0  # seconds that requests under way get at SIGTERM
_SCHEME = "MUNGE "


def log(line: str) -> None:
    """Write one line to stderr, which is the service's log."""
    print(f"gpushare serve: {line}", file=sys.stderr, flush=True)


class _Refusal(Exception):
    """A request that is not answered: HTTP's status, and why."""


class Service:
    """The handlers. What blocks runs in threads: identity, SQL and Slurm's commands each have their own."""

    def __init__(
        self,
        store: Store,
        refresher: Refresher | None = None,
        identify: Callable[[str], Identity] = identify,
        slurm_user: Callable[[], int] = slurm_user,
        body_timeout: float = BODY_TIMEOUT,
        live: LiveBoard | None = None,
        summaries: Summaries | None = None,
    ):
        self._store = store
        self._summaries = summaries
        self._live = live or LiveBoard()
        self._refresher = refresher or Refresher(store)
        self._identify = identify
        self._ask_slurm_user = slurm_user
        self._slurm_uid: int | None = None
        self._body_timeout = body_timeout
        self._identity = ThreadPoolExecutor(8, "identity")
        self._sql = ThreadPoolExecutor(4, "sql")
        self._usage = Gather(store.add_usage, self._sql)
        # One thread: one refresh at a time, and a slurmdbd that hangs holds up neither agents nor identity.
        self._slurm = ThreadPoolExecutor(1, "slurm")

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        app.router.add_post("/v1/usage", self.post_usage)
        app.router.add_get("/v1/report/{name}", self.report, allow_head=False)
        app.router.add_post("/v1/live", self.post_live)
        app.router.add_get("/v1/live", self.live, allow_head=False)
        app.on_startup.append(self._begin)
        app.on_cleanup.append(self._close)
        return app

    async def post_usage(self, request: web.Request) -> web.Response:
        """POST /v1/usage: JSON lines of usage records and GPU hours, from root or SlurmUser.

        Answers 200 ``{"accepted": COUNT, "rejected": [{"index": LINE, "reason": TEXT}, …]}``.
        """
        who, body = await self._written(request, "usage records")
        records, rejected = await _in(self._sql, parse_lines, body)
        await self._usage.put(records)
        if self._summaries is not None:
            self._summaries.offer(one for one in records if isinstance(one, UsageRecord))
        for index, reason in rejected:
            log(f"refused line {index} from uid {who.uid} at {request.remote}: {reason[:500]}")
        answer = [{"index": index, "reason": reason} for index, reason in rejected]
        return web.json_response({"accepted": len(records), "rejected": answer})

    async def post_live(self, request: web.Request) -> web.Response:
        """POST /v1/live: what an agent measures now (metrics/live.py), from root or SlurmUser. Answers 200 ``{}``."""
        _, body = await self._written(request, "live samples")
        if len(body) > LONGEST:
            raise _Refusal(413, f"a live sample of {len(body)} bytes: {LONGEST} at most")
        try:
            self._live.put(sample_from_json(body))
        except GrantError as error:
            raise _Refusal(400, str(error)) from None
        return web.json_response({})

    async def live(self, request: web.Request) -> web.Response:
        """GET /v1/live: the newest sample of every agent, as LiveBoard.view has it; only root and SlurmUser see all."""
        who = await self._who(request)
        _over(who, request.raw_path.encode(), "the path with its query")
        return web.json_response(self._live.view(None if await self._is_operator(who.uid) else who.uid))

    async def report(self, request: web.Request) -> web.Response:
        """GET /v1/report/NAME?start=SECONDS&end=SECONDS[&user=NAME,…][&job=ID,…][&account=…][&partition=…][&state=…].

        NAME is one of REPORTS, which may have parameters of its own. Answers 200 with its object and
        ``"warnings": [TEXT, …]``. Root and SlurmUser see all runs, others their own.
        """
        report = REPORTS.get(request.match_info["name"])
        if report is None:
            raise _Refusal(404, f"report {request.match_info['name']!r} is not known here: {', '.join(REPORTS)} are")
        query = dict(request.query)
        given = {name: query.pop(name) for name in report.parameters & set(query)}
        selection, warnings = await self._selected(request, query)
        try:
            answer = await _in(self._sql, report.answer, self._store, selection, given)
        except RequestError as error:
            raise _Refusal(400, str(error)) from None
        return web.json_response({**answer, "warnings": warnings + answer.get("warnings", [])})

    async def _selected(self, request: web.Request, query: dict[str, str]) -> tuple[Selection, list[str]]:
        """Return what who asks may see of what they ask for, brought up to date, and what could not be."""
        who = await self._who(request)
        _over(who, request.raw_path.encode(), "the path with its query")
        try:
            selection = from_query(query)
        except RequestError as error:
            raise _Refusal(400, str(error)) from None
        if not await self._is_operator(who.uid):
            own = await _in(self._identity, _user_name, who.uid)
            if selection.users is not None and set(selection.users) != {own}:
                others = ", ".join(name for name in selection.users if name != own)
                raise _Refusal(403, f"jobs of {others}: only root and SlurmUser see the jobs of others")
            # The number decides; a name can be another's on the cluster.
            selection = replace(selection, uid=who.uid, users=None)
        # All users' runs are brought up to date: who asks changes what is shown, not what is known.
        everybody = replace(selection, uid=None, users=None)
        return selection, await _in(self._slurm, self._refresher.refresh, everybody)

    async def _written(self, request: web.Request, what: str) -> tuple[Identity, bytes]:
        """Return who writes, and the body; refuse all but root and SlurmUser before it is read."""
        who = await self._who(request)
        if not await self._is_operator(who.uid):
            raise _Refusal(403, f"uid {who.uid} may not write {what}: only root and SlurmUser may")
        try:
            async with asyncio.timeout(self._body_timeout):
                body = await request.read()
        except TimeoutError:
            raise _Refusal(408, f"the body did not arrive within {self._body_timeout:g} s") from None
        _over(who, body, "the body")
        return who, body

    async def _who(self, request: web.Request) -> Identity:
        header = request.headers.get("Authorization", "")
        if not header.upper().startswith(_SCHEME):
            raise _Refusal(401, "no credential: send `Authorization: MUNGE <credential>`")
        try:
            return await _in(self._identity, self._identify, header[len(_SCHEME) :].strip())
        except IdentityError as error:
            raise _Refusal(401, f"munge: {error}") from None

    async def _is_operator(self, uid: int) -> bool:
        if uid == 0:
            return True
        if self._slurm_uid is None:
            try:
                self._slurm_uid = await _in(self._identity, self._ask_slurm_user)
            except SlurmError as error:
                log(f"SlurmUser is not known, and has no more rights than others: {error}")
        return uid == self._slurm_uid

    async def _begin(self, app: web.Application) -> None:
        if self._summaries is not None:
            self._summaries.start()

    async def _close(self, app: web.Application) -> None:
        if self._summaries is not None:
            await _in(self._sql, self._summaries.stop)
        for pool in (self._identity, self._slurm, self._sql):
            pool.shutdown(wait=pool is self._sql, cancel_futures=True)
        self._store.close()


def serve(host: str, port: int, database: str, admin_comment: bool = False, series_days: int = 365) -> None:
    """Serve until SIGTERM or SIGINT; raises StoreError when the store or the address cannot be used.

    With ``admin_comment`` the summary of each ended job is written into its AdminComment. The courses of runs are kept
    for ``series_days``.
    """
    # A client that opens connections and says nothing must not soon leave none for the agents.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    store = Store(database)
    app = Service(store, summaries=Summaries(store, log) if admin_comment else None).app()

    async def told(app: web.Application) -> None:
        log(f"store {store.name}")

    app.on_startup.append(told)
    app.cleanup_ctx.append(functools.partial(_forgetting, store, series_days))
    try:
        web.run_app(
            app,
            host=host,
            port=port,
            print=lambda text: log(f"listening on {host}:{port}"),
            access_log=None,
            shutdown_timeout=_STOP_TIMEOUT,
        )
    except OSError as error:
        why = os.strerror(error.errno) if error.errno else str(error)
        raise StoreError(f"{host}:{port}: {why}: name another address by --listen") from None
    log("ended")


async def _forgetting(store: Store, days: int, app: web.Application) -> AsyncIterator[None]:
    """Once a day, delete the courses of runs that ended more than ``days`` ago."""

    async def forget() -> None:
        while True:
            try:
                if count := await asyncio.to_thread(store.forget_series, time.time() - days * _DAY):
                    log(f"deleted the course of {count} run(s) that ended more than {days} days ago")
            except StoreError as error:
                log(str(error))
            await asyncio.sleep(_DAY)

    task = asyncio.create_task(forget())
    yield
    task.cancel()


@web.middleware
async def _errors(request: web.Request, handler: Callable[[web.Request], Awaitable]) -> web.StreamResponse:
    """Answer every refusal as ``{"error": TEXT}``."""
    try:
        return await handler(request)
    except _Refusal as error:
        status, text = error.args
    except web.HTTPException as error:
        status, text = error.status, error.reason
    except StoreError as error:
        log(str(error))
        status, text = 503, str(error)
    return web.json_response({"error": text}, status=status)


async def _in(pool: Executor, work: Callable, *arguments: object) -> object:
    return await asyncio.get_running_loop().run_in_executor(pool, functools.partial(work, *arguments))


def _over(who: Identity, content: bytes, what: str) -> None:
    """Refuse a credential that was made over something else than ``content``."""
    if who.payload != hashlib.sha256(content).hexdigest().encode():
        raise _Refusal(401, f"the credential was not made over {what}")


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
