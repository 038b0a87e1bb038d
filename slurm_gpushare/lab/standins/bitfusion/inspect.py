"""What a judge sees of a server, as JSON.

``python3 -m slurm_gpushare.lab.standins.bitfusion.inspect --config FILE [--server IP:PORT]``
"""

import argparse
import json
import socket
import sys
from typing import Any
from urllib.parse import quote

from slurm_gpushare.errors import EXIT_FAILED, LabError
from slurm_gpushare.lab.standins.bitfusion.config import load_config

TIMEOUT_SECONDS = 5


def state(address: str, token: str) -> dict[str, Any]:
    """Return the state of the server at ``IP:PORT`` (`Pool.state`). Raises LabError when it does not give it."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise LabError(f"the server {address!r} must be written as IP:PORT")
    try:
        connection = socket.create_connection((host, int(port)), timeout=TIMEOUT_SECONDS)
        with connection, connection.makefile("rwb") as stream:
            stream.write(f"{quote(token)} state\n".encode())
            stream.flush()
            answer = stream.readline().decode()
    except OSError as error:
        raise LabError(f"server {address}: {error}") from None
    if not answer.startswith("{"):
        raise LabError(f"server {address}: {answer.strip() or 'no answer'}")
    return json.loads(answer)


def main(argv: list[str] | None = None) -> int:
    """Print the state; return the exit status."""
    parser = argparse.ArgumentParser(
        prog="bitfusion-standin-inspect", description="print a server's state", allow_abbrev=False
    )
    parser.add_argument("--server", help="IP:PORT; without it the address in the configuration")
    parser.add_argument("--config", required=True, help="the server's configuration, for the token")
    options = parser.parse_args(argv)
    try:
        config = load_config(options.config)
        print(json.dumps(state(options.server or f"{config.listen}:{config.port}", config.token), indent=2))
    except LabError as error:
        print(f"bitfusion-standin-inspect: {error}", file=sys.stderr)
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
