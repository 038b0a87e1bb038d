"""Older tables become those of this version and keep what they have; a cut in the midst of it does no harm."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from sqlalchemy import Engine, create_engine, event, inspect, text

from slurm_gpushare.accounting.migrations import VERSION_TABLE, newest
from slurm_gpushare.accounting.migrations.versions import v0001_first
from slurm_gpushare.accounting.schema import Base
from slurm_gpushare.accounting.selection import Selection
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import StoreError
from tests.unit.accounting.month import T, run, used

EVER = Selection(0, T + 10**6)
OLD = {"cluster": "lab", "job_id": 7, "started": T * 10**6, "node": "n1", "gpu": "GPU-1", "backend": "shard"}
OLD |= {"fraction": 0.25, "uid": 1001, "user": "alice", "ended": (T + 100) * 10**6, "seconds_sampled": 100.0}
OLD |= {"quality": "measured", "source": "node", "gpu_seconds_reserved": 25.0}


class Cut(Exception):
    """The service was killed."""


@contextmanager
def engine(url: str) -> Iterator[Engine]:
    engine = create_engine(url)
    yield engine
    engine.dispose()


def make_first(url: str, without: bool) -> None:
    """Make a database of the first version with a record; ``without`` what was added to its tables later."""
    if url.startswith("sqlite"):
        Store(url).close()  # for the folder
    with engine(url) as database, database.begin() as connection:
        Base.metadata.drop_all(connection)
        connection.execute(text(f"DROP TABLE IF EXISTS {VERSION_TABLE}"))
        with Operations.context(MigrationContext.configure(connection)):
            v0001_first.upgrade()
        if without:
            connection.execute(text("ALTER TABLE gpushare_usage DROP COLUMN enforces"))
            connection.execute(text("ALTER TABLE gpushare_jobs DROP COLUMN reason"))
            connection.execute(text("DROP TABLE gpushare_series"))
        connection.execute(text("INSERT INTO gpushare_meta VALUES ('schema', '1')"))
        connection.execute(v0001_first.table("gpushare_usage").insert(), [OLD])


def check(url: str) -> None:
    """Check that the tables are those of the models, and that the record is there, also in a time in its midst."""
    with engine(url) as database, database.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert context.get_current_heads() == (newest(),)
        assert compare_metadata(context, Base.metadata) == []
        if connection.dialect.name == "mariadb":
            query = "SELECT table_name, table_collation FROM information_schema.tables WHERE table_schema = database()"
            tables = {name: collation for name, collation in connection.execute(text(query)) if name != VERSION_TABLE}
            assert set(tables.values()) == {"utf8mb4_bin"}
    store = Store(url)
    assert [one.job_id for one in store.usage(Selection(T + 40, T + 50))] == [7]
    store.add_usage([used(8, 0, 200, 0.1, enforces="memory=advisory,compute=none,faults=none")])
    store.add_jobs([run(8, 0, 200, reason="it held too much")])
    assert {one.job_id: one.enforces is None for one in store.usage(EVER)} == {7: True, 8: False}
    assert [one.reason for one in store.jobs(EVER)] == ["it held too much"]
    store.close()


@pytest.mark.parametrize("without", [False, True], ids=["last", "earliest"])
def test_a_store_of_the_first_version_is_taken_up(database_url: str, without: bool) -> None:
    make_first(database_url, without)
    Store(database_url).close()
    check(database_url)


def test_roll_ups_of_an_older_version_are_made_anew(database_url: str) -> None:
    store = Store(database_url)
    store.add_jobs([run(8, 0, 200)])  # 50 GPU-seconds
    store.add_usage([used(7, 0, 100, 0.1)])  # 25
    assert store.rollups.build() == 1
    day = Selection(T - 86400 * 2, T + 86400)
    assert store.rollups.tallies(day, ())[()].jobs == 2
    store.close()
    with engine(database_url) as database, database.begin() as connection:
        # As 0002 left them; what it has summed up may be of jobs that ran again.
        connection.execute(text("ALTER TABLE gpushare_rollup DROP COLUMN is_last"))
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0002'"))
        connection.execute(text("UPDATE gpushare_rollup SET reserved = 1000000"))
    store = Store(database_url)
    assert store.rollups.build() == 1
    assert store.rollups.tallies(day, ())[()].reserved == 75
    store.close()
    check(database_url)


def test_a_newer_version_is_refused_and_left_as_it_is(database_url: str) -> None:
    Store(database_url).close()
    with engine(database_url) as database, database.begin() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
        connection.execute(text("ALTER TABLE gpushare_rollup DROP COLUMN is_last"))
    with pytest.raises(StoreError, match="version 0999, this gpushare knows versions up to"):
        Store(database_url)
    with engine(database_url) as database, database.connect() as connection:
        assert connection.execute(text(f"SELECT version_num FROM {VERSION_TABLE}")).scalars().all() == ["0999"]
        assert "is_last" not in {column["name"] for column in inspect(connection).get_columns("gpushare_rollup")}


def test_new_tables_are_those_of_all_migrations(database_url: str) -> None:
    store = Store(database_url)
    store.add_usage([used(7, 0, 100, 0.1)])
    store.close()
    check(database_url)


@contextmanager
def cut_at(number: int) -> Iterator[list[str]]:
    """Kill whoever changes tables before statement ``number`` of those that change any; yield what was run."""
    seen: list[str] = []

    def before(connection: object, cursor: object, statement: str, *others: object) -> None:
        words = statement.split()
        if words[0] in ("CREATE", "ALTER", "DROP") or (words[0] != "SELECT" and VERSION_TABLE in statement):
            if len(seen) == number:
                raise Cut
            seen.append(statement)

    event.listen(Engine, "before_cursor_execute", before)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", before)


@pytest.mark.parametrize("old", [True, False], ids=["upgrade", "new"])
def test_a_cut_at_any_change_of_the_tables_is_made_good_at_the_next_start(database_url: str, old: bool) -> None:
    if old:
        make_first(database_url, without=True)
    # On the same database each time: where changes of tables are no transaction, the next start finds some of them.
    for number in range(60):
        with cut_at(number) as seen:
            try:
                Store(database_url).close()
            except Cut:
                continue
        assert len(seen) <= number
        break
    assert number > 3
    if not old:
        store = Store(database_url)
        store.add_usage([used(7, 0, 100, 0.1)])
        store.close()
    check(database_url)


def test_services_that_start_at_once_make_the_tables_once(server) -> None:
    url = server.create()
    failed = []

    def open_it() -> None:
        try:
            Store(url).close()
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=open_it) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    with engine(url) as database:
        assert set(inspect(database).get_table_names()) == {*Base.metadata.tables, VERSION_TABLE}
