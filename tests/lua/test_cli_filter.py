"""cli_filter.lua: what it makes of a request for the client to pass on, and that the decision knows its mark."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lupa.lua51 import LuaRuntime

from slurm_gpushare.policy.lua import from_lua, shipped_etc

MARK = "gpushare.client=1"
HEAR = "a step has the share of its job"
FILE = os.path.join(shipped_etc(), "slurm", "gpushare", "cli_filter.lua")

# Slurm's side: an option can be set to a text alone, an unset one reads as nil.
SLURM = """
local slurm_only = { __index = function(_, name) error("slurm has no " .. tostring(name), 2) end }
slurm = setmetatable({ SUCCESS = 0, ERROR = -1 }, slurm_only)
told = {}
io = { stderr = { write = function(_, ...) told[#told + 1] = table.concat({ ... }) end } }
os = { getenv = function(name) return environment[name] end }
function new_options(given)
  return setmetatable({}, {
    __index = function(_, name) return given[name] end,
    __newindex = function(_, name, value)
      if type(value) ~= "string" then error("bad argument #3 (string expected, got " .. type(value) .. ")", 2) end
      if given.broken then error("no such option: " .. name, 2) end
      given[name] = value
    end,
  })
end
"""


class Client:
    """One of Slurm's clients with the filter loaded."""

    def __init__(self) -> None:
        self.runtime = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self.runtime.execute(SLURM)
        self.runtime.execute(Path(FILE).read_bytes())

    def submit(self, kind: str = "sbatch", environment: dict[str, str] | None = None, **options: str) -> tuple:
        """Return status, the options as they are sent (``gpus_per_task`` for --gpus-per-task) and what was told."""
        lua = self.runtime.globals()
        lua[b"told"] = self.runtime.table()
        lua[b"environment"] = self._table(environment or {})
        given = self._table({name.replace("_", "-"): text for name, text in options.items()} | {"type": kind})
        status = lua[b"slurm_cli_pre_submit"](lua[b"new_options"](given), 0)
        sent = {name.replace("-", "_"): text for name, text in from_lua(given).items() if name != "type"}
        return status, sent, list(from_lua(lua[b"told"]).values())

    def _table(self, texts: dict[str, str]) -> object:
        return self.runtime.table_from({name.encode(): text.encode() for name, text in texts.items()})


@pytest.fixture(scope="module")
def client() -> Client:
    return Client()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"gres": "gres/gpu:1"},
        {"gres": "gres/gpu:tesla:2,gres/nvme:1"},
        {"gres": "gres/gpu:tesla"},
        {"gres": "gres/gpu:1g.10gb:1"},
        {"gres": "gres/gpu:2080ti"},
        {"gres": "gres/gpu"},
        {"gres": "gres/craynetwork:4K"},
        {"gres": "none"},
        {"gpus": "2"},
        {"gpus": "tesla:2,volta:1"},
        {"gpus": "tesla"},
        {"gpus_per_node": "1"},
        {"gpus_per_task": "tesla:1"},
        {"gpus_per_socket": "1"},
        {"tres_per_task": "cpu=4,gres/gpu:1"},
    ],
)
@pytest.mark.parametrize("kind", ["sbatch", "salloc", "srun", "scrontab"])
def test_slurms_own_requests_are_marked_and_otherwise_untouched(client, kind, options) -> None:
    assert client.submit(kind, jobid="unset", **options) == (0, options | {"extra": MARK, "jobid": "unset"}, [])


@pytest.mark.parametrize(
    ("options", "gres", "cleared"),
    [
        ({"gres": "gres/gpu:0.25"}, "gpu:0.25", {}),
        ({"gres": "gres/gpu:8G"}, "gpu:8G", {}),
        ({"gres": "gres/gpu:0.5:2"}, "gpu:0.5:2", {}),
        ({"gres": "gres/gpu=0.25"}, "gpu:0.25", {}),
        ({"gres": "gres/gpu:tesla:0.25"}, "gpu:tesla@0.25", {}),
        ({"gres": "gres:gpu:tesla:1/4:2"}, "gpu:tesla@1/4:2", {}),
        ({"gres": "gres/gpu:tesla:8G"}, "gpu:tesla@8G", {}),
        ({"gres": "gres/nvme:1,gres/gpu:1g.10gb:25%"}, "gres/nvme:1,gpu:1g.10gb@25%", {}),
        ({"gpus": "0.25"}, "gpu:job@0.25", {"gpus": ""}),
        ({"gpus": "0.5:2"}, "gpu:job@0.5:2", {"gpus": ""}),
        ({"gpus": "tesla:25%"}, "gpu:job@tesla@25%", {"gpus": ""}),
        ({"gpus": "0.25", "gres": "gres/nvme:1"}, "gres/nvme:1,gpu:job@0.25", {"gpus": ""}),
        ({"gpus_per_task": "1/4"}, "gpu:task@1/4", {"gpus_per_task": ""}),
        ({"gpus_per_task": "tesla:8G"}, "gpu:task@tesla@8G", {"gpus_per_task": ""}),
        ({"gpus_per_task": "1.5"}, "gpu:task@1.5", {"gpus_per_task": ""}),
        ({"gpus_per_task": "nan"}, "gpu:task@nan", {"gpus_per_task": ""}),
        ({"tres_per_task": "gres/gpu:0.25"}, "gpu:task@0.25", {"tres_per_task": ""}),
        ({"tres_per_task": "cpu=2,gres/gpu=1/4"}, "gpu:task@1/4", {"tres_per_task": "cpu=2"}),
        ({"gres": "gres/gpu:a:b:c:d"}, "gpu:a@b@c@d", {}),
    ],
)
@pytest.mark.parametrize("kind", ["sbatch", "salloc", "srun"])
def test_shares_move_to_where_the_client_passes_them_on(client, kind, options, gres, cleared) -> None:
    status, sent, told = client.submit(kind, **options)
    assert (status, told) == (0, [])
    assert sent == options | cleared | {"gres": gres, "extra": MARK}


@pytest.mark.parametrize(("words", "sent"), [(".25", ".25"), ("tesla:0.25", "tesla@0.25"), ("0.5:2", "0.5:2")])
def test_a_share_for_each_node_stays_where_newer_clients_take_it_alone(client, words, sent) -> None:
    for kind in ("sbatch", "salloc"):
        assert client.submit(kind, gpus_per_node=words) == (0, {"gpus_per_node": sent, "extra": MARK}, [])
    status, after, told = client.submit("srun", gpus_per_node=words)
    assert status == -1 and after == {"gpus_per_node": words}
    assert len(told) == 1 and told[0].endswith(f"write --gres=gpu:{words}\n")


def test_what_salloc_leaves_in_its_shell_is_cleared_in_silence(client) -> None:
    left = {"SLURM_GPUS_PER_NODE": "tesla@0.25"}
    assert client.submit("srun", left, jobid="7", gpus_per_node="tesla@0.25") == (
        0,
        {"gpus_per_node": "", "jobid": "7"},
        [],
    )
    assert HEAR in client.submit("srun", left, jobid="7", gpus_per_node="0.5")[2][0]


@pytest.mark.parametrize(
    ("words", "option"), [("cpus_per_gpu", "--cpus-per-gpu=2"), ("mem_per_gpu", "--mem-per-gpu=2")]
)
def test_what_steps_would_count_by_gpu_is_refused_beside_a_share(client, words, option) -> None:
    for kind in ("srun", "salloc"):
        status, _, told = client.submit(kind, gres="gres/gpu:0.25", **{words: "2"})
        assert status == -1 and len(told) == 1 and told[0].startswith(f"{kind}: error: gpushare: {option}: ")
        assert client.submit(kind, gres="gres/gpu:1", **{words: "2"})[0] == 0
    assert client.submit("sbatch", gres="gres/gpu:0.25", **{words: "2"})[0] == 0


def test_the_decision_takes_the_same_mark_away() -> None:
    assert f'M.MARK = "{MARK}"' in Path(shipped_etc(), "slurm", "gpushare", "request.lua").read_text()


def test_the_users_own_extra_follows_the_mark(client) -> None:
    assert client.submit(extra="color=blue")[1] == {"extra": MARK + ",color=blue"}
    assert client.submit(extra=MARK + ",color=blue")[1] == {"extra": MARK + ",color=blue"}


def test_a_share_for_each_socket_is_refused(client) -> None:
    status, sent, told = client.submit(gpus_per_socket="0.25")
    assert status == -1 and sent == {"gpus_per_socket": "0.25"}
    (line,) = told
    assert line.startswith("sbatch: error: gpushare: --gpus-per-socket=0.25: ") and line.endswith("\n")


SHARD = {"SLURMD_NODENAME": "n1", "SLURM_SHARDS_ON_NODE": "25"}
POOL = {"SLURMD_NODENAME": "c1", "SLURM_JOB_LICENSES": "bitfusion:25"}


@pytest.mark.parametrize(
    ("environment", "options", "sent"),
    [
        (SHARD, {"gres": "gres/gpu:0.25"}, {"gres": "shard:25"}),
        (SHARD, {"gres": "gres/nvme:1,gres/gpu:tesla:0.25"}, {"gres": "gres/nvme:1,shard:25"}),
        (POOL, {"gres": "gres/gpu:0.25"}, {"gres": ""}),
        (SHARD, {"gpus": "0.25"}, {"gpus": ""}),
        ({}, {"gpus": "0.25"}, {"gpus": ""}),
        ({}, {"gpus_per_task": "tesla:0.25", "gres": "gres/nvme:1"}, {"gpus_per_task": "", "gres": "gres/nvme:1"}),
        (POOL, {"tres_per_task": "cpu=2,gres/gpu:0.25"}, {"tres_per_task": "cpu=2"}),
    ],
)
def test_a_step_has_the_share_of_its_job(client, environment, options, sent) -> None:
    status, after, told = client.submit("srun", environment, jobid="7", **options)
    assert status == 0 and after == options | sent | {"jobid": "7"}
    (line,) = told
    assert line.startswith("srun: gpushare: --") and HEAR in line


@pytest.mark.parametrize("options", [{}, {"gres": "gres/gpu:1"}, {"gres": "none"}, {"gres": "gres/shard:12"}])
@pytest.mark.parametrize("environment", [{}, SHARD, POOL, {"SLURMD_NODENAME": "n1"}])
def test_other_steps_are_untouched(client, environment, options) -> None:
    assert client.submit("srun", environment, jobid="7", **options) == (0, options | {"jobid": "7"}, [])


@pytest.mark.parametrize(
    ("environment", "options", "said"),
    [
        ({}, {"gres": "gres/gpu:0.25"}, HEAR),
        ({"SLURMD_NODENAME": "n1"}, {"gpus": "0.25"}, "there is no share of a GPU here"),
    ],
)
def test_a_step_that_cannot_have_it_is_refused(client, environment, options, said) -> None:
    status, after, told = client.submit("srun", environment, jobid="7", **options)
    assert status == -1 and after == options | {"jobid": "7"}
    assert len(told) == 1 and told[0].startswith("srun: error: gpushare: --") and said in told[0]


def test_sbatch_within_a_job_asks_for_a_new_one(client) -> None:
    assert client.submit("sbatch", SHARD, gpus="0.25")[1]["gres"] == "gpu:job@0.25"


def test_a_fault_lets_the_request_go_on_and_says_so(client) -> None:
    status, sent, told = client.submit(gpus="0.25", broken="yes")
    assert status == 0 and sent == {"gpus": "0.25", "broken": "yes"}
    assert len(told) == 1 and told[0].startswith("sbatch: gpushare: a fault in cli_filter.lua")


TEXT = st.text(max_size=40) | st.text(alphabet="gputesla0123456789.:=@%/,KGi-", max_size=30)


@given(
    st.fixed_dictionaries(
        {}, optional=dict.fromkeys(("gres", "gpus", "gpus_per_node", "gpus_per_task", "tres_per_task", "extra"), TEXT)
    ),
    st.sampled_from(["sbatch", "srun"]),
    st.sampled_from(["unset", "7"]),
)
def test_no_text_is_a_fault(client, options, kind, jobid) -> None:
    options = {name: text.replace("\0", "") for name, text in options.items()}
    status, _, told = client.submit(kind, {}, jobid=jobid, **options)
    assert status in (0, -1)
    assert not any("fault" in line for line in told)
    assert all(line.count("\n") == 1 and line.strip().isprintable() for line in told)


class SitesClient(Client):
    """A client whose cli_filter.lua is a site's own, with the line that includes ours at its end."""

    def __init__(self, above: str) -> None:
        self.runtime = LuaRuntime(encoding=None, register_eval=False, register_builtins=False)
        self.runtime.execute(SLURM)
        include = Path(shipped_etc(), "slurm", "cli_filter.lua").read_text()
        self.runtime.execute(above + include.replace("/etc/slurm/", str(Path(FILE).parents[1]) + "/"))


def test_a_sites_filter_comes_first_and_ours_reads_what_it_wrote() -> None:
    site = SitesClient(
        """
        function slurm_cli_setup_defaults(options) options["gpus"] = "a100:0.5"; return slurm.SUCCESS end
        function slurm_cli_pre_submit(options) options["partition"] = options["gpus"]; return slurm.SUCCESS end
        function slurm_cli_post_submit(_, job) told[#told + 1] = "job " .. job; return slurm.SUCCESS end
        """
    )
    lua = site.runtime.globals()
    options = site._table({"type": "sbatch"})
    assert lua[b"slurm_cli_setup_defaults"](lua[b"new_options"](options)) == 0
    assert lua[b"slurm_cli_pre_submit"](lua[b"new_options"](options), 0) == 0
    assert from_lua(options) == {
        "type": "sbatch", "partition": "a100:0.5", "gpus": "", "gres": "gpu:job@a100@0.5", "extra": MARK,
    }  # fmt: skip
    lua[b"told"] = site.runtime.table()
    assert lua[b"slurm_cli_post_submit"](0, 7) == 0
    assert list(from_lua(lua[b"told"]).values()) == ["job 7"]


def test_what_a_sites_filter_refuses_ours_leaves_alone() -> None:
    site = SitesClient("function slurm_cli_pre_submit() return slurm.ERROR end\n")
    assert site.submit(gpus="0.5") == (-1, {"gpus": "0.5"}, [])


def test_a_fault_of_a_sites_filter_is_slurms_to_judge() -> None:
    site = SitesClient("function slurm_cli_pre_submit() error('the site broke') end\n")
    with pytest.raises(Exception, match="the site broke"):
        site.submit(gpus="0.5")


def test_without_a_sites_filter_every_function_is_there() -> None:
    lua = SitesClient("").runtime.globals()
    assert [lua[b"slurm_cli_" + name]() for name in (b"setup_defaults", b"post_submit")] == [0, 0]
