"""Over generated requests: never a fault, never resources without a grant or a grant without resources."""

import re
from fractions import Fraction

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from slurm_gpushare.grant import MAX_BYTES, decode_grant

# No NUL: Slurm's strings end there.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=30)
DECIMAL = st.from_regex(r"[0-9]{0,3}\.?[0-9]{0,12}", fullmatch=True)
AMOUNT = st.one_of(
    DECIMAL,
    st.integers(-3, 300).map(str),
    st.fractions(0, 1, max_denominator=1000).map(lambda value: str(float(value))),
    st.sampled_from(
        [
            "nan",
            "-0",
            "1e-9",
            "0x10",
            "8G",
            "8GB",
            "0.5T",
            "25%",
            "1/4",
            "1/0",
            "task@0.3",
            "job@1/3",
            "tesla@9%",
            "tesla",
            "1g.10gb",
            "\u0660.\u0662",
            "\x1b[31m",
            ":",
            "=1",
        ]
    ),
    TEXT,
)
NAME = st.sampled_from(["gpu", "gpu", "gpu", "gpu", "shard", "bitfusion", "nvme", "GPU", "gpu_", "mps", ""])
SEPARATOR = st.sampled_from([":", ":", ":", ":", "=", "::", "@", ""])
PREFIX = st.sampled_from(["gres/", "gres/", "gres:", "", "license/", "gres/gres:"])
ITEM = st.one_of(
    st.builds("".join, st.tuples(st.just("gres/gpu:"), DECIMAL)),
    st.builds("".join, st.tuples(PREFIX, NAME, SEPARATOR, AMOUNT)),
    st.builds("".join, st.tuples(PREFIX, NAME, SEPARATOR, AMOUNT, SEPARATOR, AMOUNT)),
    TEXT,
)
LIST = st.lists(ITEM, min_size=1, max_size=3).map(",".join)
JOB = st.fixed_dictionaries(
    {"tres_per_node": st.one_of(st.builds("gres/gpu:{}".format, DECIMAL), LIST)},
    optional={
        "tres_per_job": LIST,
        "tres_per_task": LIST,
        "partition": st.sampled_from(
            ["shard", "bitfusion", "pool2", "cpu", "shard,bitfusion", "bitfusion,pool2", "", ","]
        ),
        "licenses": st.one_of(st.sampled_from(["matlab:1", "bitfusion:25", "a|b", "bitfusion"]), TEXT),
        "extra": st.one_of(TEXT, st.text(max_size=900), st.just('{"v":1}')),
        "min_nodes": st.integers(0, 5),
        "max_nodes": st.integers(0, 5),
        "num_tasks": st.integers(1, 9),
        "ntasks_per_node": st.integers(1, 9),
        "cpus_per_tres": st.sampled_from(["gres/gpu:2", "gres/gpu:x", "gres/gpu:a100:2"]),
        "mem_per_tres": st.sampled_from(["gres/gpu:2G", "gres/gpu:", "gres/gpu:99999999999"]),
        "spank_job_env": st.lists(
            st.builds(
                "_SLURM_SPANK_OPTION_gpushare_{}={}".format,
                st.sampled_from(["container_image", "gpu_share", "gpu_mem", "gpu_backend", "dataset"]),
                st.one_of(AMOUNT, st.sampled_from(["shard", "bitfusion", "/data/images/a"])),
            ),
            max_size=2,
        ),
    },
)
SHARES = re.compile(r"(?:^|,)gres/(?:shard|bitfusion):(\d+)")


@given(JOB)
@example({"tres_per_node": "gres/gpu:2", "partition": "bitfusion"})
@settings(max_examples=800, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_any_request(controller, job: dict) -> None:
    job = {name: value.replace("\0", "") if isinstance(value, str) else value for name, value in job.items()}
    asked = {"spank_job_env": [], **job}
    answer = controller.submit(**job)
    assert answer.status in (0, -1)
    assert answer.logged == []
    after = answer.job.get("tres_per_node") or ""
    if answer.status == -1:
        assert len(answer.told) == 1 and answer.told[0].isprintable()
        del asked["spank_job_env"]
        assert {name: answer.job.get(name) for name in asked} == asked
        return
    extra = answer.job.get("extra") or ""
    taken = SHARES.findall(after)
    licences = re.findall(r"(?:^|,)bitfusion:(\d+)$", answer.job.get("licenses") or "")
    if not extra.startswith('{"v":'):
        assert not taken and not licences
        assert extra == asked.get("extra", "")
        return
    assert len(extra.encode()) <= MAX_BYTES
    grant = decode_grant(extra)
    assert taken == [str(grant.slices)]
    assert licences == ([str(grant.slices * grant.nodes)] if grant.backend == "bitfusion" else [])
    assert grant.extra == asked.get("extra", "")
    assert grant.slices == round(grant.tasks * grant.gpus * grant.fraction * 100)
    share = wanted(grant.request)
    if share is not None:
        # From one on it is their number, and the slices are of all of them.
        assert share * 100 <= grant.slices / (grant.gpus if share < 1 else 1) / grant.tasks
    if grant.request.startswith("gpu:") and share is not None and ":" not in grant.request[4:]:
        assert grant.slices < share * 100 + 1
    assert len(answer.told) == 1 and answer.told[0].startswith("gpushare: ")


def wanted(request: str) -> Fraction | None:
    """The share of one GPU, or their number, that a grant's words ask for; None where they name memory."""
    words = re.fullmatch(r"(?:gpu|--gpus|--gpu-share|--gpus-per-task)[:=]?([^ ]*)(?: --gpu-mem=.*)?", request)
    if words is None:
        return None
    for word in re.split("[:=]", words[1] or "1"):
        if word.endswith("%") and re.fullmatch(r"[0-9.]+%", word):
            return Fraction(word[:-1]) / 100
        if re.fullmatch(r"[0-9]+/[0-9]+", word) or re.fullmatch(r"[0-9]*\.[0-9]*", word):
            return Fraction(word)
    return Fraction(words[1]) if words[1].isdigit() and not request.startswith("--gpus") else None
