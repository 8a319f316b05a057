"""The configuration of the model server that serves our releases: <serving>/models.config, in the serving volume.

`python -m nightly.cli.configure` writes it from the release records, before the server's first start.

The file records which models are served, and which versions have the labels `stable` and, during a comparison,
`canary`. A request without a version or label goes to the newest loaded version, which may be the canary. So clients
name a label.

TensorFlow Serving reads its --model_config_file at the start and every --model_config_file_poll_wait_seconds. A reload
by gRPC takes effect at once, but is not written to the file: it lasts until the next poll or restart. So every change
here is made twice: first in the file, then with the same text by gRPC. The server has the same configuration from
either, and nothing waits for a poll.

If the state is in a bucket, the file is one of its records: a host that releases changes it there, under a lock of all
hosts, and the model server's host copies it into its volume (nightly.serving.pull).

Start the server, TensorFlow Serving or ours, with

    --model_config_file=<serving>/models.config --allow_version_labels_for_unavailable_models

Without the second flag, the server refuses labels at its start, when no version is loaded yet. TensorFlow Serving also
needs --max_num_load_retries=0: otherwise it retries a version that fails to load five times, a minute apart, before it
reports the error. The file has a model only while the model has a version to serve: TensorFlow Serving does not listen
before every model in the file has one.
"""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from google.protobuf import text_format

from nightly.io.atomic import write_atomically
from nightly.io.paths import Paths
from nightly.release.errors import ReleaseError, ServerRefused
from nightly.release.shared import of_all_models
from nightly.release.store import ReleaseStore
from nightly.state import current, publish
from nightly.state.records import record_key
from nightly_client.protos import message

FILE = "models.config"
HEADER = "# Written by each release and rollback, which also tell the running server: change it with care.\n"
EMPTY = HEADER + "model_config_list {\n}\n"
PLATFORM = "tensorflow"
LOADED = 2  # versions that the server keeps loaded: the one in production and its predecessor
STABLE, CANARY = "stable", "canary"

Config = Any  # a ModelServerConfig of the client's own protos, which need no TensorFlow


def config_folder(paths: Paths) -> Path:
    """Return the folder of the file: the server's volume or, if the state is in a bucket, a session's records."""
    return of_all_models(paths.releases) if current().shared else paths.serving


class UnreadableConfig(ReleaseError):
    """models.config cannot be read.

    :param what: which file, where it is, and why it cannot be read
    :param action: what a person does
    """

    def __init__(self, what: str, action: str) -> None:
        super().__init__(f"{what}; {action}")
        self.what, self.action = what, action


def parse_config(data: bytes, path: str, *, shared: bool) -> Config:
    """Return the configuration in `data`, the content of the file or object `path`. Raises UnreadableConfig.

    :param shared: whether it is an object in a bucket
    """
    try:
        return text_format.Parse(data.decode(), message("ModelServerConfig")())
    except (text_format.ParseError, UnicodeDecodeError) as error:
        rewrite = "bin/releases serve MODEL for each model" if shared else "python -m nightly.cli.configure"
        raise UnreadableConfig(f"{path} cannot be read: {error}", f"delete {path}, then {rewrite}") from None


class LiveConfig:
    """The file, with changes to one model's entry at a time.

    :param folder: the file's, as this process sees it (`config_folder`)
    :param base_path: the serving volume, as the server sees it
    """

    def __init__(self, folder: Path, base_path: str) -> None:
        self.path = folder / FILE
        self.base_path = base_path.rstrip("/")

    def exists(self) -> bool:
        current().refresh(self.path)
        return self.path.exists()

    def read(self) -> Config:
        """Return the configuration. Raises FileNotFoundError or UnreadableConfig."""
        missing = not self.exists() and current().shared  # the model server's host then has an empty one
        return self._parse(EMPTY.encode() if missing else self.path.read_bytes())

    def _parse(self, data: bytes) -> Config:
        if not current().shared:
            return parse_config(data, str(self.path), shared=False)
        # self.path is this session's copy, and a session has the records of one model
        return parse_config(data, record_key((of_all_models(Path("releases")) / FILE).as_posix()), shared=True)

    def has(self, model: str) -> bool:
        return self.entry(model) is not None

    def entry(self, model: str) -> Any:
        """Return the model's entry, or None."""
        return next((entry for entry in self.read().model_config_list.config if entry.name == model), None)

    def serving(
        self, model: str, version: int | None, loadable: list[int], canary: int | None = None
    ) -> AbstractContextManager[str]:
        """Like `changing`, with `version` as stable and `canary` as canary; without a version the model is removed."""
        if version is None:
            return self.changing(model, {}, loadable, served=False)
        load = max(LOADED, sum(other >= version for other in loadable))
        return self.changing(model, {STABLE: version, CANARY: canary}, loadable, load=load)

    @contextmanager
    def changing(
        self,
        model: str,
        labels: Mapping[str, int | None],
        loadable: list[int],
        *,
        load: int = LOADED,
        served: bool = True,
    ) -> Iterator[str]:
        """Rewrite the model's entry and yield the new text; restore the old text if the server refuses the new one.

        Labels of versions that will not be loaded are dropped, because the server would refuse the whole configuration.

        :param labels: label -> version; None removes the label, and labels that are not named stay
        :param loadable: the versions in the model's folder
        :param load: how many of them, the newest first, the server loads
        :param served: False removes the model
        """
        with current().locked(self.path.with_name(f".{FILE}.lock")):  # two models may be released at a time
            before = self.path.read_bytes() if self.exists() else EMPTY.encode()
            text = self._changed(before, model, labels, sorted(loadable)[-load:], load, served)
            self.replace(text)
            try:
                yield text
            except ServerRefused:
                self.replace(before.decode())
                raise

    def replace(self, text: str) -> None:
        """Replace the whole file."""
        write_atomically(self.path, text.encode())
        publish(self.path)

    def _changed(
        self, before: bytes, model: str, moved: Mapping[str, int | None], loaded: list[int], load: int, served: bool
    ) -> str:
        config = self._parse(before)
        config.model_config_list.SetInParent()
        entries = config.model_config_list.config
        labels: dict[str, int] = {}
        for old in [entry for entry in entries if entry.name == model]:
            labels = {label: version for label, version in old.version_labels.items() if version in loaded}
            entries.remove(old)
        if served:
            entry = entries.add(name=model, base_path=f"{self.base_path}/{model}", model_platform=PLATFORM)
            entry.model_version_policy.latest.num_versions = load
            for label, version in {**labels, **moved}.items():
                if version is not None:
                    entry.version_labels[label] = version
        return HEADER + text_format.MessageToString(config)


def write(paths: Paths, base_path: str) -> Path:
    """Write the file from the release records: it has every model with a version in production, and no other."""
    live = LiveConfig(config_folder(paths), base_path)
    known = {path.name for path in paths.releases.glob("*/")} - {of_all_models(paths.releases).name}
    if live.exists():
        known |= {entry.name for entry in live.read().model_config_list.config}
    else:
        live.replace(EMPTY)
    for model in sorted(known):
        store = ReleaseStore(paths.serving, paths.releases, model)
        current().refresh(store.disk.releases)
        production, canary = store.disk.production(), store.disk.canary()
        labels = {STABLE: production, CANARY: canary.version if canary else None}
        loadable = store.disk.released() + ([canary.version] if canary else [])
        with live.changing(model, labels, loadable, served=production is not None):
            pass
    return live.path
