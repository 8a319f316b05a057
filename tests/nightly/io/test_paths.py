"""Where state is: below var/, unless a variable names another folder."""

import pytest

from nightly.io import variables
from nightly.io.paths import ROOT, Paths


def test_everything_lies_below_var_in_the_projects_folder():
    paths = Paths.from_environment({})
    assert paths.var == ROOT / "var"
    assert paths.ml_python == ROOT / ".venv/ml/bin/python"
    assert {name: getattr(paths, name) for name in variables.FOLDERS} == {
        name: ROOT / "var" / name for name in variables.FOLDERS
    }


def test_each_folder_can_be_named_by_a_variable_relative_to_the_current_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = Paths.from_environment({"NIGHTLY_VAR": "/state", "NIGHTLY_SERVING": "volume"})
    assert paths.serving == tmp_path / "volume"
    assert str(paths.nights) == "/state/nights"


@pytest.mark.parametrize("given", [{}, {"NIGHTLY_HOST_IDLE_SECONDS": ""}])
def test_a_variable_that_is_set_to_nothing_has_its_default(given):
    assert variables.HOST_IDLE_SECONDS.read(given) == "900"
