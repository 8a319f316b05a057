"""Compare the records, the disk, models.config and the model server: `bin/releases verify MODEL`."""

from collections.abc import Iterator

from nightly.io.paths import Paths
from nightly.records.base import Contract
from nightly.records.release import ReleaseRecord
from nightly.release.errors import DamagedError
from nightly.release.store import ReleaseStore
from nightly.release.versions import LIVE
from nightly.serving.address import find_address
from nightly.serving.models_config import CANARY, FILE, STABLE, LiveConfig, UnreadableConfig, config_folder
from nightly.serving.server import CALL_SECONDS
from nightly.serving.verify import NOT_REACHED
from nightly_client import Client, ServingError


class Disagreement(Contract):
    """Two of the four differ."""

    what: str  # one sentence
    action: str  # what to do, with the command


class ServerAsked(Contract):
    """The comparison with the model server."""

    address: str = ""  # "" if no server is known
    problem: str = ""  # why the server did not answer; "" if it did
    disagreements: list[Disagreement] = []


def disagreements(paths: Paths, store: ReleaseStore) -> list[Disagreement]:
    """Return the disagreements of records, disk and models.config. Waits for a running release; changes nothing."""
    with store.disk.locked():
        return [*_on_disk(store), *_in_file(paths, store)]


def ask_server(paths: Paths, store: ReleaseStore) -> ServerAsked:
    """Compare the model server's labels with the records. Raises ContractError."""
    known = find_address(paths)
    if known is None:
        return ServerAsked()
    expected = _labels(store)
    with Client(f"grpc://{known.grpc}", timeout=CALL_SECONDS, retries=0) as client:
        try:
            actual = {label: _answering(client, store.model, label) for label in (STABLE, CANARY)}
        except ServingError as error:
            return ServerAsked(address=client.address, problem=str(error))
        wrong = [
            Disagreement(
                what=f"the server at {client.address} has {label} of {store.model} at {actual[label] or 'no version'}, "
                f"and the records at {expected.get(label) or 'no version'}",
                action=f"bin/releases serve {store.model}",
            )
            for label in (STABLE, CANARY)
            if actual[label] != expected.get(label)
        ]
        return ServerAsked(address=client.address, disagreements=wrong)


def _answering(client: Client, model: str, label: str) -> int | None:
    try:
        return client.metadata(model, label=label).version
    except ServingError as error:
        if error.code in NOT_REACHED:
            raise
        return None  # it has no such label, or no such model


def _labels(store: ReleaseStore) -> dict[str, int]:
    canary = store.disk.canary()
    versions = {STABLE: store.disk.production(), CANARY: canary.version if canary else None}
    return {label: version for label, version in versions.items() if version is not None}


def _on_disk(store: ReleaseStore) -> Iterator[Disagreement]:
    for name in store.disk.unrecorded():
        yield Disagreement(
            what=f"{store.disk.folder / name} is served, and no record in {store.disk.releases} knows it",
            action=f"move {store.disk.folder / name} out of {store.disk.serving}",
        )
    for record in store.disk.records():
        yield from _of_record(store, record)


def _of_record(store: ReleaseStore, record: ReleaseRecord) -> Iterator[Disagreement]:
    folder, in_sight = store.disk.path(record.version), store.disk.in_sight(record)
    title = f"{store.model} {record.version}"
    if record.state in ("releasing", "verifying"):
        yield Disagreement(
            what=f"the release of {title} did not end: its record says {record.state}",
            action="wait while it goes on; if it died, the next bin/releases command takes it out of sight",
        )
    elif record.state in LIVE and not in_sight:
        yield Disagreement(
            what=f"{title} is {record.state} by its record, and {folder} is not there",
            action=f"bin/releases repair {title}; or, without a copy, bin/releases quarantine {title} --reason lost",
        )
    elif record.state in LIVE:
        try:
            store.disk.verify(record.version)
        except DamagedError as error:
            yield Disagreement(what=str(error), action=f"bin/releases repair {title}")
    elif in_sight:
        yield Disagreement(
            what=f"{title} is {record.state} by its record, and {folder} is there to be served",
            action=f"bin/releases quarantine {title} --reason '{record.state} before'",
        )


def _in_file(paths: Paths, store: ReleaseStore) -> Iterator[Disagreement]:
    live, expected, serve = LiveConfig(config_folder(paths), ""), _labels(store), f"bin/releases serve {store.model}"
    try:
        entry = live.entry(store.model)
    except FileNotFoundError:
        yield Disagreement(what=f"{live.path} does not exist", action="python -m nightly.cli.configure")
        return
    except UnreadableConfig as error:
        yield Disagreement(what=error.what, action=error.action)
        return
    labels = dict(entry.version_labels) if entry is not None else {}
    for label, version in {**dict.fromkeys(labels), **expected}.items():
        if label in (STABLE, CANARY) and labels.get(label) != version:
            yield Disagreement(
                what=f"{FILE} has {label} of {store.model} at {labels.get(label) or 'no version'}, and the records "
                f"at {version or 'no version'}",
                action=serve,
            )
        elif label not in (STABLE, CANARY) and labels[label] not in store.disk.loadable():
            yield Disagreement(
                what=f"{FILE} has the label {label!r} of {store.model} at {labels[label]}, which is not on disk",
                action=serve,
            )
