"""`gpushare serve`: takes usage records and live samples from agents, answers reports; HTTP, identity by munge."""

import asyncio
import functools
import hashlib
import json
import os
import pwd
import resource
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from aiohttp import web

from slurm_gpushare.accounting.chargeback import Prices
from slurm_gpushare.accounting.export import TABLES
from slurm_gpushare.accounting.gather import Gather
from slurm_gpushare.accounting.identity import Identity, IdentityError, identify
from slurm_gpushare.accounting.incoming import parse_lines
from slurm_gpushare.accounting.live import LiveBoard
from slurm_gpushare.accounting.privacy import JOBS, Rights, Sight, narrowed
from slurm_gpushare.accounting.refresh import Refresher
from slurm_gpushare.accounting.reports import REPORTS, Report, chargeback
from slurm_gpushare.accounting.selection import Selection, from_query
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.accounting.summaries import Summaries
from slurm_gpushare.accounting.upkeep import Upkeep
from slurm_gpushare.errors import GrantError, RequestError, StoreError
from slurm_gpushare.metrics.live import LONGEST, sample_from_json
from slurm_gpushare.slurm.command import SlurmError
from slurm_gpushare.slurm.config import slurm_user
from slurm_gpushare.slurm.jobs import chosen
from slurm_gpushare.usage import UsageRecord

MAX_BODY = 8 << 20  # bytes; an agent sends a few hundred records, of less than 10 KiB each, at a time
BODY_TIMEOUT = 60.0  # seconds that a client may take to send its body
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
        reports: Mapping[str, Report] = REPORTS,
        rights: Rights | None = None,
    ):
        """Without ``rights`` nobody but root and SlurmUser sees the runs of others."""
        self._store = store
        self._summaries = summaries
        self._reports = reports
        self._rights = rights
        self._live = live or LiveBoard()
        self._refresher = refresher or Refresher(store)
        self._identify = identify
        self._ask_slurm_user = slurm_user
        self._slurm_uid: int | None = None
        self._body_timeout = body_timeout
        self._identity = ThreadPoolExecutor(8, "identity")
        self._sql = ThreadPoolExecutor(4, "sql")
        self._usage = Gather(store.add_usage, self._sql)
        # One thread: a part of one export at a time, and reports do not wait for them.
        self._export = ThreadPoolExecutor(1, "export")
        # One thread: one refresh at a time, and a slurmdbd that hangs holds up neither agents nor identity.
        self.slurm = ThreadPoolExecutor(1, "slurm")
        self._slurm_rights = ThreadPoolExecutor(2, "rights")

    def app(self) -> web.Application:
        """Return the application."""
        app = web.Application(middlewares=[_errors], client_max_size=MAX_BODY)
        app.router.add_post("/v1/usage", self.post_usage)
        app.router.add_get("/v1/report/{name}", self.report, allow_head=False)
        app.router.add_get("/v1/export/{what}", self.export, allow_head=False)
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
        """GET /v1/live: the newest sample of every agent (LiveBoard.view), of the jobs that who asks may see."""
        who = await self._who(request)
        _over(who, request.raw_path.encode(), "the path with its query")
        sight, _ = await self._sight(who.uid, JOBS)
        seen = await _in(self._sql, _running_in, self._store, sight.accounts) if sight.accounts else ()
        return web.json_response(self._live.view(sight.uid, seen))

    async def report(self, request: web.Request) -> web.Response:
        """GET /v1/report/NAME?start=SECONDS&end=SECONDS[&user=NAME,…][&job=ID,…][&account=…][&partition=…][&state=…].

        NAME is one of REPORTS, which may have parameters of its own. Answers 200 with its object and
        ``"warnings": [TEXT, …]``. Who sees whose runs: privacy.py.
        """
        report = self._reports.get(request.match_info["name"])
        if report is None:
            known = ", ".join(self._reports)
            raise _Refusal(404, f"report {request.match_info['name']!r} is not known here: {known} are")
        query = dict(request.query)
        given = {name: query.pop(name) for name in report.parameters & set(query)}
        selection, warnings = await self._selected(request, query, report.hidden_by)
        try:
            answer = await _in(self._sql, report.answered, self._store, selection, given)
        except RequestError as error:
            raise _Refusal(400, str(error)) from None
        return web.json_response({**answer, "warnings": warnings + answer.get("warnings", [])})

    async def export(self, request: web.Request) -> web.StreamResponse:
        """GET /v1/export/WHAT?start=SECONDS&end=SECONDS: lines of JSON, one for each row, to who may see all runs.

        WHAT is one of export.py's TABLES. The last line is the number of rows: an answer without it is not whole.
        """
        who = await self._who(request)
        _over(who, request.raw_path.encode(), "the path with its query")
        sight, _ = await self._sight(who.uid, None)
        if sight.uid is not None:
            raise _Refusal(403, f"uid {who.uid} may not export the store: only operators may")
        what = request.match_info["what"]
        if what not in TABLES:
            raise _Refusal(404, f"{what!r} is not known here: {', '.join(TABLES)} are")
        try:
            period = from_query(dict(request.query))
        except RequestError as error:
            raise _Refusal(400, str(error)) from None
        parts = self._store.rows(what, period.start, period.end)
        answer = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        try:
            count, text = await _in(self._export, _lines, parts)  # before the status is sent: the store may be away
            await answer.prepare(request)
            total = count
            while count:
                await answer.write(text)
                count, text = await _in(self._export, _lines, parts)
                total += count
            await answer.write_eof(b"%d\n" % total)
        except StoreError as error:
            if not answer.prepared:
                raise
            log(f"export of {what} broke off: {error}")
        finally:
            await _in(self._export, parts.close)
        return answer

    async def _selected(
        self, request: web.Request, query: dict[str, str], hidden_by: frozenset[str]
    ) -> tuple[Selection, list[str]]:
        """Return what who asks may see of what they ask for, brought up to date, and what could not be."""
        who = await self._who(request)
        _over(who, request.raw_path.encode(), "the path with its query")
        try:
            selection = from_query(query)
        except RequestError as error:
            raise _Refusal(400, str(error)) from None
        sight, own = await self._sight(who.uid, hidden_by)
        try:
            selection = narrowed(selection, sight, own)
        except RequestError as error:
            raise _Refusal(403, str(error)) from None
        # All users' runs are brought up to date: who asks changes what is shown, not what is known.
        everybody = replace(selection, uid=None, users=None, accounts_seen=None)
        warnings = await _in(self.slurm, self._refresher.refresh, everybody)
        if sight.uid is None:
            warnings = warnings + await self._unknown("user", selection.users or ())
            warnings = warnings + await self._unknown("account", selection.accounts or ())
        return selection, warnings + ([sight.warning] if sight.warning else [])

    async def _sight(self, uid: int, hidden_by: frozenset[str] | None) -> tuple[Sight, str | None]:
        """Return what somebody may see of what PrivateData's words hide (None: is hidden always), and the own name."""
        if await self._is_slurm(uid):
            return Sight(None), None
        own = await _in(self._identity, _user_name, uid)
        if self._rights is None:
            return Sight(uid), own
        return await _in(self._slurm_rights, self._rights.sight, uid, own, hidden_by), own

    async def _unknown(self, kind: str, names: Sequence[str]) -> list[str]:
        """Return a line for those of ``names``, of "user" or "account", of which neither the store nor Slurm knows."""
        # Slurm first: in the store one who is not there is looked for among all runs.
        left = set(names)
        if left and self._rights is not None:
            left = await _in(self._slurm_rights, self._rights.unknown, kind, left)
        if left:
            left -= await _in(self._sql, self._store.known_among, kind, left)
        what = {"user": "a user", "account": "an account"}[kind]
        return [f"{name}: neither Slurm nor the store knows {what} of that name" for name in sorted(left)]

    async def _written(self, request: web.Request, what: str) -> tuple[Identity, bytes]:
        """Return who writes, and the body; refuse all but root and SlurmUser before it is read."""
        who = await self._who(request)
        if not await self._is_slurm(who.uid):
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

    async def _is_slurm(self, uid: int) -> bool:
        """Tell whether it is root or SlurmUser, who write, and see all whether or not slurmdbd answers."""
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
        for pool in (self._identity, self.slurm, self._slurm_rights, self._export, self._sql):
            pool.shutdown(wait=pool is self._sql, cancel_futures=True)
        self._store.close()


def serve(
    host: str,
    port: int,
    database: str,
    admin_comment: bool = False,
    series_days: int = 365,
    prices: Prices = Prices(),  # noqa: B008 (immutable)
    follow_private_data: bool = False,
    slurm: str = "auto",
) -> None:
    """Serve until SIGTERM or SIGINT; raises StoreError when the store or the address cannot be used.

    With ``admin_comment`` the summary of each ended job is written into its AdminComment. The courses of runs are kept
    for ``series_days``. ``prices`` are those of `report chargeback`. With ``follow_private_data`` all see the runs
    of others where Slurm's PrivateData does not hide them. ``slurm`` is the way in which Slurm is asked for runs
    (slurm/jobs.py); SlurmError where it is not there.
    """
    # A client that opens connections and says nothing must not soon leave none for the agents.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    way, fetch = chosen(slurm)
    store = Store(database)
    reports = {**REPORTS, "chargeback": chargeback(prices)}
    summaries = Summaries(store, log) if admin_comment else None
    rights = Rights(follow_private_data)
    refresher = Refresher(store, fetch)
    service = Service(store, refresher, summaries=summaries, reports=reports, rights=rights)
    app = service.app()

    async def told(app: web.Application) -> None:
        log(f"store {store.name}; runs of jobs from {way}")

    app.on_startup.append(told)
    app.cleanup_ctx.append(Upkeep(store, refresher, service.slurm, series_days, log))
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


def _lines(parts: Iterator[list[dict]]) -> tuple[int, bytes]:
    """Return how many rows the next of ``parts`` has, 0 after the last, and them as lines of JSON."""
    part = next(parts, [])
    return len(part), b"".join(json.dumps(row, separators=(",", ":")).encode() + b"\n" for row in part)


def _running_in(store: Store, accounts: Sequence[str]) -> set[tuple[int, int]]:
    """Return (job's id, uid) of what runs in ``accounts``."""
    return {(row.job_id, row.uid) for row in store.running() if row.account in accounts}


def _user_name(uid: int) -> str | None:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return None
