"""What a puller does to a model server's volume, round by round, with a bucket on a real S3 server."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nightly.cli.pull import main
from nightly.io import atomic, files
from nightly.io.errors import DamageError
from nightly.io.space import size_of
from nightly.records.base import ContractError
from nightly.release import volume as volumes
from nightly.release.errors import DamagedError, ServerNotReached, SpaceError
from nightly.release.store import ReleaseStore
from nightly.serving import pull
from nightly.serving.models_config import LiveConfig, UnreadableConfig, config_folder
from nightly.serving.pull import Puller, StateReleases
from nightly.state import current
from tests.nightly.release.shared.conftest import bucket, hosts  # noqa: F401  the fixtures
from tests.support.deaths import died_at
from tests.support.releases import NOW, export, loadable, release, watching, whole
from tests.support.shared_releases import SharedReleases


class Labels:
    """A server's entry in the shared models.config, as nightly.serving.server writes it."""

    def __init__(self, paths, model: str) -> None:
        self.config, self.model = LiveConfig(config_folder(paths), "/models"), model

    def move(self, store: ReleaseStore, stable: int | None, canary: int | None = None) -> None:
        with self.config.serving(self.model, stable, store.disk.loadable(), canary):
            pass


@contextmanager
def released(hosts: SharedReleases, model: str = "taxi") -> Iterator[tuple[ReleaseStore, Labels]]:  # noqa: F811
    with hosts.session("a", model) as paths:
        yield ReleaseStore(paths.serving, paths.releases, model), Labels(paths, model)


@pytest.fixture
def puller(hosts, tmp_path, monkeypatch) -> Puller:  # noqa: F811
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "volume/.pulled/.state"))
    return Puller(StateReleases(hosts.address), tmp_path / "volume", [])


def labels(puller: Puller, model: str = "taxi") -> dict[str, int] | None:
    entry = LiveConfig(puller.into, "").entry(model)
    return dict(entry.version_labels) if entry is not None else None


def test_before_the_first_release_the_server_can_start(puller):
    assert puller.round() == {}
    assert "model_config_list" in (puller.into / "models.config").read_text()


def test_a_version_comes_before_its_label_and_goes_after_it(hosts, puller, tmp_path):  # noqa: F811
    with released(hosts) as (store, label):
        for number in range(2):
            release(store, export(tmp_path / f"export-{number}", str(number)), f"run-{number}", NOW + number)
        label.move(store, NOW + 1)
    assert puller.round() == {"taxi": [NOW, NOW + 1]} and labels(puller) == {"stable": NOW + 1}
    assert all(whole(puller.into / "taxi" / str(NOW + number)) for number in range(2))

    with released(hosts) as (store, label):
        label.move(store, NOW)
        store.roll_back(NOW, "worse")
    assert puller.round() == {"taxi": [NOW, NOW + 1]} and labels(puller) == {"stable": NOW}, "the label has just moved"
    assert puller.round() == {"taxi": [NOW]}
    assert puller.round() == {"taxi": [NOW]}


def test_a_withdrawn_version_stays_until_the_server_has_been_told(hosts, puller, tmp_path):  # noqa: F811
    def away(text: str) -> None:
        raise ServerNotReached("away")

    told = []
    puller.tell = told.append
    with released(hosts) as (store, label):
        for number in range(2):
            release(store, export(tmp_path / f"export-{number}", str(number)), f"run-{number}", NOW + number)
        label.move(store, NOW + 1)
    puller.round()
    puller.round()
    assert len(told) == 1, "told once for each change"
    puller.tell = away
    with released(hosts) as (store, label):
        label.move(store, NOW)
        store.roll_back(NOW, "worse")
    for _ in range(3):
        with pytest.raises(ServerNotReached):
            puller.round()
    assert loadable(puller.into / "taxi") == [NOW, NOW + 1] and labels(puller) == {"stable": NOW}
    puller.tell = told.append
    puller.round()
    assert len(told) == 2
    assert puller.round() == {"taxi": [NOW]}


def test_a_damaged_model_keeps_what_it_has_and_the_others_go_on(hosts, puller, tmp_path):  # noqa: F811
    for model in ("taxi", "fares"):
        with released(hosts, model) as (store, label):
            release(store, export(tmp_path / model / "1", f"{model} 1"), "run-1", NOW)
            label.move(store, NOW)
    puller.round()
    for model in ("taxi", "fares"):
        with released(hosts, model) as (store, label):
            record = release(store, export(tmp_path / model / "2", f"{model} 2"), "run-2", NOW + 1)
            label.move(store, NOW + 1)
            if model == "fares":
                blob = f"blobs/{record.files['saved_model.pb']}"
                current().objects.put(blob, b"x" * current().objects.head(blob).bytes)
    with pytest.raises(DamageError, match="has other bytes"):
        puller.round()
    assert loadable(puller.into / "taxi") == [NOW, NOW + 1] and labels(puller) == {"stable": NOW + 1}
    assert loadable(puller.into / "fares") == [NOW] and labels(puller, "fares") == {"stable": NOW}


def test_a_volume_without_room_for_a_version_is_said_before_the_download(hosts, puller, tmp_path, small_disk):  # noqa: F811
    with released(hosts) as (store, _):
        release(store, export(tmp_path / "export", kilobytes=4096))
    puller.into = small_disk / "volume"
    with pytest.raises(SpaceError, match=rf"has 80 MB free, and pulling taxi {NOW} needs 96 MB\. Make room\.$"):
        puller.round()
    assert size_of(small_disk) < 10_000 and size_of(tmp_path / "volume") < 10_000


def test_a_changed_file_in_the_volume_is_reported(hosts, puller, tmp_path):  # noqa: F811
    with released(hosts) as (store, _):
        release(store, export(tmp_path / "export"))
    puller.round()
    (puller.into / f"taxi/{NOW}/saved_model.pb").write_bytes(b"flipped")
    with pytest.raises(DamagedError, match="delete it, and it is pulled again"):
        puller.round()


def test_the_command_pulls_named_models_only_and_refuses_a_folder_as_state(hosts, tmp_path, capsys, caplog):  # noqa: F811
    caplog.set_level(logging.INFO)
    for model in ("taxi", "fares"):
        with released(hosts, model) as (store, label):
            release(store, export(tmp_path / model))
            label.move(store, NOW)
    arguments = ["taxi", "--from", hosts.address, "--into", str(tmp_path / "volume")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NIGHTLY_VAR", "")
        assert main(arguments) == 0 and f"taxi has {NOW}" in caplog.text
    config = (tmp_path / "volume/models.config").read_text()
    assert '"taxi"' in config and "fares" not in config
    assert (tmp_path / "volume/batching.config").exists() and not (tmp_path / "volume/fares").exists()
    with pytest.raises(SystemExit):
        main(["taxi", "--from", "/var/folder", "--into", str(tmp_path / "volume")])
    assert "give the shared state by --from" in capsys.readouterr().err


@pytest.mark.slow
def test_a_puller_that_dies_anywhere_leaves_whole_versions_and_the_next_completes(hosts, tmp_path, monkeypatch):  # noqa: F811
    with released(hosts) as (store, label):
        for number in range(3):
            release(store, export(tmp_path / f"export-{number}", str(number), 1), f"run-{number}", NOW + number)
        label.move(store, NOW + 2)
    lines, killed = {module.__file__ for module in (pull, volumes, atomic, files)}, 0
    for step in range(0, 10**6, 13):
        into = tmp_path / f"volume-{step}"
        monkeypatch.setenv("NIGHTLY_VAR", str(into / ".pulled/.state"))

        def work(into: Path = into) -> None:
            Puller(StateReleases(hosts.address), into, []).round()

        if not died_at(step, work, lines):
            break
        killed += 1
        assert all(whole(into / f"taxi/{version}") for version in loadable(into / "taxi"))
        if (into / "models.config").exists() and "stable" in (into / "models.config").read_text():
            assert NOW + 2 in loadable(into / "taxi")
        work()
        assert loadable(into / "taxi") == [NOW, NOW + 1, NOW + 2]
    assert killed > 5


@pytest.mark.slow
def test_a_server_never_sees_a_half_version_or_none(hosts, puller, tmp_path):  # noqa: F811
    with watching(puller.into / "taxi") as saw:
        for number in range(4):
            with released(hosts) as (store, label):
                release(store, export(tmp_path / str(number), str(number), 128), f"run-{number}", NOW + number)
                label.move(store, NOW + number)
                store.retain(2)
            puller.round()
    seen, broken, emptied, backwards, _ = saw
    assert (seen, broken, emptied, backwards) == ([NOW + number for number in range(4)], [], 0, 0)


def test_a_model_with_a_record_that_cannot_be_read_keeps_what_it_has_and_the_others_go_on(hosts, puller, tmp_path):  # noqa: F811
    for number in (1, 2):
        for model in ("taxi", "fares"):
            with released(hosts, model) as (store, label):
                record = release(store, export(tmp_path / model, f"{model} {number}"), f"run-{number}", NOW + number)
                label.move(store, record.version)
        if number == 1:
            puller.round()
    with hosts.session("a"):
        current().objects.put(f"records/releases/fares/{NOW + 2}.json", b"{")
    with pytest.raises(ContractError, match=rf"fares/{NOW + 2}\.json is not valid"):
        puller.round()
    assert loadable(puller.into / "taxi") == [NOW + 1, NOW + 2] and labels(puller) == {"stable": NOW + 2}
    assert loadable(puller.into / "fares") == [NOW + 1] and labels(puller, "fares") == {"stable": NOW + 1}


@pytest.mark.parametrize("damage", [b"model_config_list {", b"\xff\xfe"])
def test_a_configuration_that_cannot_be_read_leaves_the_volume_as_it_is_until_it_is_written_anew(
    hosts,  # noqa: F811
    puller,
    tmp_path,
    damage,
):
    key, models = "records/releases/_all/models.config", ("fares", "taxi")
    for model in models:
        with released(hosts, model) as (store, label):
            release(store, export(tmp_path / f"{model} 1", f"{model} 1"), "run-1", NOW)
            label.move(store, NOW)
    puller.round()
    with hosts.session("a"):
        current().objects.put(key, damage)
    with released(hosts) as (store, label):
        release(store, export(tmp_path / "2", "2"), "run-2", NOW + 1)
        with pytest.raises(UnreadableConfig, match="cannot be read"):
            label.move(store, NOW + 1)
    with pytest.raises(UnreadableConfig, match=f"{key} cannot be read.*; delete .*, then bin/releases serve MODEL"):
        puller.round()
    assert loadable(puller.into / "taxi") == [NOW], "a newer version could have the labelled one unloaded"
    assert [labels(puller, model) for model in models] == [{"stable": NOW}] * 2

    with hosts.session("a"):
        current().objects.delete(key)
    assert puller.round() == {"fares": [NOW], "taxi": [NOW, NOW + 1]}
    assert [labels(puller, model) for model in models] == [{"stable": NOW}] * 2
    with released(hosts) as (store, label):
        label.move(store, NOW + 1)  # as `bin/releases serve taxi` does
    puller.round()
    assert [labels(puller, model) for model in models] == [{"stable": NOW}, {"stable": NOW + 1}]

    (puller.into / "models.config").write_bytes(damage)
    with released(hosts, "fares") as (store, label):
        label.move(store, NOW)
    puller.round()
    assert [labels(puller, model) for model in models] == [{"stable": NOW}, {"stable": NOW + 1}]
