"""Logged predictions and later labels that come from other hosts through a bucket."""

import datetime as dt
import os
import time
from pathlib import Path

import pandas as pd
import pytest

from nightly.canary.labels import FeedbackError, later_labels
from nightly.cli.predictions import main
from nightly.io.paths import Paths
from nightly.models import load_config
from nightly.prediction_log import DamagedLogError, read
from nightly.records.config import CanaryConfig
from nightly.records.label_spec import LabelSpec
from nightly.state import current
from nightly.state.errors import ChangedElsewhereError, StateAddressError
from nightly_client.log import PredictionLog
from tests.nightly.state.conftest import address, s3  # noqa: F401  the fixtures
from tests.support.shared_releases import SharedReleases

START = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)


@pytest.fixture
def hosts(address, tmp_path):  # noqa: F811
    return SharedReleases(address, tmp_path)


def log(folder: Path, *ids: str, file_format: str = "jsonl") -> Path:
    """Log a prediction of each id, and return the complete file."""
    with PredictionLog(folder, format=file_format) as written:
        written.write([{"x": 1.0}] * len(ids), [0.5] * len(ids), model="taxi", version=1, ids=ids)
        return written.rotate()


def logged(start: dt.datetime | None = START) -> list[str]:
    tables = read(Paths.from_environment().predictions / "taxi", start)
    return sorted(name for table in tables for name in table["serving/id"].to_pylist())


def test_what_clients_log_on_two_hosts_is_read_on_a_third(hosts, tmp_path):
    for name, folder in (("a", tmp_path / "logs-a"), ("b", tmp_path / "logs-b")):
        log(folder, f"{name}1", f"{name}2", file_format="tfrecord" if name == "a" else "jsonl")
        (folder / ".predictions-20260101T000000-1-abc-1.jsonl.part").write_text("{")
        with hosts.on(name):
            assert main(["push", "taxi", "--from", str(folder)]) == 0
            assert main(["push", "taxi", "--from", str(folder), "--delete"]) == 0, "again, as after a lost answer"
        assert [path.name for path in folder.glob("predictions-*")] == []
    with hosts.on("c"):
        assert logged() == ["a1", "a2", "b1", "b2"]


def test_only_files_of_the_window_are_downloaded_and_each_once(hosts, s3, tmp_path):  # noqa: F811
    first = log(tmp_path / "logs", "old")
    with hosts.on("a"):
        assert main(["push", "taxi", "--from", str(tmp_path / "logs")]) == 0
        assert logged(dt.datetime.now(dt.UTC) + dt.timedelta(hours=2)) == []
        s3.requests.clear()
        assert logged() == ["old"] and [path for path in s3.bodies() if first.name in path]
        assert logged() == ["old"] and not s3.bodies()
        current().objects.delete(f"predictions/taxi/{first.name}")
        assert logged() == [], "a file that was taken out of the bucket is read no more"


def test_a_file_of_the_same_name_with_other_content_is_refused(hosts, tmp_path):
    path = log(tmp_path / "logs", "1")
    with hosts.on("a"):
        into = Paths.from_environment().predictions / "taxi"
        current().send(path, into)
        path.write_text("{}\n")
        with pytest.raises(ChangedElsewhereError, match=r"give .* another name"):
            current().send(path, into)


def test_the_latest_label_in_the_bucket_counts(hosts, tmp_path):
    config = load_config("taxi")
    canary = CanaryConfig(share=0.1, labels=["feedback"])
    config = config.model_copy(update={"release": config.release.model_copy(update={"canary": canary})})
    for number, label in enumerate(("0", "1")):
        (tmp_path / f"labels-{9 - number}.csv").write_text(f"id,label\nx,{label}\n")
        with hosts.on("a"):
            assert main(["labels", "taxi", str(tmp_path / f"labels-{9 - number}.csv")]) == 0
        time.sleep(1.1)  # the times of S3's objects are whole seconds
    spec = LabelSpec(column="tips", kind="binary", output="probability")
    with hosts.session("b") as paths:
        labels, counts = later_labels(paths, config, spec, START, pd.Index(["x"]))
        assert labels.to_dict() == {"x": "1"} and counts == {"feedback": 1}


def test_a_file_that_another_process_completes_meanwhile_is_no_error(hosts, monkeypatch):
    with hosts.on("a"):
        copies = current().receive(Paths.from_environment().predictions / "taxi", lambda *_: True)
        monkeypatch.setattr(Path, "iterdir", lambda folder: iter([folder / ".labels.csv.0123"]))
        assert logged() == [] and copies.is_dir()


@pytest.mark.parametrize("text", ["no table", "id,label\nx,twelve\n"])
def test_a_damaged_file_is_named_as_the_bucket_names_it(hosts, tmp_path, address, text):  # noqa: F811
    config = load_config("taxi")
    canary = CanaryConfig(share=0.1, labels=["feedback"])
    config = config.model_copy(update={"release": config.release.model_copy(update={"canary": canary})})
    labels, log_file = tmp_path / "labels.csv", tmp_path / "predictions-20260101T000000-1-a-1.tfrecord"
    labels.write_text(text)
    log_file.write_bytes(b"x" * 12)
    spec = LabelSpec(column="fare", kind="number", output="number")
    with hosts.session("a") as paths:
        current().objects.upload("feedback/taxi/labels.csv", labels)
        current().objects.upload(f"predictions/taxi/{log_file.name}", log_file)
        with pytest.raises(FeedbackError) as refused:
            later_labels(paths, config, spec, START, pd.Index(["x"]))
        with pytest.raises(DamagedLogError) as damaged:
            list(read(paths.predictions / "taxi"))
    for error, folder, name in ((refused, "feedback", "labels.csv"), (damaged, "predictions", log_file.name)):
        assert str(error.value).startswith(f"{address}/{folder}/taxi/{name}")
        assert f"out of {address}/{folder}/taxi" in str(error.value) and str(paths.var) not in str(error.value)


def test_with_a_folder_clients_write_there_themselves(tmp_path, monkeypatch):
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path))
    path = log(tmp_path / "predictions/taxi", "1")
    assert logged() == ["1"]
    with pytest.raises(StateAddressError, match="clients write"):
        current().send(path, tmp_path / "predictions/taxi")
    assert os.listdir(tmp_path) == ["predictions"]
