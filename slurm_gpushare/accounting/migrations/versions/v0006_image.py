"""Usage records tell the image of the job's container."""

from sqlalchemy import Column, Text

from slurm_gpushare.accounting.migrations.steps import add_column

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    add_column("gpushare_usage", Column("image", Text()))
