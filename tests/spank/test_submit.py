"""The submitting side, srun (local) and sbatch and salloc (allocator), on a mock of Slurm."""

import pytest

SIDES = ("local", "allocator")
OPTIONS = {
    "container-image": "/images/torch.sif",
    "container-mounts": "/scratch/alice:/work,/models:/models:ro",
    "dataset": "digits,iris",
    "container-scope": "tasks",
    "gpu-share": "0.25",
    "gpu-mem": "8G",
    "gpu-backend": "shard",
}
INHERIT = "SLURM_SPANK__SLURM_SPANK_OPTION_gpushare_"


def given(options: dict[str, str]) -> list[str]:
    """Return the driver's words for a command line with ``options``."""
    return [f"option={name}={value}" for name, value in options.items()]


@pytest.mark.parametrize("context", [*SIDES, "remote"])
def test_registers_its_options(driver, context):
    outcome = driver(f"context={context}", "init")
    assert outcome.all("init") == [("0",)]
    assert [name for name, _, _ in outcome.all("registered")] == list(OPTIONS)
    assert all(usage.startswith("[gpushare] ") for _, _, usage in outcome.all("registered"))


@pytest.mark.parametrize("context", ["slurmd", "job_script"])
def test_does_nothing_in_slurmd(driver, context):
    outcome = driver(f"context={context}", "plugstack=nonsense", "init")
    assert outcome.lines == (("init", "0"), ("calls", "0"))


def test_an_unknown_context_is_refused(driver):
    outcome = driver("context=error", "init")
    assert outcome.all("init") == [("-1",)]
    assert outcome.errors[0].startswith("gpushare: ")


@pytest.mark.parametrize("context", SIDES)
def test_good_values_are_sent_on(driver, context):
    outcome = driver(f"context={context}", "init", *given(OPTIONS))
    assert outcome.forwarded == OPTIONS
    assert outcome.all("log") == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("container-image", "docker://python:3.12"),
        ("container-image", "/images/with blank, comma: and ümlaut.sif"),
        ("container-image", "/" + "x" * 4095),
        ("container-mounts", "/a:/b"),
        ("container-mounts", "/a:/b:ro"),
        ("dataset", "digits"),
        ("container-scope", "job"),
        *[("gpu-share", share) for share in (".25", "25%", "12.5%", "1/4", "1", "1.0", "100%", "4/4", "0.07", "00.5")],
        *[("gpu-mem", size) for size in ("500M", "8GiB", "1.5g", "4096k", "1T")],
        ("gpu-backend", "MPS_2-x"),
    ],
)
def test_accepts(driver, name, value):
    assert driver("context=local", "init", f"option={name}={value}").forwarded == {name: value}


@pytest.mark.parametrize("context", SIDES)
@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        *[(name, "", "the value is empty: write --" + name) for name in OPTIONS],
        *[(name, "/x\x1b[2J", "character 3 of the value is a control character") for name in OPTIONS],
        *[(name, "/x\x7f", "character 3 of the value is a control character") for name in OPTIONS],
        *[(name, "/" + "x" * 4096, "the value is 4097 bytes long: at most 4096") for name in OPTIONS],
        ("container-image", "~/torch.sif", "'~/torch.sif' is not an absolute path: write the whole path"),
        ("container-mounts", "/a", "'/a' is not a mount: write SRC:DST or SRC:DST:ro"),
        ("container-mounts", "/a:", "'/a:' is not a mount"),
        ("container-mounts", ":/a", "':/a' is not a mount"),
        ("container-mounts", "a:/a", "'a:/a' is not a mount"),
        ("container-mounts", "/a:b", "'/a:b' is not a mount"),
        ("container-mounts", "/a:/b:rw", "'/a:/b:rw' is not a mount"),
        ("container-mounts", "/a:/b:", "'/a:/b:' is not a mount"),
        ("container-mounts", "/a:/b:ro:ro", "'/a:/b:ro:ro' is not a mount"),
        ("container-mounts", "/a:/b,", "'' is not a mount"),
        ("container-mounts", ",/a:/b", "'' is not a mount"),
        ("container-mounts", "/a:/b,c", "'c' is not a mount"),
        ("container-mounts", "/a,/b:/c", "'/a' is not a mount"),
        ("dataset", "digits,", "'digits,' has an empty name in it: write NAME or NAME,NAME"),
        ("dataset", ",", "',' has an empty name"),
        ("container-scope", "all", "'all' is neither job nor tasks: write --container-scope=job"),
        ("container-scope", "Job", "'Job' is neither job nor tasks"),
    ],
)
def test_refuses_with_one_line(driver, context, name, value, text):
    outcome = driver(f"context={context}", "init", f"option={name}={value}")
    assert outcome.all("option") == [(name, "-1")]
    assert outcome.forwarded == {}
    (line,) = outcome.errors
    assert line.startswith(f"gpushare: --{name}: {text}")
    assert "\x1b" not in line
    assert "\x7f" not in line


def test_a_relative_image_is_refused_with_what_to_write(driver, tmp_path):
    outcome = driver("context=local", "init", "option=container-image=torch.sif", cwd=tmp_path)
    assert outcome.errors == [
        "gpushare: --container-image: 'torch.sif' is not an absolute path: "
        f"write --container-image={tmp_path}/torch.sif"
    ]


def test_a_relative_image_in_the_root_folder(driver):
    outcome = driver("context=local", "init", "option=container-image=torch.sif", cwd="/")
    assert outcome.errors[0].endswith("write --container-image=/torch.sif")


@pytest.mark.parametrize("context", SIDES)
def test_the_same_value_twice_is_fine(driver, context):
    outcome = driver(f"context={context}", "init", *given(OPTIONS), *given(OPTIONS))
    assert outcome.forwarded == OPTIONS
    assert outcome.all("log") == []


def test_srun_refuses_two_values(driver):
    """Slurm would pass on the last alone, and the user would miss the first inside the container."""
    outcome = driver("context=local", "init", "option=container-mounts=/a:/a", "option=container-mounts=/b:/b")
    assert outcome.all("option") == [("container-mounts", "0"), ("container-mounts", "-1")]
    assert outcome.errors == [
        "gpushare: --container-mounts is given as '/a:/a' and as '/b:/b': write it once, with commas"
    ]


def test_sbatch_lets_the_command_line_override_the_script_and_says_so(driver):
    """sbatch calls for the script's #SBATCH lines first; the command line overrides them, as for its own options."""
    outcome = driver("context=allocator", "init", "option=container-image=/script", "option=container-image=/line")
    assert outcome.forwarded == {"container-image": "/line"}
    assert outcome.notices == ["gpushare: --container-image='/line' replaces '/script', which was given before"]


@pytest.mark.parametrize("context", SIDES)
def test_what_the_job_hands_down_is_taken_over(driver, context):
    env = {INHERIT + "container_image": "/job", INHERIT + "container_scope": "tasks"}
    outcome = driver(f"context={context}", "init", "environment", env=env)
    assert outcome.forwarded == {"container-image": "/job", "container-scope": "tasks"}


@pytest.mark.parametrize("context", SIDES)
def test_a_step_may_override_what_the_job_hands_down(driver, context):
    env = {INHERIT + "container_image": "/job"}
    outcome = driver(f"context={context}", "init", "environment", "option=container-image=/step", env=env)
    assert outcome.forwarded == {"container-image": "/step"}
    assert outcome.all("log") == []


def test_a_step_that_overrides_twice_is_refused(driver):
    env = {INHERIT + "container_image": "/job"}
    words = ["option=container-image=/step", "option=container-image=/other"]
    outcome = driver("context=local", "init", "environment", *words, env=env)
    assert outcome.errors == ["gpushare: --container-image is given as '/step' and as '/other': write it once"]


def test_a_bad_value_handed_down_is_refused(driver):
    outcome = driver("context=local", "init", "environment", env={INHERIT + "container_image": "x"})
    assert outcome.forwarded == {}
    assert "is not an absolute path" in outcome.errors[0]


@pytest.mark.parametrize("context", [*SIDES, "remote"])
@pytest.mark.parametrize(
    ("argument", "text"),
    [
        ("container_image=/x", "unknown argument 'container_image=/x': write launcher=PATH or run_dir=PATH"),
        ("launcher", "unknown argument 'launcher'"),
        ("launcherx=/x", "unknown argument 'launcherx=/x'"),
        ("", "unknown argument ''"),
        ("launcher=bin/launch", "'launcher=bin/launch' is not an absolute path: it must begin with /"),
        ("run_dir=", "'run_dir=' is not an absolute path"),
    ],
)
def test_a_bad_plugstack_line_is_refused(driver, context, argument, text):
    outcome = driver(f"context={context}", "plugstack=launcher=/x", f"plugstack={argument}", "init")
    assert outcome.all("init") == [("-1",)]
    assert outcome.all("registered") == []
    (line,) = outcome.errors
    assert line.startswith(f"gpushare: plugstack.conf: {text}")


@pytest.mark.parametrize("context", SIDES)
def test_no_failure_of_slurm_is_passed_over(driver, context):
    words = [f"context={context}", "init", *given(OPTIONS)]
    calls = driver(*words).calls
    assert calls == 2 * len(OPTIONS)  # to register each and to copy its value
    for call in range(1, calls + 1):
        outcome = driver(f"fail-at={call}", *words)
        assert len(outcome.errors) == 1, call
        if call <= len(OPTIONS):
            assert outcome.all("init") == [("-1",)]
        else:
            assert len(outcome.forwarded) == len(OPTIONS) - 1
