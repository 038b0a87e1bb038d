"""`gpushare serve`: the service that owns the accounting store."""

import os

import click

from slurm_gpushare.paths import POLICY_YAML


@click.command()
@click.option("--listen", metavar="HOST:PORT", help="Address to listen on; default: the policy's service.listen.")
@click.option("--database", metavar="URL", help="The store; default: the policy's service.database.")
@click.option("--policy", metavar="FILE", help=f"The policy; default: {POLICY_YAML}, where there is one.")
def serve(listen: str | None, database: str | None, policy: str | None) -> None:
    """Keep the store of usage records and answer reports.

    Agents and `gpushare report` reach it by HTTP and are known by their munge credentials.
    """
    settings = _settings(policy)
    host, port = _address(listen or settings.listen)

    from slurm_gpushare.accounting.service import serve as run

    run(
        host,
        port,
        database or settings.database,
        admin_comment=settings.admin_comment,
        series_days=settings.series_days,
        prices=_prices(settings),
        follow_private_data=settings.privacy == "slurm",
        slurm=settings.slurm,
    )


def _settings(path: str | None) -> object:
    """Return the policy's service section; its defaults on a host without a policy."""
    from slurm_gpushare.policy.load import load_policy
    from slurm_gpushare.policy.schema import Service

    if path is None and not os.path.exists(POLICY_YAML):
        return Service()
    return load_policy(path or POLICY_YAML).policy.service


def _prices(settings: object) -> object:
    from decimal import Decimal

    from slurm_gpushare.accounting.chargeback import Prices, Rate

    rates = (Rate(Decimal(str(one.rate)), one.backend, one.gpu, one.account) for one in settings.rates)
    return Prices(tuple(rates), settings.currency)


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise click.BadParameter(f"{text!r} is not HOST:PORT: write one such as 0.0.0.0:6827", param_hint="--listen")
    return host.strip("[]"), int(port)
