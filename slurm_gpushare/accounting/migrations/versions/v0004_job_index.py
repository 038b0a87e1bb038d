"""Records of a job are found by the key, which begins with the cluster and the job: one index less to fill."""

from slurm_gpushare.accounting.migrations.steps import drop_index

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    drop_index("gpushare_usage_job", "gpushare_usage")
