import json
from pathlib import Path

import pytest

from nightly.cli.releases import main
from nightly.release.store import ReleaseStore
from tests.support.releases import FILES, NOW, export, release


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReleaseStore:
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    for name in ("SERVING", "RELEASES"):
        monkeypatch.delenv(f"NIGHTLY_{name}", raising=False)
    store = ReleaseStore(tmp_path / "serving", tmp_path / "releases", "taxi")
    for i in range(3):
        release(store, export(tmp_path / "export", str(i)), f"run-{i}", NOW + i)
    store.quarantine(NOW + 2, "golden predictions differ")
    return store


def test_list_tells_production_from_the_others(store, capsys):
    assert main(["list", "taxi"]) == 0
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[:2] for line in lines] == [
        [str(NOW + 2), "quarantined"],
        [str(NOW + 1), "production"],
        [str(NOW), "released"],
    ]
    assert "golden predictions differ" in lines[0]


def test_show_prints_the_record(store, capsys):
    assert main(["show", "taxi", str(NOW)]) == 0
    assert json.loads(capsys.readouterr().out)["run_id"] == "run-0"


def test_verify_says_whether_the_files_are_those_released(store, capsys):
    assert main(["verify", "taxi", str(NOW)]) == 0
    assert f"{len(FILES)} files, all as released" in capsys.readouterr().out
    (store.disk.folder / str(NOW) / FILES[0]).write_bytes(b"other")
    assert main(["verify", "taxi", str(NOW)]) == 1
    assert f"{FILES[0]} has changed" in capsys.readouterr().err


def test_unknown_names_are_refused_with_those_there_are(store, capsys):
    assert main(["list", "taxy"]) == 2
    assert "did you mean 'taxi'?" in capsys.readouterr().err
    assert main(["show", "taxi", "5"]) == 2
    assert str(NOW) in capsys.readouterr().err
