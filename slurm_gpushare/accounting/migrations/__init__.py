"""The store's tables, from version to version: what of them is found is taken up, made, brought up or refused.

A migration is a module in versions/ (Alembic's form), of steps that may be done twice (steps.py): MariaDB commits each
change of a table by itself, and a service that was cut in the midst of one begins with it again.
"""

from pathlib import Path

from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect, text

from slurm_gpushare.accounting import rollup_schema  # noqa: F401 (its tables are among those of Base)
from slurm_gpushare.accounting.migrations.steps import add_table
from slurm_gpushare.accounting.schema import Base, Meta
from slurm_gpushare.errors import StoreError

VERSION_TABLE = "gpushare_version"
# What databases from before VERSION_TABLE say of themselves in Meta.
_FIRST = "1"


def newest() -> str:
    """Return the version of the tables of this gpushare."""
    return _scripts().get_current_head()


def recognise(connection: Connection, name: str) -> None:
    """Read what the database ``name`` holds; raises StoreError where ``prepare`` must not touch it."""
    tables = set(inspect(connection).get_table_names())
    ours = {table.name for table in Base.metadata.sorted_tables}
    if VERSION_TABLE in tables:
        found = _context(connection).get_current_heads()
        known = {script.revision for script in _scripts().walk_revisions()}
        if unknown := sorted(set(found) - known):
            raise _newer(name, unknown[0])
        if found == (newest(),) and (missing := sorted(ours - tables)):
            raise StoreError(
                f"{name}: of its tables {missing[0]} is missing: restore it from a backup; nothing was changed"
            )
    elif (version := _first_version(connection, tables)) is not None:
        if version != _FIRST:
            raise _newer(name, version)
    elif tables & (ours - {Meta.__tablename__}):
        raise StoreError(f"{name}: has some of our tables but no version: name another database; nothing was changed")
    elif tables - ours and connection.dialect.name == "sqlite":
        raise StoreError(f"{name}: is another program's database: name another file; nothing was changed")


def prepare(connection: Connection) -> None:
    """Make the tables of a new database, or bring those of an older one to this version. Commits."""
    context = _context(connection)
    found = context.get_current_heads()
    if found == (newest(),):
        connection.rollback()
        return
    tables = set(inspect(connection).get_table_names())
    if not found and _first_version(connection, tables) is None:
        # An empty table of versions says that these tables were being made by us.
        context._ensure_version_table()
        connection.commit()
        with Operations.context(context):
            # Not create_all, which makes no index of a table that is there: this may have been cut before.
            for table in Base.metadata.sorted_tables:
                add_table(table)
        context.stamp(_scripts(), "head")
        connection.commit()
        return
    connection.rollback()
    with Operations.context(context):
        context.run_migrations()
    connection.commit()


def _first_version(connection: Connection, tables: set[str]) -> str | None:
    if Meta.__tablename__ not in tables:
        return None
    return connection.execute(text(f"SELECT value FROM {Meta.__tablename__} WHERE name = 'schema'")).scalar()


def _newer(name: str, version: str) -> StoreError:
    return StoreError(
        f"{name}: its tables are of version {version}, this gpushare knows versions up to {newest()}: "
        "run the gpushare that made them, or name another database; nothing was changed"
    )


def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))


def _context(connection: Connection) -> MigrationContext:
    scripts = _scripts()
    options = {
        "version_table": VERSION_TABLE,
        "transaction_per_migration": True,
        "fn": lambda found, context: scripts._upgrade_revs("head", found),
    }
    return MigrationContext.configure(connection, opts=options)
