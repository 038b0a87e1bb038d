import copy
import pickle

import pytest

from slurm_gpushare.record import Record


class Point(Record):
    x: int
    y: int = 2
    name: str | None = None


def test_fields_come_by_place_by_name_and_by_default():
    assert Point(1) == Point(x=1) == Point(1, 2, None) == (1, 2, None)
    assert (Point(1, name="p").x, Point(1, name="p").name) == (1, "p")
    assert repr(Point(1)) == "Point(x=1, y=2, name=None)"


@pytest.mark.parametrize("values, named", [((), {}), ((1, 2, "p", 4), {}), ((1,), {"x": 2}), ((1,), {"z": 3})])
def test_a_field_that_is_missing_doubled_or_unknown_is_an_error(values, named):
    with pytest.raises(TypeError, match="Point"):
        Point(*values, **named)


def test_a_record_changes_only_into_another():
    point = Point(1)
    assert point._replace(y=5) == Point(1, 5) and point.y == 2
    with pytest.raises(TypeError):
        point._replace(z=1)
    with pytest.raises(AttributeError):
        point.x = 3


def test_copies_are_equal_and_of_the_same_class():
    point = Point(1, 2, "p")
    for other in (copy.copy(point), copy.deepcopy(point), pickle.loads(pickle.dumps(point))):
        assert other == point and type(other) is Point
