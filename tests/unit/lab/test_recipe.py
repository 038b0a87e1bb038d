"""The key under which a root file system is kept."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from slurm_gpushare.lab import recipe
from slurm_gpushare.lab.params import SLURM_VERSIONS

PYPROJECT = """
[build-system]
requires = ["setuptools"]
[project]
dependencies = ["b>=1", "a"]
[project.optional-dependencies]
html = ["h"]
mariadb = ["m"]
test = ["t"]
"""
SOURCE = Path(__file__).parents[3]
RECIPE = recipe.Recipe("w", "apt", "s", "u", ("p",), "pin", "setup", ("a",))


def test_requirements_are_the_products_and_the_builds() -> None:
    assert recipe.python_requirements(PYPROJECT) == ("a", "b>=1", "h", "m", "setuptools")


def test_the_same_recipe_has_the_same_key() -> None:
    assert RECIPE.key() == replace(RECIPE).key()
    assert len(RECIPE.key()) == 16


@pytest.mark.parametrize("field", [field.name for field in fields(recipe.Recipe)])
def test_every_part_is_in_the_key(field: str) -> None:
    other = ("x",) if isinstance(getattr(RECIPE, field), tuple) else "x"
    assert replace(RECIPE, **{field: other}).key() != RECIPE.key()


def test_each_version_of_slurm_has_a_recipe_of_its_own() -> None:
    recipes = [recipe.read_recipe(SOURCE, version) for version in SLURM_VERSIONS]
    assert [one.suite for one in recipes] == ["trixie", "sid"]
    assert len({one.what for one in recipes}) == len({one.key() for one in recipes}) == len(recipes)
    assert all(one.packages == recipe.PACKAGES and one.python for one in recipes)


def test_only_apptainer_comes_from_unstable() -> None:
    pins = [paragraph.splitlines() for paragraph in recipe.PREFERENCES.strip().split("\n\n")]
    assert [(pin[0], pin[2]) for pin in pins] == [
        ("Package: *", "Pin-Priority: 1"),
        ("Package: apptainer", "Pin-Priority: 600"),
    ]
