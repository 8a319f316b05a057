"""Keep a model server's volume as the release records in a bucket say. The command is bin/pull.

    <into>/<model>/<version>/   each version that is `verifying`, `canary` or `released`, in one rename
    <into>/models.config        as the hosts that release have written it

A version is added before its label, and removed one round after the label has moved away.

The host that releases tells one server at once, by gRPC, and the file follows. A server that reads the file every few
seconds by itself would take the label back until then. So each server is told by its own puller instead (`tell`).
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from nightly.io.atomic import write_atomically
from nightly.io.errors import UserError
from nightly.io.paths import Paths
from nightly.records.release import ReleaseRecord
from nightly.release.errors import ReleaseError, ServerNotReached
from nightly.release.shared import of_all_models
from nightly.release.versions import LIVE
from nightly.release.volume import Volume
from nightly.serving.models_config import FILE, HEADER, Config, UnreadableConfig, parse_config
from nightly.serving.server_files import SETTINGS
from nightly.state.bucket import BucketState
from nightly.state.records import record_key
from nightly_client import Client, ServingError
from nightly_client.protos import message

log = logging.getLogger("nightly")

RELEASES = "releases"
TELL_SECONDS = 30.0

Entries = dict[str, Any]  # model -> its entry in models.config


class StateReleases:
    """The releases in the state at `address`, read without a session (a Source of nightly.release.volume)."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._state = BucketState(address)
        self._records: dict[tuple[str, str], ReleaseRecord] = {}  # (key, etag) -> record

    def models(self) -> list[str]:
        """Return the models with release records."""
        keys = [entry.key.split("/") for entry in self._state.objects.list(record_key(RELEASES))]
        return sorted({key[2] for key in keys if len(key) > 3} - {of_all_models(Path()).name})

    def records(self, model: str) -> list[ReleaseRecord]:
        """Return the records of all versions of the model, oldest first."""
        entries = self._state.objects.list(record_key(f"{RELEASES}/{model}"))
        known, self._records = self._records, {k: v for k, v in self._records.items() if v.model != model}
        for entry in entries:
            name = Path(entry.key).name
            if entry.key == record_key(f"{RELEASES}/{model}/{name}") and name.removesuffix(".json").isdecimal():
                version = (entry.key, entry.etag)
                if version in known:
                    self._records[version] = known[version]
                elif record := self._state.objects.get(entry.key):
                    parsed = ReleaseRecord.parse(record.data.decode(), where=f"{self.address}/{entry.key}")
                    self._records[entry.key, record.etag] = parsed
        return sorted((r for r in self._records.values() if r.model == model), key=lambda record: record.version)

    def models_config(self) -> Config | None:
        """Return models.config as the hosts that release have written it, if it is there. Raises UnreadableConfig."""
        key = record_key((of_all_models(Path(RELEASES)) / FILE).as_posix())
        written = self._state.objects.get(key)
        return parse_config(written.data, f"{self.address}/{key}", shared=True) if written else None

    def size(self, record: ReleaseRecord) -> int:
        """See Source."""
        return self._state.size(self._path(record))

    def download(self, record: ReleaseRecord, folder: Path) -> Path:
        """See Source: the folder is the state's copy on this host."""
        path = self._path(record)
        self._state.fetch(path)
        if not path.is_dir():
            raise ReleaseError(f"{self.address} has no files of {record.model} {record.version} any more")
        return path

    @staticmethod
    def _path(record: ReleaseRecord) -> Path:
        return Paths.from_environment().serving / record.model / str(record.version)


class Puller:
    """Pulls models into the volume `into`, in rounds.

    :param models: which; [] for all
    :param tell: takes the text of models.config whenever it has changed, and has the server read it
    """

    def __init__(
        self,
        source: StateReleases,
        into: Path,
        models: Sequence[str],
        tell: Callable[[str], object] = lambda text: None,
    ) -> None:
        self.source = source
        self.into = into
        self.models = list(models)
        self.tell = tell
        self._volumes: dict[str, Volume] = {}
        self._told = ""  # the text that the server has for sure

    def round(self) -> dict[str, list[int]]:
        """Make the volume fit the records as they are now; return model -> versions that the server sees.

        A model that fails keeps what it has, and the others go on. Raises the last error at the end.
        """
        failed: UserError | OSError | None = None
        records = {}
        for model in self.models or self.source.models():
            self._volumes.setdefault(model, Volume(self.into, model))
            try:
                records[model] = self.source.records(model)
            except (UserError, OSError) as error:
                log.error("%s: %s", model, error)
                failed = error
        live = {model: [r for r in reversed(each) if r.state in LIVE] for model, each in records.items()}
        config, added = None, live
        try:  # after the records, so it labels no version that they say is withdrawn
            config = self.source.models_config()
        except (UserError, OSError) as error:
            log.error("%s", error)
            failed, added = error, {}  # without labels of their own, new versions could have the labelled one unloaded
        for model, versions in added.items():
            try:
                self._volumes[model].add(versions, self.source)
            except (UserError, OSError) as error:
                log.error("%s: %s", model, error)
                failed = error
        before, after = self._configure(config, {model: {r.version for r in each} for model, each in live.items()})
        if after != self._told:
            try:
                self.tell(after)
                self._told = after
            except (UserError, OSError) as error:
                failed = error
        for model, each in records.items():
            withdrawn = {record.version for record in each if record.state not in LIVE}
            self._volumes[model].remove(withdrawn - _labelled(model, before, after, self._told))
        if failed:
            raise failed
        return {model: sorted(volume.present()) for model, volume in self._volumes.items()}

    def _written(self) -> tuple[str, Entries]:
        """Return the text of the volume's models.config, and its entries by model; none if it cannot be read."""
        path = self.into / FILE
        try:
            data = path.read_bytes() if path.exists() else b""
            entries = _entries(parse_config(data, str(path), shared=False))
        except UnreadableConfig as error:
            log.warning("%s is written anew: %s", path, error.what)
            return "", {}
        return data.decode(), entries

    def _configure(self, shared: Config | None, live: Mapping[str, set[int]]) -> tuple[str, str]:
        """Write models.config; return its text before and now.

        A model's entry stays as it is until all versions that its labels name are here. It also stays if the shared
        file lacks the model while these versions are live: after a damage, the file gets one model after another.

        :param shared: as the hosts that release have it; None if it is not there or cannot be read: all entries stay
        :param live: model -> its live versions
        """
        old, before = self._written()
        entries = before if shared is None else _entries(shared)
        for model, entry in before.items():
            if model not in entries and {*entry.version_labels.values()} <= live.get(model, set()):
                entries[model] = entry
        config = message("ModelServerConfig")()
        config.model_config_list.SetInParent()
        for model, entry in entries.items():
            present = self._volumes[model].present() if model in self._volumes else []
            whole = present and {*entry.version_labels.values()} <= {*present}
            if model in self._volumes and (chosen := entry if whole else before.get(model)):
                config.model_config_list.config.add().CopyFrom(chosen)
        new = HEADER + text_format.MessageToString(config)
        if old != new:
            write_atomically(self.into / FILE, new.encode())
        return old, new


def write_settings(into: Path) -> None:
    """Write the server's other files, unless they are there."""
    for name in SETTINGS:
        if not (into / name).exists():
            write_atomically(into / name, (resources.files("nightly_server") / name).read_bytes())


def teller(address: str) -> Callable[[str], object]:
    """Return a function that has the server at `address`, host:port of its gRPC, take a configuration's text.

    The function raises ServerNotReached.
    """
    client = Client(f"grpc://{address}", timeout=TELL_SECONDS, retries=0)

    def tell(text: str) -> None:
        try:
            client.reload_config(text)
        except ServingError as error:
            raise ServerNotReached(f"the model server at {address} has not read {FILE}: {error}") from None

    return tell


def _labelled(model: str, *texts: str) -> set[int]:
    entries = [_entries(parse_config(text.encode(), FILE, shared=False)).get(model) for text in texts]
    return {version for entry in entries if entry for version in entry.version_labels.values()}


def _entries(config: Config) -> Entries:
    return {entry.name: entry for entry in config.model_config_list.config}
