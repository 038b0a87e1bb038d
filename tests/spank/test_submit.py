"""The submitting side, srun (local) and sbatch and salloc (allocator), on a mock of Slurm."""

import pytest

SIDES = ("local", "allocator")
OPTIONS = {
    "container-image": "/images/torch.sif",
    "container-mounts": "/scratch/alice:/work,/models:/models:ro",
    "dataset": "digits,iris",
    "container-scope": "tasks",
    "container-workdir": "/work",
    "container-mount-home": "yes",
    "no-container-mount-home": "",
    "container-env": "PATH,LD_LIBRARY_PATH",
    "container-writable": "yes",
    "gpu-share": "0.25",
    "gpu-mem": "8G",
    "gpu-backend": "shard",
}
FLAGS = ("container-mount-home", "no-container-mount-home", "container-writable")
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
        ("dataset", "digits:/data,iris"),
        ("container-scope", "job"),
        ("container-workdir", "/"),
        ("container-mount-home", ""),
        ("container-mount-home", "no"),
        ("container-writable", ""),
        ("container-writable", "no"),
        ("container-env", "_a1"),
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
        *[(name, "", "the value is empty: write --" + name) for name in OPTIONS if name not in FLAGS],
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
        ("container-workdir", "work", "'work' is not an absolute path"),
        ("container-workdir", "../x", "'../x' is not an absolute path"),
        ("container-mount-home", "true", "'true' is neither yes nor no"),
        ("container-writable", "1", "'1' is neither yes nor no"),
        ("no-container-mount-home", "no", "'no': it takes no value"),
        ("container-env", "A=1", "'A=1' is not the name of a variable: write NAME or NAME,NAME"),
        ("container-env", "A,,B", "'' is not the name"),
        ("container-env", "A,1B", "'1B' is not the name"),
        ("container-env", "A B", "'A B' is not the name"),
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
        ("container_image=/x", "unknown argument 'container_image=/x': write launcher=PATH, run_dir="),
        ("see_images=maybe", "unknown argument 'see_images=maybe'"),
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


@pytest.mark.parametrize("context", SIDES)
def test_the_users_own_variables_are_defaults(driver, context):
    env = {"GPUSHARE_CONTAINER_IMAGE": "/own", "GPUSHARE_DATASET": "digits", "GPUSHARE_CONTAINER_MOUNT_HOME": "no"}
    outcome = driver(f"context={context}", "init", "environment", env=env)
    assert outcome.forwarded == {"container-image": "/own", "dataset": "digits", "container-mount-home": "no"}
    words = ["option=container-image=/line", "option=container-mount-home="]
    outcome = driver(f"context={context}", "init", "environment", *words, env=env)
    assert outcome.forwarded == {"container-image": "/line", "dataset": "digits", "container-mount-home": ""}
    assert outcome.all("log") == []


def test_what_the_job_hands_down_goes_before_the_users_variables(driver):
    env = {"GPUSHARE_CONTAINER_IMAGE": "/own", INHERIT + "container_image": "/job"}
    assert driver("context=local", "init", "environment", env=env).forwarded == {"container-image": "/job"}


def test_only_what_concerns_containers_is_a_variable(driver):
    env = {"GPUSHARE_GPU_SHARE": "0.5", "GPUSHARE_NO_CONTAINER_MOUNT_HOME": "yes", "GPUSHARE_CONTAINER_ENV": ""}
    assert driver("context=allocator", "init", "environment", env=env).forwarded == {}


def test_a_bad_variable_of_the_users_is_refused(driver):
    outcome = driver("context=local", "init", "environment", env={"GPUSHARE_CONTAINER_WRITABLE": "1"})
    assert outcome.errors == ["gpushare: --container-writable: '1' is neither yes nor no"]


@pytest.mark.parametrize("context", SIDES)
@pytest.mark.parametrize("words", [("no-container-mount-home=", "container-mount-home="), ("container-mount-home=no",)])
def test_home_in_both_ways_is_refused(driver, context, words):
    words = [f"option={word}" for word in (*words, "no-container-mount-home=")]
    outcome = driver(f"context={context}", "init", *words, "init_post_opt")
    assert outcome.status == 1
    assert outcome.errors == ["gpushare: --container-mount-home and --no-container-mount-home: write one of them"]


@pytest.mark.parametrize(
    ("inherited", "words", "forwarded"),
    [
        ("no_container_mount_home", [], {"container-mount-home": "no"}),
        ("no_container_mount_home", ["option=container-mount-home="], {"container-mount-home": ""}),
        (
            "container_mount_home",
            ["option=no-container-mount-home="],
            {"container-mount-home": "(null)", "no-container-mount-home": ""},
        ),
    ],
)
def test_a_step_may_choose_otherwise_than_its_job(driver, inherited, words, forwarded):
    """Where both are sent on, the node takes the second (test_task.py)."""
    outcome = driver(
        "context=local", "init", "environment", *words, "init_post_opt", env={INHERIT + inherited: "(null)"}
    )
    assert outcome.forwarded == forwarded
    assert outcome.all("init_post_opt") == [("0",)]


@pytest.mark.parametrize("context", SIDES)
@pytest.mark.parametrize("name", ["nosuch.sif", "file/x.sif"])
def test_an_image_that_is_not_there_is_refused_before_anything_is_allocated(driver, context, name, tmp_path):
    (tmp_path / "file").touch()
    words = [f"context={context}", "init", f"option=container-image={tmp_path}/{name}", "init_post_opt"]
    outcome = driver(*words)
    assert outcome.status == 1
    assert outcome.errors == [f"gpushare: --container-image: there is no such image: {tmp_path}/{name}"]
    # Hosts that do not see the nodes' images, and steps, which may be in a container that does not.
    assert driver("plugstack=see_images=no", *words).all("init_post_opt") == [("0",)]
    assert driver(*words, env={"SLURM_JOB_ID": "7"}).all("init_post_opt") == [("0",)]


@pytest.mark.parametrize("value", ["docker://nosuch/image", "{}/image", "{}"])
def test_an_image_that_is_there_or_cannot_be_seen_is_not(driver, value, tmp_path):
    (tmp_path / "image").touch()
    words = ["context=allocator", "init", f"option=container-image={value.format(tmp_path)}", "init_post_opt"]
    assert driver(*words).all("init_post_opt") == [("0",)]


def test_the_image_that_counts_is_the_last(driver, tmp_path):
    words = ["option=container-image=/nosuch/script.sif", f"option=container-image={tmp_path}"]
    assert driver("context=allocator", "init", *words, "init_post_opt").all("init_post_opt") == [("0",)]


def test_what_is_to_be_mounted_and_not_here_is_said(driver, tmp_path):
    mounts = f"{tmp_path}:/a,/nosuch/b:/b:ro"
    outcome = driver("context=local", "init", f"option=container-mounts={mounts}", "init_post_opt")
    assert outcome.all("init_post_opt") == [("0",)]
    (line,) = outcome.notices
    assert line.startswith("gpushare: --container-mounts: '/nosuch/b' is not on this host")


@pytest.mark.parametrize("context", ["local", "allocator"])
def test_where_paths_lead_here_is_handed_on(driver, context, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "image").touch()
    (tmp_path / "link").symlink_to("real")
    real, link = tmp_path / "real", tmp_path / "link"
    mounts = f"{real}:/a,{link}:/b:ro,/nosuch/c:/c,{real}/../link:/d"
    options = [f"option=container-image={link}/image", f"option=container-mounts={mounts}"]
    words = [f"context={context}", "init", *options, "init_post_opt"]
    outcome = driver(*words)
    assert [told for told in outcome.all("job") if told[1] != "(unset)"] == [
        ("GPUSHARE_REAL_IMAGE", f"{real}/image"),
        ("GPUSHARE_REAL_MOUNT_2", f"{real}"),
        ("GPUSHARE_REAL_MOUNT_4", f"{real}"),
    ]
    # Within a job this host may be a container, and where images are the nodes' alone nothing is known of them.
    assert driver(*words, env={"SLURM_JOB_ID": "7"}).all("job") == []
    assert driver("plugstack=see_images=no", *words).all("job") == []


@pytest.mark.parametrize("value", ["{}/image", "docker://{}/link", "oras://h/i:1"])
def test_a_path_that_leads_where_it_says_is_not(driver, value, tmp_path):
    (tmp_path / "image").touch()
    outcome = driver("context=local", "init", f"option=container-image={value.format(tmp_path)}", "init_post_opt")
    assert outcome.all("job") == []


def test_what_one_component_of_a_job_was_told_is_not_the_nexts(driver, tmp_path):
    """sbatch has one environment for all components of a heterogeneous job."""
    (tmp_path / "image").touch()
    (tmp_path / "link").symlink_to("image")
    first = [f"option=container-image={tmp_path}/link", f"option=container-mounts={tmp_path}/link:/a"]
    other = [f"option=container-image={tmp_path}/image", f"option=container-mounts={tmp_path}/image:/a"]
    for second in (other, ["option=container-image=docker://h/i", other[1]]):
        outcome = driver("context=allocator", "init", *first, "init_post_opt", *second, "init_post_opt")
        names = ("GPUSHARE_REAL_IMAGE", "GPUSHARE_REAL_MOUNT_1")
        told = [(name, f"{tmp_path}/image") for name in names]
        assert outcome.all("job") == [*told, *((name, "(unset)") for name in names)]


def test_a_path_with_control_characters_is_not_handed_on(driver, tmp_path):
    (tmp_path / "a\x1bb").mkdir()
    (tmp_path / "link").symlink_to("a\x1bb")
    outcome = driver("context=local", "init", f"option=container-mounts={tmp_path}/link:/a", "init_post_opt")
    assert outcome.all("job") == [] and outcome.notices == []


def test_what_slurm_does_not_take_is_only_advice(driver, tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    words = ["context=local", "init", f"option=container-image={tmp_path}/link", "init_post_opt"]
    calls = driver(*words).calls
    for call in range(1, calls + 1):
        outcome = driver(f"fail-at={call}", *words)
        assert outcome.status in (0, 1) and "Sanitizer" not in outcome.stderr
