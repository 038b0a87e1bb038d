"""Steps of migrations that leave as it is what is there already, so that a migration that was cut can begin again."""

from alembic import op
from sqlalchemy import Column, Table, inspect

from slurm_gpushare.accounting.schema import mariadb_options


def add_table(table: Table) -> None:
    """Make ``table`` with its indexes; add the columns and indexes that it lacks where it is there."""
    if not inspect(op.get_bind()).has_table(table.name):
        # Without its indexes, which follow one by one.
        op.create_table(table.name, *(column._copy() for column in table.columns), **mariadb_options())
    for column in table.columns:
        add_column(table.name, column)
    for index in sorted(table.indexes, key=lambda index: index.name):
        add_index(index.name, table.name, *(column.name for column in index.columns))


def add_column(table: str, column: Column) -> None:
    """Add ``column``; where rows are there it must be one that may be null."""
    if column.name not in {one["name"] for one in inspect(op.get_bind()).get_columns(table)}:
        op.add_column(table, column._copy())


def add_index(name: str, table: str, *columns: str) -> None:
    """Make the index ``name`` over ``columns``."""
    if name not in {one["name"] for one in inspect(op.get_bind()).get_indexes(table)}:
        op.create_index(name, table, list(columns))


def drop_index(name: str, table: str) -> None:
    """Remove the index ``name``."""
    if name in {one["name"] for one in inspect(op.get_bind()).get_indexes(table)}:
        op.drop_index(name, table)
