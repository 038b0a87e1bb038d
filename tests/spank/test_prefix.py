"""`prefix=` in plugstack.conf: other names on the command line, and the same ones for everybody who reads them."""

import pytest

HANDED_ON = "_SLURM_SPANK_OPTION_gpushare_"
INHERIT = "SLURM_SPANK_" + HANDED_ON
SIDES = ("local", "allocator")
PREFIX = "plugstack=prefix=gpushare-"
OURS = [
    "gpushare-container-image", "gpushare-container-mounts", "gpushare-dataset", "gpushare-container-scope",
    "gpushare-container-workdir", "gpushare-container-mount-home", "gpushare-no-container-mount-home",
    "gpushare-container-env", "gpushare-container-writable", "gpu-share", "gpu-mem", "gpu-backend",
]  # fmt: skip


@pytest.mark.parametrize("context", [*SIDES, "remote"])
def test_the_options_for_containers_have_it(driver, context):
    outcome = driver(f"context={context}", PREFIX, "init")
    assert [name for name, _, _ in outcome.all("registered")] == OURS


@pytest.mark.parametrize(
    "prefix", ["", "-", "gpushare", "no-", "Gpu-", "a_b-", "-a-", "g/-", "ä-", "a" * 32 + "-", "a=b-"]
)
def test_what_is_no_prefix_is_refused(driver, prefix):
    outcome = driver("context=local", f"plugstack=prefix={prefix}", "init")
    assert outcome.all("init") == [("-1",)]
    (line,) = outcome.errors
    assert line.startswith(f"gpushare: plugstack.conf: 'prefix={prefix}': write small letters, digits and -")


@pytest.mark.parametrize("prefix", ["g-", "casino-", "x-no-", "2-", "a" * 31 + "-"])
def test_what_is_one_is_taken(driver, prefix):
    words = ["context=local", f"plugstack=prefix={prefix}", "init", f"option={prefix}container-scope=job"]
    assert driver(*words).forwarded == {f"{prefix}container-scope": "job"}


@pytest.mark.parametrize("context", SIDES)
def test_job_submit_and_prolog_find_the_options_as_without_it(driver, context):
    options = ["option=gpushare-container-image=docker://a", "option=gpushare-no-container-mount-home="]
    outcome = driver(f"context={context}", PREFIX, "init", *options, "option=gpu-share=0.5", "init_post_opt")
    assert outcome.all("job") == [
        ("GPUSHARE_PREFIX", "gpushare-"),
        (HANDED_ON + "gpushare_container_image", "(unset)"),
        (HANDED_ON + "container_image", "docker://a"),
        (HANDED_ON + "gpushare_no_container_mount_home", "(unset)"),
        (HANDED_ON + "no_container_mount_home", "yes"),
    ]
    assert outcome.all("log") == []


def test_without_it_nothing_is_handed_on_twice(driver):
    outcome = driver("context=local", "init", "option=container-image=docker://a", "init_post_opt")
    assert outcome.all("job") == []


@pytest.mark.parametrize("context", SIDES)
def test_variables_and_what_a_job_hands_down_keep_their_names(driver, context):
    env = {
        "GPUSHARE_DATASET": "digits",
        INHERIT + "container_image": "/job",
        INHERIT + "gpushare_container_image": "/old",
        INHERIT + "gpushare_container_scope": "tasks",
    }
    outcome = driver(f"context={context}", PREFIX, "init", "environment", env=env)
    assert outcome.forwarded == {"gpushare-container-image": "/job", "gpushare-dataset": "digits"}
    words = ["init", "environment", "option=gpushare-container-image=/step"]
    outcome = driver(f"context={context}", PREFIX, *words, env=env)
    assert outcome.forwarded["gpushare-container-image"] == "/step"
    assert outcome.all("log") == []


@pytest.mark.parametrize(
    ("inherited", "words", "forwarded"),
    [
        ("no_container_mount_home", [], {"gpushare-container-mount-home": "no"}),
        ("no_container_mount_home", ["option=gpushare-container-mount-home="], {"gpushare-container-mount-home": ""}),
    ],
)
def test_a_step_may_choose_another_home(driver, inherited, words, forwarded):
    env = {INHERIT + inherited: "(null)"}
    outcome = driver("context=local", PREFIX, "init", "environment", *words, "init_post_opt", env=env)
    assert outcome.forwarded == forwarded


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("container-scope=all", "--gpushare-container-scope: 'all' is neither job nor tasks: write "
         "--gpushare-container-scope=job or --gpushare-container-scope=tasks"),
        ("container-image=", "--gpushare-container-image: the value is empty: write --gpushare-container-image=PATH"),
        ("dataset=,", "--gpushare-dataset: ',' has an empty name in it: write NAME or NAME,NAME"),
    ],
)  # fmt: skip
def test_messages_have_the_names_that_users_write(driver, option, line):
    assert driver("context=local", PREFIX, "init", f"option=gpushare-{option}").errors == [f"gpushare: {line}"]


def test_what_to_write_instead_of_a_relative_image_has_it(driver):
    outcome = driver("context=local", PREFIX, "init", "option=gpushare-container-image=x.sif", cwd="/")
    assert outcome.errors[0].endswith("write --gpushare-container-image=/x.sif")


def test_an_image_that_is_not_there(driver):
    outcome = driver("context=local", PREFIX, "init", "option=gpushare-container-image=/nosuch", "init_post_opt")
    assert outcome.status == 1
    assert outcome.errors == ["gpushare: --gpushare-container-image: there is no such image: /nosuch"]


def test_home_in_both_ways(driver):
    words = ["option=gpushare-no-container-mount-home=", "option=gpushare-container-mount-home="]
    outcome = driver("context=local", PREFIX, "init", *words, "init_post_opt")
    assert outcome.errors == [
        "gpushare: --gpushare-container-mount-home and --gpushare-no-container-mount-home: write one of them"
    ]


def test_no_option_is_lost_where_slurm_fails(driver):
    words = ["context=local", PREFIX, "init", "option=gpushare-dataset=digits", "init_post_opt"]
    calls = driver(*words).calls
    for call in range(len(OURS) + 2, calls + 1):
        outcome = driver(f"fail-at={call}", *words)
        kept = (HANDED_ON + "dataset", "digits") in outcome.all("job")
        assert kept or outcome.errors == ["gpushare: --gpushare-dataset: Slurm did not hand it on"], call


def test_the_launcher_is_told(driver, tmp_path):
    launcher = tmp_path / "launch"
    launcher.touch(mode=0o755)
    words = ["context=remote", "job=7", "step=0", "env=SLURMD_NODENAME=n1", PREFIX, f"plugstack=launcher={launcher}"]
    words += ["init", "option=gpushare-container-image=/i", "option=gpushare-no-container-mount-home=", "task_init"]
    assert driver(*words).argv == [
        str(launcher), "--record=/run/gpushare/n1/jobs/7/launch.json", "--step=0", "--prefix=gpushare-",
        "--container-image=/i", "--container-mount-home=no", "--",
    ]  # fmt: skip
