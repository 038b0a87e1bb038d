"""What our exit statuses mean, and who ends with them."""

from slurm_gpushare import errors
from slurm_gpushare.cli.main import EXIT_INTERRUPTED

OF_PROGRAMS = "a job's program"
# status: (what it means, who ends with it, what to do)
STATUSES: dict[int, tuple[str, str, str]] = {
    0: ("done", "all", ""),
    errors.EXIT_FAILED: (
        "it failed, or found something wrong that it prints; `explain`: the request is refused",
        "`gpushare`; prolog and epilog: slurmd drains the node",
        "read the line on stderr; of prolog and epilog it is in slurmd's log",
    ),
    errors.EXIT_USAGE: ("the command was written wrongly", "`gpushare`", "`gpushare … --help`"),
    errors.EXIT_UNAVAILABLE: (
        "the backend cannot be reached",
        "a job's program, `gpushare`",
        "submit it again later; the administrator looks at the pool",
    ),
    errors.EXIT_TRY_AGAIN: (
        "the pool stayed full for the policy's whole wait",
        OF_PROGRAMS,
        "submit it again; nothing is wrong with the job",
    ),
    errors.EXIT_REFUSED: ("the policy refuses it", "a job's program, `gpushare`", "write what the line says"),
    errors.EXIT_BROKEN: (
        "the installation here is broken, or a file of it is unreadable",
        "a job's program, `gpushare`",
        "tell the administrator the line on stderr",
    ),
    errors.EXIT_CANNOT_EXECUTE: ("the program cannot be executed", OF_PROGRAMS, "its mode, its first line"),
    errors.EXIT_NOT_FOUND: (
        "there is no such program",
        OF_PROGRAMS,
        "its path, in the container where there is one",
    ),
    EXIT_INTERRUPTED: ("interrupted by Ctrl-C", "`gpushare`", ""),
}
