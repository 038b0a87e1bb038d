#!/usr/bin/env python3
"""Train a convolutional network for some batches and print images/sec, as tf_cnn_benchmarks does.

    cnn_benchmark.py --model=resnet50 --batch_size=32 --num_batches=100

The networks are those of that suite (inception3, resnet50, alexnet, and lenet for small images), described once below
and built for whichever of TensorFlow 2, JAX and PyTorch is there. Arguments are named as the suite names them. Images
are synthetic, or, with --data_dir, real ones: digits.csv as scikit-learn ships it, or a .npz file with x_train and
y_train. Of real images a fifth is kept apart, and told at the end is how many of these were recognised.
"""

import argparse
import importlib.util
import math
import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

SYNTHETIC_CLASSES = 1001  # ImageNet's, and the background
SEED = 7


@dataclass(frozen=True)
class Conv:
    """A convolution, then batch normalisation or a bias, then a ReLU where it is ``active``."""

    filters: int
    size: tuple[int, int]
    stride: int = 1
    padding: str = "same"
    norm: bool = True
    active: bool = True


@dataclass(frozen=True)
class Pool:
    """The maximum or the average of each window."""

    kind: str  # max | avg
    size: int
    stride: int
    padding: str = "valid"


@dataclass(frozen=True)
class Branches:
    """Paths side by side, joined by channel."""

    paths: tuple


@dataclass(frozen=True)
class Residual:
    """A path added to its input, or to a shortcut from there; then a ReLU."""

    path: tuple
    shortcut: tuple = ()


@dataclass(frozen=True)
class Dense:
    """A fully connected layer; the first one flattens."""

    units: int
    active: bool = True


@dataclass(frozen=True)
class Dropout:
    """Half of the values, left out while training."""


@dataclass(frozen=True)
class Mean:
    """The average over all places of the image."""


@dataclass(frozen=True)
class Network:
    """A network without its last layer, which has one unit for each class."""

    image_size: int
    smallest: int  # image size below which a window no longer fits
    batch_size: int
    learning_rate: float
    layers: tuple


def conv(filters: int, height: int, width: int | None = None, stride: int = 1, padding: str = "same") -> Conv:
    """Return a normalised convolution."""
    return Conv(filters, (height, width or height), stride, padding)


def plain(filters: int, size: int, stride: int = 1, padding: str = "same") -> Conv:
    """Return a convolution with a bias."""
    return Conv(filters, (size, size), stride, padding, norm=False)


def alexnet() -> Network:
    """Return AlexNet in its form for one GPU, without local response normalisation."""
    half = Pool("max", 3, 2)
    features = (plain(64, 11, 4, "valid"), half, plain(192, 5), half, plain(384, 3), plain(384, 3), plain(256, 3), half)
    return Network(227, 67, 512, 0.005, (*features, Dense(4096), Dropout(), Dense(4096), Dropout()))


def lenet() -> Network:
    """Return LeNet-5 with ReLUs."""
    half = Pool("max", 2, 2)
    return Network(28, 4, 32, 0.02, (plain(32, 5), half, plain(64, 5), half, Dense(512)))


def resnet50() -> Network:
    """Return the first version of ResNet-50, which strides in a block's first convolution."""
    layers = [conv(64, 7, stride=2), Pool("max", 3, 2, "same")]
    for stage, blocks in enumerate((3, 4, 6, 3)):
        depth = 64 << stage
        for block in range(blocks):
            stride = 2 if stage and not block else 1
            path = (conv(depth, 1, stride=stride), conv(depth, 3), Conv(4 * depth, (1, 1), active=False))
            layers.append(Residual(path, () if block else (Conv(4 * depth, (1, 1), stride, active=False),)))
    return Network(224, 32, 64, 0.05, (*layers, Mean()))


def inception3() -> Network:
    """Return Inception v3 without its auxiliary head."""
    average, shrink = Pool("avg", 3, 1, "same"), Pool("max", 3, 2)

    def first(pooled: int) -> Branches:
        return Branches(
            (
                (conv(64, 1),),
                (conv(48, 1), conv(64, 5)),
                (conv(64, 1), conv(96, 3), conv(96, 3)),
                (average, conv(pooled, 1)),
            )
        )

    def middle(n: int) -> Branches:
        return Branches(
            (
                (conv(192, 1),),
                (conv(n, 1), conv(n, 1, 7), conv(192, 7, 1)),
                (conv(n, 1), conv(n, 7, 1), conv(n, 1, 7), conv(n, 7, 1), conv(192, 1, 7)),
                (average, conv(192, 1)),
            )
        )

    def last(pool: Pool) -> Branches:
        split = Branches(((conv(384, 1, 3),), (conv(384, 3, 1),)))
        return Branches(
            ((conv(320, 1),), (conv(384, 1), split), (conv(448, 1), conv(384, 3), split), (pool, conv(192, 1)))
        )

    def down(*paths: tuple) -> Branches:
        return Branches((*((*path[:-1], conv(path[-1], 3, stride=2, padding="valid")) for path in paths), (shrink,)))

    layers = (
        *(conv(32, 3, stride=2, padding="valid"), conv(32, 3, padding="valid"), conv(64, 3), shrink),
        *(conv(80, 1), conv(192, 3, padding="valid"), shrink),
        *(first(32), first(64), first(64), down((384,), (conv(64, 1), conv(96, 3), 96))),
        *(middle(128), middle(160), middle(160), middle(192)),
        down((conv(192, 1), 320), (conv(192, 1), conv(192, 1, 7), conv(192, 7, 1), 192)),
        *(last(average), last(Pool("max", 3, 1, "same")), Mean()),
    )
    return Network(299, 75, 32, 0.05, layers)


MODELS = {"alexnet": alexnet, "inception3": inception3, "lenet": lenet, "resnet50": resnet50}


class UseTensorFlow:
    """The network in Keras, trained by a compiled step."""

    def __init__(self, layers: tuple, options: argparse.Namespace, shape: tuple[int, int, int], classes: int):
        """Build it for images of ``shape``."""
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")
        import tensorflow as tf

        self.tf, self.version = tf, f"TensorFlow {tf.__version__}"
        if options.num_intra_threads:
            tf.config.threading.set_intra_op_parallelism_threads(options.num_intra_threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.random.set_seed(SEED)
        gpus = tf.config.list_physical_devices("GPU") if options.device != "cpu" else []
        self.device = "/gpu:0" if gpus else "/cpu:0"
        self.hardware = tf.config.experimental.get_device_details(gpus[0]).get("device_name") if gpus else None
        with tf.device(self.device):
            image = tf.keras.Input(shape)
            self.model = tf.keras.Model(image, self._walk((*layers, Dense(classes, active=False)), image))
            optimizer = tf.keras.optimizers.SGD(options.learning_rate, momentum=options.momentum)
            optimizer.build(self.model.trainable_variables)
        cross = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)

        @tf.function
        def step(images, labels):
            with tf.GradientTape() as tape:
                loss = cross(labels, self.model(images, training=True))
            optimizer.apply_gradients(
                zip(tape.gradient(loss, self.model.trainable_variables), self.model.trainable_variables, strict=True)
            )
            return loss

        self._step = step
        self._guess = tf.function(lambda images: tf.argmax(self.model(images, training=False), axis=1))

    def _walk(self, layers: tuple, x):
        keras = self.tf.keras.layers
        for layer in layers:
            match layer:
                case Conv(filters, size, stride, padding, norm, active):
                    x = keras.Conv2D(filters, size, stride, padding, use_bias=not norm, kernel_initializer="he_normal")(
                        x
                    )
                    x = keras.BatchNormalization(momentum=0.9, epsilon=1e-5)(x) if norm else x
                    x = keras.ReLU()(x) if active else x
                case Pool(kind, size, stride, padding):
                    x = (keras.MaxPool2D if kind == "max" else keras.AvgPool2D)(size, stride, padding)(x)
                case Branches(paths):
                    x = keras.Concatenate()([self._walk(path, x) for path in paths])
                case Residual(path, shortcut):
                    x = keras.ReLU()(keras.Add()([self._walk(path, x), self._walk(shortcut, x)]))
                case Dense(units, active):
                    x = x if len(x.shape) == 2 else keras.Flatten()(x)
                    x = keras.Dense(units, "relu" if active else None)(x)
                case Dropout():
                    x = keras.Dropout(0.5)(x)
                case Mean():
                    x = keras.GlobalAveragePooling2D()(x)
        return x

    def put(self, images, labels) -> tuple:
        """Return a batch where the network takes it."""
        with self.tf.device(self.device):
            return self.tf.constant(images), self.tf.constant(labels)

    def step(self, images, labels) -> float:
        """Train one batch and return its loss."""
        with self.tf.device(self.device):
            return float(self._step(images, labels))

    def guess(self, images):
        """Return the class of each image."""
        with self.tf.device(self.device):
            return self._guess(self.tf.constant(images)).numpy()


class UsePyTorch:
    """The network as PyTorch's modules."""

    def __init__(self, layers: tuple, options: argparse.Namespace, shape: tuple[int, int, int], classes: int):
        """Build it for images of ``shape``."""
        import torch

        self.torch, self.version = torch, f"PyTorch {torch.__version__}"
        if options.num_intra_threads:
            torch.set_num_threads(options.num_intra_threads)
        torch.manual_seed(SEED)
        gpu = options.device != "cpu" and torch.cuda.is_available()
        self.device, self.hardware = "/cpu:0", None
        self._place = torch.device("cuda:0" if gpu else "cpu")
        if gpu:
            self.device, self.hardware = "/gpu:0", torch.cuda.get_device_name(0)
            torch.backends.cudnn.benchmark = True
            # The job's share of the card's memory, for which PyTorch knows no variable of its own.
            torch.cuda.set_per_process_memory_fraction(float(os.environ.get("GPUSHARE_MEMORY_FRACTION", "1")), 0)
        self.model = self._walk((*layers, Dense(classes, active=False))).to(self._place)
        with torch.no_grad():
            self.model.eval()(torch.zeros(1, shape[2], shape[0], shape[1], device=self._place))  # learns its sizes
        for module in self.model.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
        self.optimizer = torch.optim.SGD(self.model.parameters(), options.learning_rate, options.momentum)

    def _walk(self, layers: tuple):
        nn, torch = self.torch.nn, self.torch

        class Join(nn.Module):
            """Several paths from one input, and what becomes of their outputs."""

            def __init__(self, paths, join):
                super().__init__()
                self.paths, self.join = nn.ModuleList(paths), join

            def forward(self, x):
                return self.join([path(x) for path in self.paths])

        made = []
        for layer in layers:
            match layer:
                case Conv(filters, size, stride, padding, norm, active):
                    edge = [side // 2 if padding == "same" else 0 for side in size]
                    made.append(nn.LazyConv2d(filters, size, stride, edge, bias=not norm))
                    made += [nn.LazyBatchNorm2d(eps=1e-5, momentum=0.1)] if norm else []
                    made += [nn.ReLU()] if active else []
                case Pool(kind, size, stride, padding):
                    edge = size // 2 if padding == "same" else 0
                    made.append((nn.MaxPool2d if kind == "max" else nn.AvgPool2d)(size, stride, edge))
                case Branches(paths):
                    made.append(Join(map(self._walk, paths), lambda outputs: torch.cat(outputs, 1)))
                case Residual(path, shortcut):
                    made.append(Join([self._walk(path), self._walk(shortcut)], lambda both: torch.relu(sum(both))))
                case Dense(units, active):
                    made += [nn.Flatten(), nn.LazyLinear(units), *([nn.ReLU()] if active else [])]
                case Dropout():
                    made.append(nn.Dropout(0.5))
                case Mean():
                    made.append(nn.AdaptiveAvgPool2d(1))
        return nn.Sequential(*made)

    def put(self, images, labels) -> tuple:
        """Return a batch where the network takes it."""
        images = self.torch.from_numpy(images).permute(0, 3, 1, 2).contiguous()
        return images.to(self._place), self.torch.from_numpy(labels).long().to(self._place)

    def step(self, images, labels) -> float:
        """Train one batch and return its loss."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.torch.nn.functional.cross_entropy(self.model(images), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss)

    def guess(self, images):
        """Return the class of each image."""
        self.model.eval()
        with self.torch.no_grad():
            return self.model(self.put(images, labels=_numpy().zeros(0))[0]).argmax(1).cpu().numpy()


class UseJax:
    """The network as a function of its parameters; batch normalisation goes by the batch, also when it guesses."""

    def __init__(self, layers: tuple, options: argparse.Namespace, shape: tuple[int, int, int], classes: int):
        """Build it for images of ``shape``."""
        import jax

        if options.device == "cpu":
            jax.config.update("jax_platforms", "cpu")
        self.jax, self.version = jax, f"JAX {jax.__version__}"
        place = jax.devices()[0]
        gpu = place.platform in ("gpu", "cuda", "rocm")
        self.device, self.hardware = ("/gpu:0", place.device_kind) if gpu else ("/cpu:0", None)
        whole = (*layers, Dense(classes, active=False))
        self.parameters: list = []
        self.key = jax.random.key(SEED)
        random = iter(jax.random.split(jax.random.key(SEED), 1000))

        def make(sizes, scale, *, ones=False):
            drawn = jax.numpy.ones(sizes) if ones else scale * jax.random.normal(next(random), sizes)
            self.parameters.append(drawn)
            return drawn

        self._walk(whole, jax.numpy.zeros((1, *shape)), make, None)
        self.velocity = [jax.numpy.zeros_like(one) for one in self.parameters]

        def scores(parameters, images, key):
            rest = iter(parameters)
            return self._walk(whole, images, lambda *_, **__: next(rest), key)

        def loss(parameters, images, labels, key):
            logs = jax.nn.log_softmax(scores(parameters, images, key))
            return -jax.numpy.take_along_axis(logs, labels[:, None], 1).mean()

        def step(parameters, velocity, images, labels, key):
            value, slopes = jax.value_and_grad(loss)(parameters, images, labels, key)
            velocity = [options.momentum * old + slope for old, slope in zip(velocity, slopes, strict=True)]
            moved = [one - options.learning_rate * speed for one, speed in zip(parameters, velocity, strict=True)]
            return moved, velocity, value

        self._step = jax.jit(step, donate_argnums=(0, 1))
        self._guess = jax.jit(lambda parameters, images: scores(parameters, images, None).argmax(1))

    def _walk(self, layers: tuple, x, make, key):
        """Return what the layers make of ``x``; each parameter comes from ``make``, in their order."""
        jax, lax, jnp = self.jax, self.jax.lax, self.jax.numpy
        for place, layer in enumerate(layers):
            match layer:
                case Conv(filters, size, stride, padding, norm, active):
                    kernel = (*size, x.shape[-1], filters)
                    weights = make(kernel, math.sqrt(2 / math.prod(kernel[:3])))
                    x = lax.conv_general_dilated(
                        x, weights, (stride, stride), padding.upper(), dimension_numbers=("NHWC", "HWIO", "NHWC")
                    )
                    if norm:
                        mean, spread = x.mean((0, 1, 2)), x.var((0, 1, 2))
                        x = (x - mean) * lax.rsqrt(spread + 1e-5) * make((filters,), 1, ones=True)
                    x = x + make((filters,), 0)
                    x = jax.nn.relu(x) if active else x
                case Pool(kind, size, stride, padding):
                    window = ((1, size, size, 1), (1, stride, stride, 1), padding.upper())
                    if kind == "max":
                        x = lax.reduce_window(x, -jnp.inf, lax.max, *window)
                    else:
                        x = lax.reduce_window(x, 0.0, lax.add, *window) / (size * size)
                case Branches(paths):
                    x = jnp.concatenate([self._walk(path, x, make, key) for path in paths], -1)
                case Residual(path, shortcut):
                    x = jax.nn.relu(self._walk(path, x, make, key) + self._walk(shortcut, x, make, key))
                case Dense(units, active):
                    x = x.reshape(x.shape[0], -1)
                    x = x @ make((x.shape[1], units), math.sqrt(2 / (x.shape[1] + units))) + make((units,), 0)
                    x = jax.nn.relu(x) if active else x
                case Dropout():
                    if key is not None:
                        kept = jax.random.bernoulli(jax.random.fold_in(key, place), 0.5, x.shape)
                        x = jnp.where(kept, 2 * x, 0)
                case Mean():
                    x = x.mean((1, 2))
        return x

    def put(self, images, labels) -> tuple:
        """Return a batch where the network takes it."""
        return self.jax.device_put(images), self.jax.device_put(labels)

    def step(self, images, labels) -> float:
        """Train one batch and return its loss."""
        self.key, drop = self.jax.random.split(self.key)
        self.parameters, self.velocity, loss = self._step(self.parameters, self.velocity, images, labels, drop)
        return float(loss)

    def guess(self, images):
        """Return the class of each image."""
        return _numpy().asarray(self._guess(self.parameters, images))


FRAMEWORKS = {"tensorflow": UseTensorFlow, "jax": UseJax, "pytorch": UsePyTorch}
MODULES = {"tensorflow": "tensorflow", "jax": "jax", "pytorch": "torch"}


def _numpy():
    import numpy

    return numpy


def find_framework(wanted: str, found=importlib.util.find_spec) -> str:
    """Return the framework to use: the one ``wanted``, or for auto the first that is installed; exits without one."""
    names = list(FRAMEWORKS) if wanted == "auto" else [wanted]
    for name in names:
        if found(MODULES[name]):
            return name
    sys.exit(f"cnn_benchmark.py: no {' or '.join(names)} in this Python: choose an image that has it")


def load(folder: str) -> tuple:
    """Return (images, labels) of a folder: bytes by number, row, column and channel; exits where there are none."""
    numpy = _numpy()
    files = sorted(Path(folder).glob("*.npz")) if os.path.isdir(folder) else []
    if os.path.exists(os.path.join(folder, "digits.csv")):
        rows = numpy.loadtxt(os.path.join(folder, "digits.csv"), delimiter=",")
        images, labels = (rows[:, :64].reshape(-1, 8, 8) * 15.9375).astype("uint8"), rows[:, 64]
    elif files:
        with numpy.load(files[0]) as held:
            if not {"x_train", "y_train"} <= set(held):
                sys.exit(f"cnn_benchmark.py: {files[0]}: has no x_train and y_train")
            images, labels = held["x_train"], held["y_train"].reshape(-1)
    else:
        sys.exit(f"cnn_benchmark.py: --data_dir={folder}: has neither digits.csv nor a .npz file")
    images = images if images.ndim == 4 else images[..., None]
    return images, labels.astype("int32")


def scaled(images, size: int):
    """Return images (bytes) as the networks take them: three channels, ``size`` square, from -1 to 1."""
    numpy = _numpy()
    rows, columns = (numpy.arange(size) * side // size for side in images.shape[1:3])
    channels = [0, 1, 2] if images.shape[3] >= 3 else [0, 0, 0]
    return (images[:, rows][:, :, columns][..., channels] / 127.5 - 1).astype("float32")


class Data:
    """Where batches come from."""

    def __init__(self, options: argparse.Namespace):
        """Read the images of ``options.data_dir``, or make one synthetic batch."""
        numpy = _numpy()
        self.random = numpy.random.default_rng(SEED)
        self.size, self.batch = options.image_size, options.batch_size
        if options.data_dir is None:
            self.name, self.classes = "imagenet (synthetic)", SYNTHETIC_CLASSES
            images = self.random.normal(0, 0.5, (self.batch, self.size, self.size, 3)).astype("float32")
            self.fixed = images, self.random.integers(0, self.classes, self.batch, "int32")
            return
        self.fixed = None
        images, labels = load(options.data_dir)
        order = self.random.permutation(len(labels))
        cut = len(order) * 4 // 5
        self.seen = images[order[:cut]], labels[order[:cut]]
        self.unseen = images[order[cut:]], labels[order[cut:]]
        self.name, self.classes = f"{options.data_dir} ({len(labels)} images)", int(labels.max()) + 1

    def draw(self) -> tuple:
        """Return a batch of real images, drawn at random, and their labels."""
        chosen = self.random.integers(0, len(self.seen[1]), self.batch)
        return scaled(self.seen[0][chosen], self.size), self.seen[1][chosen]


def speed(batch: int, seconds: list[float]) -> str:
    """Return the rate of the steps so far, its uncertainty and its jitter, in the suite's words."""
    rates = [batch / one for one in seconds]
    middle = statistics.median(rates)
    uncertainty = statistics.pstdev(rates) / math.sqrt(len(rates))
    jitter = 1.4826 * statistics.median(abs(rate - middle) for rate in rates)
    mean = batch / statistics.fmean(seconds)
    return f"images/sec: {mean:.1f} +/- {uncertainty:.1f} (jitter = {jitter:.1f})"


def train(framework, data: Data, options: argparse.Namespace) -> float:
    """Train, print a line every few batches, return the images per second of all batches after the warm-up."""
    fixed = None if data.fixed is None else framework.put(*data.fixed)
    print("Running warm up", flush=True)
    for _ in range(options.num_warmup_batches):
        framework.step(*(fixed or framework.put(*data.draw())))
    print("Done warm up\nStep\tImg/sec\ttotal_loss", flush=True)
    seconds = []
    began = last = time.monotonic()
    for step in range(1, options.num_batches + 1):
        loss = framework.step(*(fixed or framework.put(*data.draw())))
        now = time.monotonic()
        seconds.append(now - last)
        last = now
        if step == 1 or step % options.display_every == 0:
            # JAX ends at -0.0; adding 0.0 takes the sign away.
            print(f"{step}\t{speed(options.batch_size, seconds)}\t{loss + 0.0:.3f}", flush=True)
    return options.num_batches * options.batch_size / (last - began)


def recognised(framework, data: Data) -> tuple[int, int]:
    """Return how many of the images that were kept apart are recognised, and how many there are."""
    images, labels = data.unseen
    right = 0
    for start in range(0, len(labels), data.batch):
        part = images[start : start + data.batch]
        right += int((framework.guess(scaled(part, data.size)) == labels[start : start + data.batch]).sum())
    return right, len(labels)


def read_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """Return the arguments with the model's own values where none were given; exits when one cannot be used."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model", choices=MODELS, required=True)
    parser.add_argument("--framework", choices=("auto", *FRAMEWORKS), default="auto")
    parser.add_argument(
        "--device", choices=("auto", "gpu", "cpu"), default="auto", help="gpu: fail where there is none"
    )
    parser.add_argument("--batch_size", type=int, help="images of one step; default: the suite's for the model")
    parser.add_argument("--image_size", type=int, help="rows and columns; default: the suite's for the model")
    parser.add_argument("--num_batches", type=int, default=100, help="steps that are timed")
    parser.add_argument("--num_warmup_batches", type=int, default=10, help="steps before")
    parser.add_argument("--display_every", type=int, default=10, help="steps between two lines")
    parser.add_argument("--data_dir", help="folder with real images; default: synthetic ones")
    parser.add_argument("--init_learning_rate", type=float, dest="learning_rate", help="default: the model's")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--num_intra_threads", type=int, default=0, help="threads of the CPU; 0: the framework's")
    options = parser.parse_args(argv)
    network = MODELS[options.model]()
    for name in ("batch_size", "image_size", "learning_rate"):
        if getattr(options, name) is None:
            setattr(options, name, getattr(network, name))
    for name in ("batch_size", "num_batches", "display_every"):
        if getattr(options, name) < 1:
            parser.error(f"--{name}={getattr(options, name)}: write a number from 1 on")
    if options.num_warmup_batches < 0:
        parser.error(f"--num_warmup_batches={options.num_warmup_batches}: write 0 or more")
    if options.image_size < network.smallest:
        parser.error(f"--image_size={options.image_size}: {options.model} needs {network.smallest} at least")
    return options


def main() -> int:
    """Train and print as the suite does."""
    options = read_arguments()
    name = find_framework(options.framework)
    data = Data(options)
    shape = (options.image_size, options.image_size, 3)
    framework = FRAMEWORKS[name](MODELS[options.model]().layers, options, shape, data.classes)
    if options.device == "gpu" and framework.device != "/gpu:0":
        sys.exit(f"cnn_benchmark.py: --device=gpu: {framework.version} sees no GPU here")
    for key, value in (
        ("Framework", framework.version),
        ("Model", options.model),
        ("Dataset", data.name),
        ("Mode", "training"),
        ("Batch size", f"{options.batch_size} global"),
        ("Image size", options.image_size),
        ("Num batches", options.num_batches),
        ("Devices", [framework.device]),
        ("Hardware", framework.hardware or "no GPU"),
        ("Optimizer", f"momentum ({options.momentum:g}), learning rate {options.learning_rate:g}"),
    ):
        print(f"{key + ':':12} {value}")
    print("==========", flush=True)
    rate = train(framework, data, options)
    print(f"{'-' * 64}\ntotal images/sec: {rate:.2f}\n{'-' * 64}", flush=True)
    if data.fixed is None:
        right, of = recognised(framework, data)
        print(f"Accuracy @ 1 = {right / of:.4f} [{of} examples]", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
