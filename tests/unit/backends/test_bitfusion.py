import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_gpushare.backends import bitfusion
from slurm_gpushare.errors import GpushareError
from slurm_gpushare.grant import Grant
from slurm_gpushare.launch import Place
from slurm_gpushare.node_policy import BackendPolicy


def grant(fraction=0.25, gpus=1, slices=25, nodes=1):
    return Grant("bitfusion", gpus, fraction, slices, None, nodes, "rule", "gpu:0.25", "")


def settings(client=None):
    return BackendPolicy(command=None if client is None else str(client), licence="bitfusion", gres="bitfusion")


@pytest.mark.parametrize(
    "text, counts",
    [
        ("", {}),
        ("bitfusion:25", {"bitfusion": 25}),
        ("matlab,bitfusion:25", {"matlab": 1, "bitfusion": 25}),
        ("a:25|b:25|c:25", {"a": 25, "b": 25, "c": 25}),
    ],
)
def test_licences(text, counts):
    assert bitfusion.licences(text) == counts


@pytest.mark.parametrize("text", ["bitfusion:x", "bitfusion:-1", "a:1:2", "a:٣"])
def test_licences_that_are_none(text):
    with pytest.raises(ValueError):
        bitfusion.licences(text)


@pytest.mark.parametrize(
    "held, slices, nodes, believed",
    [
        ("bitfusion:25", 25, 1, True),
        ("x:1,bitfusion:50", 25, 2, True),
        ("bitfusion:25|other:25", 25, 1, True),
        ("bitfusion:26", 25, 1, False),
        ("bitfusion:24", 25, 1, False),
        ("bitfusion:25", 25, 2, False),
        ("bitfusion2:25", 25, 1, False),
        ("other:25", 25, 1, False),
        ("bitfusion:many", 25, 1, False),
        ("", 25, 1, False),
    ],
)
def test_a_grant_is_believed_when_slurm_gave_its_licences(held, slices, nodes, believed):
    reason = bitfusion.agrees(grant(slices=slices, nodes=nodes), {"SLURM_JOB_LICENSES": held}, settings())
    assert (reason is None) is believed


def test_without_licences_in_the_environment_nothing_is_believed():
    assert "none" in bitfusion.agrees(grant(), {}, settings())


@pytest.mark.parametrize(
    "fraction, text",
    [(0.07, "0.07"), (0.25, "0.25"), (1.0, "1"), (1 / 3, "0.333333"), (0.1 + 0.2, "0.3"), (1e-6, "0.000001")],
)
def test_fraction_text(fraction, text):
    assert bitfusion.fraction_text(fraction) == text


@given(st.integers(1, 1000000))
def test_fraction_text_is_what_was_granted(millionths):
    text = bitfusion.fraction_text(millionths / 1000000)
    assert float(text) == millionths / 1000000
    assert ("e" not in text and not text.endswith((".", "0"))) or text == "1"


@pytest.mark.parametrize("step", ["batch", "interactive", "0"])
@pytest.mark.parametrize(
    "tmpdir, restored", [("/tmp/u", ["TMPDIR=/tmp/u"]), ("", ["TMPDIR="]), (None, ["-u", "TMPDIR"])]
)
def test_every_step_runs_in_the_allocation_that_is_there(step, tmpdir, restored):
    argv = bitfusion.task_argv(grant(0.5, 2, 100), settings("/c/bf"), step, ["/s/script", "a b", "--"], tmpdir)
    assert argv == ["/c/bf", "client", "--", "env", *restored, "/s/script", "a b", "--"]


def test_the_share_names_the_gpus_that_slurm_chose():
    assert bitfusion.share_argv(grant(0.5, 2)) == ["-n", "2", "-p", "0.5"]
    pinned = ["--server_list", "h:1", "--filter", "device.id=0", "--filter", "device.id=3"]
    assert bitfusion.share_argv(grant(0.5, 2), Place("s", "h:1", (0, 3))) == ["-n", "2", "-p", "0.5", *pinned]


def test_without_a_command_in_the_policy_it_is_where_its_package_puts_it():
    assert bitfusion.task_argv(grant(), settings(), "0", ["x"], None)[0] == "/usr/bin/bitfusion"


def test_a_command_that_env_would_take_for_an_assignment_is_refused():
    with pytest.raises(GpushareError, match="'='") as caught:
        bitfusion.task_argv(grant(), settings(), "0", ["PATH=/evil", "x"], None)
    assert caught.value.exit_status == 126


def test_a_container_gets_the_client_as_far_as_the_node_has_it(monkeypatch, tmp_path):
    client = tmp_path / "bitfusion"
    client.touch()
    there = tmp_path / "etc"
    there.mkdir()
    monkeypatch.setattr(bitfusion, "CLIENT_FILES", (str(there), str(tmp_path / "nosuch")))
    assert bitfusion.binds(settings(client)) == [str(client), str(there)]
