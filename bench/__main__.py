"""``python3 -m bench [NAME…]``: run the benchmarks, print a line for each, exit with 1 when a bound is broken."""

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path

from bench.lab import Setting
from bench.machine import machine
from bench.result import to_dict, to_line
from slurm_gpushare.errors import GpushareError

# name as on the command line -> its module
BENCHMARKS = {
    "decision": "decision",
    "submit-rpc": "submit_rpc",
    "launch": "launch",
    "agent": "agent",
    "agent-slurm": "polling",
    "fleet": "fleet",
    "latency": "latency",
    "pool-use": "pool_use",
    "bulk": "bulk",
    "reports": "reports",
}
RESULTS = Path(__file__).parent / "results" / "latest.json"


def main(argv: list[str] | None = None) -> int:
    """Run what was named; return the exit status: 0, 1 for a broken bound or a failure, 2 for wrong usage."""
    parser = argparse.ArgumentParser(prog="bench", description="what slurm-gpushare costs", allow_abbrev=False)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"{', '.join(BENCHMARKS)} (default: all)")
    parser.add_argument("--lab", default="bench", help="name of the lab, used as it is when it is up (default bench)")
    parser.add_argument("--runs", type=int, help="measurements of each side (default: each benchmark's own number)")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results go as JSON")
    options = parser.parse_args(argv)
    for name in options.names:
        if name not in BENCHMARKS:
            parser.error(f"{name!r} is no benchmark: write {', '.join(BENCHMARKS)}")
    if options.runs is not None and options.runs < 1:
        parser.error(f"--runs {options.runs}: write a number above 0")

    setting = Setting(options.lab, options.runs)
    results = []
    try:
        for name in options.names or BENCHMARKS:
            for result in import_module(f"bench.{BENCHMARKS[name]}").run(setting):
                print(to_line(result), flush=True)
                results.append(to_dict(result, machine(setting.slurm)))
    except GpushareError as error:
        print(f"gpushare: {error}", file=sys.stderr)
        return error.exit_status
    print(f"measured on: {machine(setting.slurm)}")
    options.results.parent.mkdir(parents=True, exist_ok=True)
    kept = _others(options.results, options.names or list(BENCHMARKS))
    options.results.write_text(json.dumps(kept + results, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result["holds"] is False for result in results) else 0


def _others(path: Path, names: list[str]) -> list[dict]:
    """Return the results in ``path`` of other benchmarks than ``names``; each result's name begins with its own."""
    there = json.loads(path.read_text(encoding="utf-8")) if path.exists() else []
    return [each for each in there if each["name"].partition(":")[0] in BENCHMARKS.keys() - set(names)]


if __name__ == "__main__":
    sys.exit(main())
