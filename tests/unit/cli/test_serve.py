"""What of the policy reaches `gpushare serve`."""

from decimal import Decimal
from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_gpushare.accounting import service
from slurm_gpushare.accounting.chargeback import Prices, Rate
from slurm_gpushare.cli.serve import serve


def test_rates_are_exact_and_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "gpushare.yaml"
    policy.write_text(
        "service:\n  currency: EUR\n  rates:\n"
        '    - {rate: 0, account: course101}\n    - {rate: 1.8, gpu: "*A100*"}\n    - {rate: 0.45, backend: shard}\n'
    )
    given = {}
    monkeypatch.setattr(service, "serve", lambda *arguments, **settings: given.update(settings))
    result = CliRunner().invoke(serve, ["--policy", str(policy)])
    assert result.exit_code == 0, result.output
    assert given["prices"] == Prices(
        (
            Rate(Decimal(0), account="course101"),
            Rate(Decimal("1.8"), gpu="*A100*"),
            Rate(Decimal("0.45"), backend="shard"),
        ),
        "EUR",
    )
