"""One real night of taxi trips that has released, for all modules that begin with one."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nightly.cli import night
from nightly.io.paths import Paths
from nightly.serving.confirmation import NOT_CONFIRMED
from tests.support.fixtures import project


@pytest.fixture(scope="session")
def released_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The var/ of a project without a model server in which one night has released, and a copy of it."""
    var = tmp_path_factory.mktemp("released")
    with pytest.MonkeyPatch.context() as patch:
        project(patch, var)
        assert night.main(["taxi", "--as-of", "2014-02-01", "--release"]) == NOT_CONFIRMED
    return var, Path(shutil.copytree(var, tmp_path_factory.mktemp("copies") / "var", symlinks=True))


@pytest.fixture(scope="module")
def released(released_once: tuple[Path, Path]) -> Iterator[Paths]:
    """The paths of that project as the night left it. It stands where it was made: its records name their paths."""
    var, copy = released_once
    shutil.rmtree(var)
    shutil.copytree(copy, var, symlinks=True)
    with pytest.MonkeyPatch.context() as patch:
        yield project(patch, var)
