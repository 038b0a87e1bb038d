"""What holds a job to its share, from what the backends themselves declare: ``docs/enforcement.md``.

``python -m slurm_gpushare.backends.enforcement > docs/enforcement.md`` writes the page; a test keeps the two equal.
"""

from slurm_gpushare import backends

KINDS = ("memory", "compute", "faults")

PAGE = """\
# What is enforced

*Written by `python -m slurm_gpushare.backends.enforcement` from the declarations of the backends; do not edit.*

A share is a promise in two directions: the job gets it, and others are safe from it. Slurm places every share, so the
first holds as far as all others keep to theirs. What makes them keep to it differs by backend:

- **enforced**: a program cannot take more, whatever it does.
- **advisory**: a program that means no harm is kept to it, or ended when it is not; one that clears a variable,
  or asks the driver another way, is not.
- **none**: nothing holds it.

*memory* and *compute* are the job's share of these; *faults*: whether an error of one job's program on the GPU leaves
the programs of other jobs alone. A line in **bold** is what holds without any further condition; where a job has more,
its launch record says so, and `gpushare status` and the reports show it.

{table}

*Sees* is how much memory a program is shown. Where it is the whole card, TensorFlow and JAX would take it; the launcher
therefore sets, unless the user has or the policy says `framework_memory: false`:

| variable | value | for |
|---|---|---|
| `TF_FORCE_GPU_ALLOW_GROWTH` | `true` | TensorFlow: take memory as it is needed |
| `XLA_PYTHON_CLIENT_MEM_FRACTION` | ¾ of the share | JAX: its own default, of the share instead of the card |
| `GPUSHARE_MEMORY_FRACTION` | the share | PyTorch, by a call: [example](../job_scripts/share.py) |

The share of one task is that of its job, divided by the tasks that share a GPU. `XLA_CLIENT_MEM_FRACTION`, the newer
name, is left to the user: jaxlib refuses both at once.

## Whom it holds, and when

- MPS limits each process; what all processes of a job hold together, the [memory watcher](watcher.md) adds up.
  HAMi-core keeps the memory of a job's processes in one file and limits their sum; those of several containers with
  process numbers of their own (`containers.pid_namespace`) each by themselves.
- MIG, vGPU and whole GPUs are kept apart by Slurm's cgroup: `ConstrainDevices=yes` in cgroup.conf. With
  `AutoDetect=nvml` in gres.conf Slurm gives MIG devices to programs by their UUIDs, and they are measured by these;
  where gres.conf lists device files instead, Slurm knows numbers alone, and what such a job used is unknown.
- HAMi-core locks in `/tmp/vgpulock`, which prolog makes. With job_container/tmpfs a job has a `/tmp` of its own,
  without it, unless an `InitScript` makes it there.

## Which MPS

Prolog asks NVML for the driver and the card, tries the newest way of which they can do all, and falls back to the one
before where MPS itself says that it cannot:

- **Any driver**: each process has limits by its variables, and by the daemon's default where the policy has one share
  (`fraction`). A program that clears its variables gets that default, which is the whole card without `fraction`.
- **R590, Ampere or newer, `fraction`**: each job has a static partition of SMs that no other job has, instead of a
  percentage. A program that clears its variables is refused. SMs that their job does not use are idle.
- **R615**: each job has a namespace with its own limits in a server of its user's, and no other way into MPS. A program
  that clears its variables finds no MPS.

In compute mode DEFAULT a program without MPS has the card as if there were none, so all of this is advisory there:
`nvidia-smi -c EXCLUSIVE_PROCESS` on the node makes it enforced.

## MPS and several users

MPS of the drivers up to R610 serves one user at a time: programs of another wait until all of the first have ended.
What the policy may do about it (`backends.mps.users`), and what each costs:

| `users` | who shares a GPU | a fatal fault on the GPU ends | costs |
|---|---|---|---|
| `one_per_node` | jobs of one user | programs of that user's jobs | a node that a user holds is closed to others |
| `multiuser` | everybody, in one server of root's | programs of all users on that GPU | logs and faults are shared |
| `time_sliced` | everybody, a server for each user | programs of that user's jobs | users take turns on the GPU |

With `time_sliced` the limits hold as always, but a limit of SMs saves other users no time. It needs compute mode
DEFAULT: EXCLUSIVE_PROCESS admits one server, and prolog refuses the job.

In a container it is all the same: the runtime is started with `--nv` and without a private IPC namespace, what the
backend needs of the node is bound at the same path, and its variables are set by `APPTAINERENV_…`, which
`--cleanenv` does not take away.
"""


def declared() -> list[tuple[str, str, dict[str, str], bool, str]]:
    """Return (backend, condition, what it enforces, whether that is without conditions, what programs see) of all."""
    return [
        (name, words, enforces, enforces == module.ENFORCES, module.SEES)
        for name in backends.NAMES
        for module in (backends.find(name),)
        for words, enforces in module.MODES.items()
    ]


def table() -> str:
    """Return the table of what is enforced, as Markdown."""
    lines = ["| backend | how | " + " | ".join(KINDS) + " | sees |", "|---" * (3 + len(KINDS)) + "|"]
    for name, words, enforces, always, sees in declared():
        cells = [f"`{name}`", words, *(enforces[kind] for kind in KINDS)]
        if always:
            cells = [f"**{cell}**" for cell in cells]
        lines.append("| " + " | ".join([*cells, {"card": "the card", "share": "its share"}[sees]]) + " |")
    return "\n".join(lines)


def page() -> str:
    """Return the whole page."""
    return PAGE.format(table=table())


if __name__ == "__main__":
    print(page(), end="")
