"""The night's snapshot step on a real model, its retention, and the command line."""

import json

from nightly.cli.snapshots import main
from nightly.models import load_config
from nightly.nights import snapshot as step
from nightly.records.baseline import Baseline
from nightly.records.config import Retention
from nightly.records.night import SnapshotRef
from nightly.records.verdict import Verdict
from nightly.snapshots.store import SnapshotStore
from nightly.sources import fetch
from nightly.tfx.metadata import NightlyMetadata
from tests.support.metadata import run_with_an_artifact
from tests.support.nights import a_night, utc
from tests.support.records import release_record


def plan(paths, run_id, as_of):
    night = a_night(run_id=run_id, as_of=as_of, release=False)
    folder = night.folder(paths)
    night.save(folder / "request.json")
    window = {"window_start": night.window_start, "window_end": as_of}
    fetch(load_config("taxi").source, **window, folder=folder).save(folder / "download.json")
    return folder


def in_production(paths, snapshot_id, state):
    release_record(version=1, state=state, snapshot_id=snapshot_id, released_at=utc(2016, 1, 1)).save(
        paths.releases / "taxi/1.json"
    )


def accepted(folder):
    verdict = Verdict(model="taxi", run_id="x", outcome="ACCEPTED", summary="", reasons=[], decided_at=utc(2016, 1, 1))
    verdict.save(folder / "verdict.json")


def test_a_night_gets_its_snapshot(paths):
    folder = plan(paths, "night 1", utc(2015, 1, 1))
    result = step.run(folder, paths)
    ref = SnapshotRef.load(folder / "snapshot.json")
    assert result == ref.model_dump(mode="json")
    assert ref.created
    assert ref.rows > 3000
    assert ref.path == str(paths.snapshots / "taxi" / ref.snapshot_id)
    assert step.run(folder, paths) == result | {"created": False}


def test_a_damaged_snapshot_is_made_anew_by_the_next_night_of_the_same_rows(paths, capsys):
    folder = plan(paths, "night 1", utc(2015, 1, 1))
    first = step.run(folder, paths)
    (shard,) = SnapshotStore(paths.snapshots, "taxi").path(first["snapshot_id"]).glob("rows-*.parquet")
    shard.unlink()
    assert main(["list", "taxi"]) == 1
    assert f"{shard.name} is missing. Clear `snapshot`" in capsys.readouterr().err
    assert main(["show", "taxi", first["snapshot_id"]]) == 1
    assert f"{shard.name} is missing. Clear `snapshot`" in capsys.readouterr().err
    assert step.run(folder, paths) == first
    assert main(["verify", "taxi"]) == 0
    assert "1 snapshots of taxi are as their manifests say, 0 are damaged" in capsys.readouterr().out


def test_retention_spares_what_is_referred_to(paths, monkeypatch):
    retention = load_config("taxi").retention.model_copy(update={"snapshots": 1})
    config = load_config("taxi").model_copy(update={"retention": retention})
    monkeypatch.setattr(step, "config_of", lambda night: config)
    ids, folders = [], []
    for month in range(1, 8):
        folders.append(plan(paths, f"night {month}", utc(2015, month, 1)))
        ids.append(step.run(folders[-1], paths)["snapshot_id"])
    in_production(paths, ids[0], "removed")
    Baseline(model="taxi", run_id="x", as_of=utc(2015, 1, 1), snapshot_id=ids[1], accepted_at=utc(2016, 1, 1)).save(
        paths.baselines / "taxi/20150201-x/baseline.json"
    )
    for number, outcome in {3: "ACCEPTED", 4: "HELD_DATA", 5: "FAILED"}.items():
        verdict = Verdict(model="taxi", run_id="x", outcome=outcome, summary="", reasons=[], decided_at=utc(2016, 1, 1))
        verdict.save(folders[number - 1] / "verdict.json")
    # 1 released, 2 accepted before, 3 accepted, 4 held, 5 failed, 6 and 7 without a verdict yet
    folder = plan(paths, "night 8", utc(2015, 8, 1))
    ids.append(step.run(folder, paths)["snapshot_id"])
    left = {manifest.snapshot_id for manifest in SnapshotStore(paths.snapshots, "taxi").manifests()}
    assert left == set(ids) - {ids[3], ids[4]}


def test_an_unfinished_night_keeps_its_snapshot_however_many_are_accepted_after_it(paths, monkeypatch):
    config = load_config("taxi").model_copy(update={"retention": Retention(snapshots=1, accepted_snapshots=1)})
    monkeypatch.setattr(step, "config_of", lambda night: config)
    unfinished = step.run(plan(paths, "night 1", utc(2015, 3, 1)), paths)["snapshot_id"]
    for day in (2, 3, 4):
        folder = plan(paths, f"night {day}", utc(2015, 3, day))
        step.run(folder, paths)
        accepted(folder)
    assert unfinished in {manifest.snapshot_id for manifest in SnapshotStore(paths.snapshots, "taxi").manifests()}


def test_accepted_nights_do_not_keep_snapshots_without_end(paths, monkeypatch):
    """Every night is accepted, and the second one's model is in production all the time."""
    bound = {"snapshots": 2, "accepted_snapshots": 4}
    config = load_config("taxi").model_copy(update={"retention": Retention(**bound)})
    monkeypatch.setattr(step, "config_of", lambda night: config)
    ids, counts = [], []
    for day in range(1, 13):
        folder = plan(paths, f"night {day}", utc(2015, 3, day))
        ids.append(step.run(folder, paths)["snapshot_id"])
        baseline = Baseline(
            model="taxi", run_id="x", as_of=utc(2015, 3, day), snapshot_id=ids[-1], accepted_at=utc(2016, 1, 1)
        )
        baseline.save(paths.baselines / f"taxi/201503{day:02}-x/baseline.json")
        accepted(folder)
        if day == 2:
            in_production(paths, ids[-1], "released")
        counts.append(len(SnapshotStore(paths.snapshots, "taxi").manifests()))
    assert len(set(ids)) == 12 and max(counts) <= 4 + 1 + 1  # production's, and the night's own
    left = {manifest.snapshot_id for manifest in SnapshotStore(paths.snapshots, "taxi").manifests()}
    assert {ids[1], *ids[-4:]} <= left
    in_production(paths, ids[1], "removed")
    step.run(plan(paths, "night 13", utc(2015, 3, 13)), paths)
    assert ids[1] not in {manifest.snapshot_id for manifest in SnapshotStore(paths.snapshots, "taxi").manifests()}


def test_the_retention_can_be_applied_without_a_night(paths, monkeypatch, capsys):
    """As a person does whose nights have no room to begin."""
    for month in (1, 2, 3):
        folder = plan(paths, f"night {month}", utc(2015, month, 1))
        step.run(folder, paths)
        verdict = Verdict(
            model="taxi", run_id="x", outcome="FAILED", summary="", reasons=[], decided_at=utc(2016, 1, 1)
        )
        verdict.save(folder / "verdict.json")
    root = paths.pipeline / "taxi"
    with NightlyMetadata(paths, "taxi") as handle:
        for number in range(5):
            run_with_an_artifact(handle, f"night-{number}", root / "examples/examples" / str(number))
    config = load_config("taxi").model_copy(update={"retention": Retention(snapshots=1, runs=2)})
    monkeypatch.setattr("nightly.cli.snapshots.load_config", lambda model: config)
    assert main(["prune", "taxi"]) == 0
    assert "removed 0 versions, 2 snapshots, 0 bodies and 3 artifacts of taxi; " in capsys.readouterr().out
    assert len(SnapshotStore(paths.snapshots, "taxi").manifests()) == 1
    assert sorted(path.name for path in (root / "examples/examples").iterdir()) == ["3", "4"]


def test_nothing_is_removed_while_a_record_cannot_be_read(paths):
    (paths.releases / "taxi").mkdir(parents=True)
    (paths.releases / "taxi/1.json").write_text("{}")
    assert step.run(plan(paths, "night 1", utc(2015, 1, 1)), paths)["rows"] > 0


def test_the_command_lists_and_shows(paths, capsys):
    step.run(plan(paths, "night 1", utc(2015, 1, 1)), paths)
    ref = step.run(plan(paths, "night 2", utc(2015, 2, 1)), paths)
    assert main(["list", "taxi"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert listed[0].split() == ["SNAPSHOT", "CREATED", "ROWS", "FROM", "TO", "NIGHTS", "MB"]
    assert listed[2].startswith(ref["snapshot_id"][:12])
    assert f"{ref['rows']:,}" in listed[2]
    assert main(["list", "taxi", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[1]["snapshot_id"] == ref["snapshot_id"]
    assert main(["show", "taxi", ref["snapshot_id"][:8], "--rows", "2"]) == 0
    shown = capsys.readouterr().out
    assert ref["snapshot_id"] in shown
    assert "ROW 2" in shown
    assert "ROW 3" not in shown
    assert "big_tipper" in shown
    assert main(["show", "taxi", ref["snapshot_id"], "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == ref["rows"]


def test_the_commands_errors_say_what_there_is(paths, capsys):
    assert main(["list", "taxy"]) == 2
    assert "did you mean 'taxi'?" in capsys.readouterr().err
    assert main(["list", "taxi"]) == 0
    assert "no snapshot yet" in capsys.readouterr().out
    assert main(["show", "taxi", "abc"]) == 2
    assert "there is none yet" in capsys.readouterr().err
