"""The node's side: what is put in front of a task's command, and that nothing runs without it where it must not."""

import os
import shutil
import stat
from pathlib import Path

import pytest

BATCH, EXTERN, PENDING, INTERACTIVE = 0xFFFFFFFB, 0xFFFFFFFC, 0xFFFFFFFD, 0xFFFFFFFA
BROKEN = 78
INHERIT = "SLURM_SPANK__SLURM_SPANK_OPTION_gpushare_"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a launch record is root's: run as root")


class Node:
    """A node n1 with an installed launcher and a runtime folder, on which job 7 has a launch record."""

    def __init__(self, driver, folder: Path):
        self.driver = driver
        self.launcher = folder / "gpushare-launch"
        self.launcher.write_text("#!/bin/sh\n")
        self.launcher.chmod(0o755)
        self.run_dir = folder / "run"
        self.record = self.run_dir / "n1" / "jobs" / "7" / "launch.json"
        self.record.parent.mkdir(parents=True)
        self.record.write_text("{}")
        self.record.chmod(0o440)

    def words(self, *options: str, step: int = 0, name: str | None = "n1", extra: tuple[str, ...] = ()) -> list[str]:
        """Return the driver's words for one task: slurmstepd's init, the options that Slurm sent, task_init."""
        return [
            "context=remote",
            f"plugstack=launcher={self.launcher}",
            f"plugstack=run_dir={self.run_dir}",
            *extra,
            "job=7",
            f"step={step}",
            *([] if name is None else [f"env=SLURMD_NODENAME={name}"]),
            "init",
            *[f"option={option}" for option in options],
            "task_init",
        ]

    def task(self, *options: str, **scene):
        """Run one task."""
        return self.driver(*self.words(*options, **scene))


@pytest.fixture
def node(driver, tmp_path) -> Node:
    """A node in working order."""
    return Node(driver, tmp_path)


def untouched(outcome) -> bool:
    """Whether the task runs as if there were no plugin."""
    return outcome.status == 0 and outcome.all("task_init") == [("0",)] and outcome.argv == []


def refused(outcome, text: str) -> bool:
    """Whether the task ends with one line that holds ``text``, and nothing runs."""
    assert outcome.status == BROKEN, outcome
    assert outcome.argv == []
    (line,) = outcome.stderr.splitlines()
    assert line.startswith("gpushare: ")
    assert text in line, line
    return True


@pytest.mark.parametrize(
    ("step", "word"),
    [(BATCH, "batch"), (INTERACTIVE, "interactive"), (0, "0"), (4294967280, "4294967280")],
)
def test_every_kind_of_step_is_wrapped(node, step, word):
    outcome = node.task(step=step)
    assert outcome.argv == [str(node.launcher), f"--record={node.record}", f"--step={word}", "--"]
    assert outcome.all("task_init") == [("0",)]
    assert outcome.stderr == ""


def test_the_options_of_the_step_follow(node):
    options = ["dataset=digits", "container-image=/images/a b.sif", "container-scope=job", "container-mounts=/a:/b:ro"]
    assert node.task(*options).argv[3:] == [
        "--container-image=/images/a b.sif",
        "--container-mounts=/a:/b:ro",
        "--dataset=digits",
        "--container-scope=job",
        "--",
    ]


@pytest.mark.parametrize(
    ("options", "passed"),
    [
        (["container-mount-home=", "container-writable="], ["--container-mount-home=yes", "--container-writable=yes"]),
        (
            ["container-mount-home=no", "container-writable=no"],
            ["--container-mount-home=no", "--container-writable=no"],
        ),
        (["no-container-mount-home="], ["--container-mount-home=no"]),
        (["container-mount-home=yes", "no-container-mount-home="], ["--container-mount-home=no"]),
        (["container-env=A,B", "container-workdir=/w"], ["--container-workdir=/w", "--container-env=A,B"]),
    ],
)
def test_options_that_stand_alone_have_a_value_for_the_launcher(node, options, passed):
    assert node.task(*options).argv[3:-1] == passed


def test_an_option_that_arrives_twice_is_passed_once(node):
    """Before 24.05 slurmstepd called back twice."""
    outcome = node.task("container-image=/x", "container-image=/x")
    assert outcome.argv[3:] == ["--container-image=/x", "--"]


@pytest.mark.parametrize("step", [BATCH, INTERACTIVE, 0])
def test_without_record_and_option_the_task_is_untouched(node, step):
    node.record.unlink()
    assert untouched(node.task(step=step))


@pytest.mark.parametrize("missing", ["run/n1/jobs/7", "run/n1/jobs", "run/n1", "run"])
def test_where_prolog_never_ran_the_task_is_untouched(node, tmp_path, missing):
    shutil.rmtree(tmp_path / missing)
    assert untouched(node.task())


def test_an_option_without_a_record_is_never_ignored(node):
    """A step with a container in a job that asked for nothing: the launcher is told where a record would be."""
    node.record.unlink()
    outcome = node.task("container-image=/x")
    assert outcome.argv == [
        str(node.launcher),
        f"--record={node.record}",
        "--step=0",
        "--container-image=/x",
        "--",
    ]


def test_an_option_without_a_record_is_checked_all_the_same(node):
    node.record.unlink()
    assert refused(node.task("container-image=x"), "'x' is not an absolute path")
    node.record.symlink_to("/nowhere/launch.json")
    assert refused(node.task("container-image=/x"), "is not a regular file that root alone may write")


def test_the_record_of_another_job_or_node_does_not_count(node):
    other = node.run_dir / "n2" / "jobs" / "7"
    other.mkdir(parents=True)
    node.record.rename(other / "launch.json")
    assert untouched(node.task())
    assert node.task(name="n2").argv[1] == f"--record={other}/launch.json"


SLURMS = "env=SLURM_CONTAINER=/bundle"
PLAIN = '{"v":1,"user":"a","grant":null,"gpus":[0],"container":null,"refused":null,"places":[]}'


@pytest.mark.parametrize("step", [BATCH, 0])
def test_a_container_of_slurms_own_is_left_alone(node, step):
    """Its runtime looks for the command in the container, where there is no launcher."""
    node.record.chmod(0o644)
    node.record.write_text(PLAIN)
    assert untouched(node.task(step=step, extra=(SLURMS,)))
    node.record.unlink()
    assert untouched(node.task(step=step, extra=(SLURMS,)))
    assert node.task("container-image=/x", step=step, extra=("env=SLURM_CONTAINER=",)).argv != []


@pytest.mark.parametrize(
    "record",
    [
        PLAIN.replace('"grant":null', '"grant":{"v":1}'),
        PLAIN.replace('"container":null', '"container":{"image":"/i"}'),
        PLAIN.replace('"refused":null', '"refused":"no"'),
        PLAIN.replace('"grant":null', '"note":"\\"grant\\":null"'),
        PLAIN + " " * 8192,
        "",
    ],
)
def test_a_container_of_slurms_own_has_nothing_of_ours(node, record):
    node.record.chmod(0o644)
    node.record.write_text(record)
    assert refused(node.task(extra=(SLURMS,)), "--container: Slurm's own containers get no share of a GPU")


def test_an_image_in_a_container_of_slurms_own_is_refused(node):
    node.record.unlink()
    outcome = node.task("gs-container-image=/x", extra=(SLURMS, "plugstack=prefix=gs-"))
    assert refused(outcome, "write --gs-container-image=PATH instead")
    assert refused(node.task("container-image=/x", extra=(SLURMS,)), "write --container-image=PATH instead")
    assert refused(node.task("container-image=/x", extra=(f"env=SLURM_CONTAINER=/{'b' * 4096}",)), "--container: ")


def test_the_extern_step_is_left_alone(node):
    node.launcher.unlink()
    assert untouched(node.task("container-image=/x", step=EXTERN))


@pytest.mark.parametrize("step", [PENDING, 0xFFFFFFFE, 0xFFFFFFFF, 0xFFFFFFF9])
def test_an_unknown_kind_of_step_is_refused(node, step):
    assert refused(node.task(step=step), "is of a kind that this plugin does not know")


def test_a_record_that_is_a_link_is_refused(node, tmp_path):
    real = tmp_path / "real.json"
    node.record.rename(real)
    node.record.symlink_to(real)
    assert refused(node.task(), "is not a regular file that root alone may write")


def test_a_record_that_dangles_is_refused(node):
    node.record.unlink()
    node.record.symlink_to("/nowhere/launch.json")
    assert refused(node.task(), "is not a regular file that root alone may write")


def test_a_record_that_is_a_folder_is_refused(node):
    node.record.unlink()
    node.record.mkdir()
    assert refused(node.task(), "is not a regular file that root alone may write")


def test_a_record_of_another_user_is_refused(node):
    os.chown(node.record, 1001, 1001)
    assert refused(node.task(), "is not a regular file that root alone may write")


@pytest.mark.parametrize("mode", [0o460, 0o442])
def test_a_record_that_others_may_write_is_refused(node, mode):
    node.record.chmod(mode)
    assert refused(node.task(), "is not a regular file that root alone may write")


def test_a_record_that_cannot_be_looked_for_is_refused(node):
    """Not the same as no record: a job with a grant must not run unwrapped."""
    jobs = node.run_dir / "n1" / "jobs"
    shutil.rmtree(jobs)
    jobs.write_text("")
    assert refused(node.task(), "couldn't look for the launch record")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/n1", "../../etc", "n1/", "x" * 256, "x" * 100_000, None])
def test_a_hostile_node_name_is_refused(node, name):
    assert refused(node.task(name=name), "SLURMD_NODENAME")


def test_a_missing_launcher_is_refused(node):
    node.launcher.unlink()
    text = f"the launcher {node.launcher} cannot be executed on this node: No such file or directory"
    assert refused(node.task(), text)


def test_a_launcher_that_may_not_be_executed_is_refused(node):
    node.launcher.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert refused(node.task(), "cannot be executed on this node: Permission denied")


def test_a_launcher_that_is_a_folder_is_refused(node):
    node.launcher.unlink()
    node.launcher.mkdir()
    assert refused(node.task(), "is not a regular file")


def test_a_broken_launcher_does_not_matter_to_other_jobs(node):
    node.launcher.unlink()
    node.record.unlink()
    assert untouched(node.task())


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("container-image=x.sif", "'x.sif' is not an absolute path"),
        ("container-image=", "the value is empty"),
        ("container-image=/" + "x" * 5000, "the value is 5001 bytes long"),
        ("container-mounts=/a:b", "'/a:b' is not a mount"),
        ("dataset=a\nb", "control character"),
        ("container-scope=all", "'all' is neither job nor tasks"),
    ],
)
def test_a_value_that_went_past_the_submitting_side_is_refused(node, option, text):
    """slurmstepd only logs what an option's callback refuses, so the refusal is the task's."""
    outcome = node.task(option)
    assert outcome.all("option")[0][1] == "0"
    assert refused(outcome, text)


@pytest.mark.parametrize("argument", ["nonsense", "launcher=launch"])
def test_a_bad_plugstack_line_is_refused_even_where_it_says_optional(node, argument):
    """init has failed; Slurm calls task_init of an optional plugin all the same."""
    outcome = node.task(extra=(f"plugstack={argument}",))
    assert outcome.all("init") == [("-1",)]
    assert refused(outcome, "plugstack.conf: ")


def test_a_run_dir_that_does_not_fit_is_refused(node):
    assert refused(node.task(extra=("plugstack=run_dir=/" + "x" * 4095,)), "run_dir in plugstack.conf is too long")


def test_no_failure_of_slurm_lets_a_task_run_unwrapped(node):
    options = ("container-image=/x", "container-mounts=/a:/b", "dataset=d", "container-scope=job")
    words = node.words(*options)
    calls = node.driver(*words).calls
    # 12 registered, 4 copied; step, job, node, Slurm's own container; 4 options, record and step as text; the prefix
    assert calls == 27
    for call in range(1, calls + 1):
        outcome = node.driver(f"fail-at={call}", *words)
        assert outcome.status == BROKEN, call
        assert outcome.argv == [], call
        assert len(outcome.stderr.splitlines()) == 1, call


@pytest.mark.parametrize("context", ["local", "allocator"])
def test_from_submission_to_the_inner_step(node, context):
    """The options of sbatch reach the batch script's task, and by the environment an srun within it."""
    words = ["option=container-image=/job", "option=dataset=digits"]
    job = node.driver(f"context={context}", "init", *words).forwarded
    batch = node.task(*[f"{name}={value}" for name, value in job.items()], step=BATCH)
    assert batch.argv[2:] == ["--step=batch", "--container-image=/job", "--dataset=digits", "--"]

    env = {INHERIT + name.replace("-", "_"): value for name, value in job.items()}
    step = node.driver("context=local", "init", "environment", "option=container-image=/step", env=env).forwarded
    task = node.task(*[f"{name}={value}" for name, value in step.items()], step=3)
    assert task.argv[2:] == ["--step=3", "--container-image=/step", "--dataset=digits", "--"]


def test_salloc_then_srun_without_the_environment_keeps_the_record(node):
    """A step whose user dropped the variables has no option of its own: the launcher goes by the record."""
    assert node.task(step=0).argv == [str(node.launcher), f"--record={node.record}", "--step=0", "--"]


def test_what_the_job_was_asked_with_changes_nothing_in_a_task(node):
    """The share is settled before a task starts, and its options come to every step by the job's environment."""
    options = ["gpu-share=0.25", "gpu-mem=8G", "gpu-backend=shard"]
    assert node.task(*options).argv == node.task().argv
    node.record.unlink()
    assert untouched(node.task(*options))
