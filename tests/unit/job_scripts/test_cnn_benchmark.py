"""The benchmark's networks are the published ones, layer by layer; its arguments and its words are the suite's."""

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from slurm_gpushare.study.plan import MODELS, OWN_MODELS

PATH = Path(__file__).parents[3] / "job_scripts/cnn_benchmark.py"


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    """Return the program as a module."""
    specification = importlib.util.spec_from_file_location("cnn_benchmark", PATH)
    module = importlib.util.module_from_spec(specification)
    sys.modules["cnn_benchmark"] = module
    specification.loader.exec_module(module)
    return module


class Shape:
    """Follows a network by the sizes of what goes through it, and counts what it learns."""

    def __init__(self, benchmark: ModuleType, size: int):
        self.benchmark, self.rows, self.columns, self.depth, self.learned = benchmark, size, size, 3, 0

    def shrink(self, size: tuple[int, int], stride: int, padding: str) -> None:
        """Take the size of a window's answers."""
        for name, side in (("rows", size[0]), ("columns", size[1])):
            width = getattr(self, name)
            width = -(-width // stride) if padding == "same" else (width - side) // stride + 1
            assert width > 0, "a window is larger than what it slides over"
            setattr(self, name, width)

    def branch(self, path: tuple) -> "Shape":
        """Return the shape after a path that starts here."""
        other = Shape(self.benchmark, 0)
        other.rows, other.columns, other.depth = self.rows, self.columns, self.depth
        other.walk(path)
        self.learned += other.learned
        return other

    def walk(self, layers: tuple) -> None:
        """Go through layers."""
        b = self.benchmark
        for layer in layers:
            match layer:
                case b.Conv():
                    self.shrink(layer.size, layer.stride, layer.padding)
                    # Normalisation learns a scale and an offset, without it there is a bias.
                    self.learned += math.prod(layer.size) * self.depth * layer.filters + layer.filters * (
                        1 + layer.norm
                    )
                    self.depth = layer.filters
                case b.Pool():
                    self.shrink((layer.size, layer.size), layer.stride, layer.padding)
                case b.Branches():
                    ends = [self.branch(path) for path in layer.paths]
                    assert len({(end.rows, end.columns) for end in ends}) == 1, "paths that cannot be joined"
                    self.rows, self.columns, self.depth = ends[0].rows, ends[0].columns, sum(end.depth for end in ends)
                case b.Residual():
                    one, other = self.branch(layer.path), self.branch(layer.shortcut)
                    assert (one.rows, one.columns, one.depth) == (other.rows, other.columns, other.depth)
                    self.rows, self.columns, self.depth = one.rows, one.columns, one.depth
                case b.Dense():
                    inputs = self.rows * self.columns * self.depth
                    self.learned += (inputs + 1) * layer.units
                    self.rows, self.columns, self.depth = 1, 1, layer.units
                case b.Mean():
                    self.rows = self.columns = 1
                case b.Dropout():
                    pass
                case _:
                    raise AssertionError(f"unknown layer {layer}")


def learned(benchmark: ModuleType, model: str, classes: int) -> int:
    """Return how many numbers a model learns."""
    network = benchmark.MODELS[model]()
    shape = Shape(benchmark, network.image_size)
    shape.walk((*network.layers, benchmark.Dense(classes, active=False)))
    return shape.learned


@pytest.mark.parametrize(
    ("model", "count"),
    [
        # As torchvision has them for 1000 classes; Inception without its auxiliary head.
        ("resnet50", 25_557_032),
        ("inception3", 23_834_568),
        # 23296 + 307392 + 663936 + 1327488 + 884992 + (256 * 36 + 1) * 4096 + 4097 * 4096 + 4097 * 1000
        ("alexnet", 61_838_248),
        # LeNet as TensorFlow's tutorials of MNIST had it, but with three channels and a layer of 512.
        ("lenet", 32 * 76 + 64 * 801 + 3137 * 512 + 513 * 1000),
    ],
)
def test_networks_are_the_published_ones(benchmark: ModuleType, model: str, count: int) -> None:
    assert learned(benchmark, model, 1000) == count


@pytest.mark.parametrize("model", OWN_MODELS)
def test_the_smallest_image_is_the_smallest(benchmark: ModuleType, model: str) -> None:
    network = benchmark.MODELS[model]()
    Shape(benchmark, network.smallest).walk(network.layers)
    if model != "resnet50":  # whose windows fit everywhere
        with pytest.raises(AssertionError, match="larger"):
            Shape(benchmark, network.smallest - 1).walk(network.layers)


def test_the_study_knows_the_models(benchmark: ModuleType) -> None:
    assert tuple(sorted(benchmark.MODELS)) == OWN_MODELS and set(MODELS) <= set(OWN_MODELS)


def test_what_is_left_out_is_the_suites(benchmark: ModuleType) -> None:
    options = benchmark.read_arguments(["--model=alexnet"])
    assert (options.batch_size, options.image_size, options.num_batches) == (512, 227, 100)
    assert benchmark.read_arguments(["--model=inception3", "--batch_size=8"]).batch_size == 8


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--model=vgg"], "invalid choice: 'vgg'"),
        ([], "required: --model"),
        (["--model=alexnet", "--image_size=32"], "--image_size=32: alexnet needs 67 at least"),
        (["--model=lenet", "--num_batches=0"], "--num_batches=0: write a number from 1 on"),
        (["--model=lenet", "--num_warmup_batches=-1"], "--num_warmup_batches=-1: write 0 or more"),
    ],
)
def test_arguments_that_cannot_be_used(
    benchmark: ModuleType, argv: list[str], said: str, capsys: pytest.CaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended:
        benchmark.read_arguments(argv)
    assert ended.value.code == 2 and said in capsys.readouterr().err


def test_the_first_framework_that_is_there(benchmark: ModuleType) -> None:
    assert benchmark.find_framework("auto", {"jax", "torch"}.__contains__) == "jax"
    assert benchmark.find_framework("pytorch", {"torch"}.__contains__) == "pytorch"
    with pytest.raises(SystemExit, match="no tensorflow or jax or pytorch in this Python"):
        benchmark.find_framework("auto", set().__contains__)


def test_a_line_is_as_the_suite_prints_it(benchmark: ModuleType) -> None:
    line = benchmark.speed(32, [0.5, 0.5, 0.25])
    assert re.fullmatch(r"images/sec: \d+\.\d \+/- \d+\.\d \(jitter = \d+\.\d\)", line)
    assert line == "images/sec: 76.8 +/- 17.4 (jitter = 0.0)"


class Fake:
    """A framework that computes nothing."""

    version, device, hardware = "Fake 1", "/cpu:0", None

    def __init__(self, *_):
        self.steps = 0

    def put(self, *batch):
        return batch

    def step(self, images, labels) -> float:
        self.steps += 1
        return 1 / self.steps


def test_the_last_line_is_all_images_over_all_seconds(
    benchmark: ModuleType, capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(100))
    monkeypatch.setattr(benchmark.time, "monotonic", lambda: next(seconds))
    options = benchmark.read_arguments(["--model=lenet", "--num_batches=20", "--batch_size=3"])
    framework = Fake()

    class Data:
        fixed = ([], [])

    assert benchmark.train(framework, Data(), options) == 20 * 3 / 20
    assert framework.steps == 30, "ten of them to warm up"
    said = capsys.readouterr().out.splitlines()
    assert [line.split("\t")[0] for line in said] == ["Running warm up", "Done warm up", "Step", "1", "10", "20"]
    assert said[-1] == "20\timages/sec: 3.0 +/- 0.0 (jitter = 0.0)\t0.033"
