"""Opening a database: what is not ours, is damaged, is newer or is away stays as it is, and is told in one line."""

import sqlite3
import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, select, text

from slurm_gpushare.accounting.schema import Meta
from slurm_gpushare.accounting.store import Store
from slurm_gpushare.errors import StoreError
from tests.databases import Server
from tests.unit.accounting.month import used


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a" / "usage.sqlite"


@pytest.fixture
def store(path: Path):
    store = Store(f"sqlite:///{path}")
    yield store
    store.close()


def spoil(path: Path, *statements: str) -> None:
    """Change a closed file by SQL, and leave it in one piece."""
    with sqlite3.connect(path) as database:
        database.execute("pragma journal_mode=delete")
        for statement in statements:
            database.execute(statement)
    database.close()


def test_the_file_is_its_owners_alone(store: Store, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("statements", "told"),
    [
        (["update gpushare_version set version_num='0999'"], "version 0999, this gpushare knows versions up to 0"),
        (
            [
                "drop table gpushare_version",
                "insert into gpushare_meta values ('schema', '7')",
            ],
            "version 7, this gpushare knows versions up to 0",
        ),
        (["drop table gpushare_series"], "gpushare_series is missing"),
    ],
)
def test_a_newer_or_maimed_store_is_refused_and_not_touched(
    store: Store, path: Path, statements: list[str], told: str
) -> None:
    store.close()
    spoil(path, *statements)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=told):
        Store(f"sqlite:///{path}")
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("damage", ["noise", "cut", "other", "unversioned"])
def test_what_is_no_store_of_ours_is_refused_and_not_touched(store: Store, path: Path, damage: str) -> None:
    store.add_usage([used(job, 0, 1, 0.1) for job in range(500)])
    store.close()
    if damage == "noise":
        path.write_bytes(b"no database at all " * 300)
    elif damage == "cut":
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "other":
        path.unlink()
        spoil(path, "create table cats (name)")
    else:
        spoil(path, "drop table gpushare_meta", "drop table gpushare_version")
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"usage\.sqlite") as error:
        Store(f"sqlite:///{path}")
    assert "\n" not in str(error.value)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "url",
    [
        "mysql+pymysql://me:geheim@127.0.0.1:1/x",
        "mariadb+pymysql://me:geheim@127.0.0.1:1/x",
        "postgresql+psycopg://me:geheim@127.0.0.1:1/x",
        "nothing://me:geheim@host/x",
        "me:geheim",
        "postgresql://me:geheim@h/x",
    ],
)
def test_a_password_is_never_told(url: str) -> None:
    with pytest.raises(StoreError) as error:
        Store(url)
    assert "geheim" not in str(error.value) and "\n" not in str(error.value)


def test_a_folder_that_cannot_be_made_is_named() -> None:
    with pytest.raises(StoreError, match="/proc/none"):
        Store("sqlite:////proc/none/usage.sqlite")


def test_a_server_that_goes_and_comes_back_is_used_again(server: Server) -> None:
    url = server.create()
    store = Store(url)
    store.add_usage([used(1, 0, 10, 0.1)])
    server.kill()
    try:
        for _ in range(2):
            with pytest.raises(StoreError) as error:
                store.add_usage([used(2, 0, 10, 0.1)])
            assert store.name in str(error.value) and "\n" not in str(error.value)
        with pytest.raises(StoreError):
            Store(url)
    finally:
        server.start()
    store.add_usage([used(2, 0, 10, 0.1)])
    assert {one.job_id for one in store.usage_of("lab", [1, 2])} == {1, 2}
    store.close()


def test_what_the_server_ends_for_another_transaction_is_done_again(server: Server) -> None:
    """Two transactions that change the same two rows in opposite order: the server ends one of them."""
    store = Store(server.create())
    store._transaction(lambda connection: store._write(connection, Meta, [{"name": n, "value": "-"} for n in "ab"]))
    both = threading.Barrier(2, timeout=30)
    tries = []

    def change(first: str, second: str) -> None:
        def work(connection: Connection) -> None:
            tries.append(first)
            update = text("UPDATE gpushare_meta SET value = concat(value, CAST(:first AS CHAR(1))) WHERE name = :name")
            connection.execute(update, {"first": first, "name": first})
            if tries.count(first) == 1:
                both.wait()
            connection.execute(update, {"first": first, "name": second})

        store._transaction(work)

    threads = [threading.Thread(target=change, args=pair) for pair in ("ab", "ba")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(tries) == 3
    with store._engine.connect() as connection:
        values = connection.execute(select(Meta.value).where(Meta.name.in_(["a", "b"]))).scalars().all()
    assert [sorted(value) for value in values] == [["-", "a", "b"]] * 2
    store.close()
