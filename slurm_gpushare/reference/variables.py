"""The variables of the environment that are ours, beside those that stand for options (slurm_options.py)."""

# name: (who sets it, what it says)
VARIABLES: dict[str, tuple[str, str]] = {
    "GPUSHARE_MEMORY_FRACTION": ("the launcher, in the program", "the share of the GPU's memory, for PyTorch"),
    "GPUSHARE_REAL_IMAGE": ("the plugin, for job_submit", "where the image's path leads on the submitting host"),
    "GPUSHARE_REAL_MOUNT_N": ("the plugin, for job_submit", "where the path of the Nth mount leads there"),
    "GPUSHARE_PREFIX": ("the plugin, in the job", "the `prefix` of plugstack.conf, for messages"),
    "GPUSHARE_LAB_RUN": ("you, for `gpushare lab`", "folder of running labs, instead of /var/tmp/gpushare-lab"),
    "GPUSHARE_LAB_CACHE": (
        "you, for `gpushare lab`",
        "folder of what labs are built from, instead of /var/cache/gpushare-lab",
    ),
    "GPUSHARE_KEEP_LABS": ("you, for the tests", "labs stay up between runs"),
}
# Of no concern to anybody: a process of ours is known by it; the guard of a header.
INTERNAL = frozenset({"GPUSHARE_HELPER", "GPUSHARE_H"})
