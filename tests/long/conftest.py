"""The lab of the long tests: with TensorFlow's image."""

from collections.abc import Iterator

import pytest

from tests.lab.cluster import Cluster
from tests.lab.up import lab_up


@pytest.fixture(scope="session")
def tensorflow_cluster() -> Iterator[Cluster]:
    """A lab with the image that the job scripts name, and with the other examples'."""
    yield from lab_up("testtf", "--tensorflow")
