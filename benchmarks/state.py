"""State in a bucket, beside obstore's own uploads and downloads, and in a folder, where it must cost nothing.

The server is moto's, on this machine: the times are what the project adds, not what a network takes.
"""

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks import servers
from benchmarks.common import Goal, Result, main, spread
from nightly.io.files import hash_files
from nightly.io.paths import Paths
from nightly.state import current
from nightly.state.folder import FolderState

BUCKET = "state"
ROUNDS = 5


def run(quick: bool, folder: Path) -> Result:
    files, bytes_each, records = (4, 1 << 20, 200) if quick else (4, 25_000_000, 5_000)
    folder.mkdir(parents=True, exist_ok=True)
    with servers.s3(folder, BUCKET) as connection:
        os.environ |= {
            "AWS_ENDPOINT_URL": connection.extra["endpoint_url"],
            "AWS_ACCESS_KEY_ID": connection.login,
            "AWS_SECRET_ACCESS_KEY": connection.password.get_secret_value(),
            "AWS_REGION": connection.extra["region_name"],
            "NIGHTLY_STATE": f"s3://{BUCKET}/prefix",
        }
        content = _content(folder, files, bytes_each)
        sessions = _sessions(folder, records)
    without = _in_a_folder(folder, files, bytes_each)
    ratio = min(content["publish"]) / min(content["plain upload"])
    goals = [
        Goal("publish of an artifact, beside a plain upload and its hashing", ratio, "×", at_most=1.5),
        Goal("session of records that this host has", min(sessions["open and commit"]), "s", at_most=2),
        Goal("publish, fetch and session with state in a folder", min(without["all three"]), "s", at_most=0.001),
    ]
    megabytes = files * bytes_each / 1e6
    tables = {
        f"An artifact of {megabytes:,.0f} MB": _table(content),
        f"A session with {records:,} records": _table(sessions),
        "State in a folder": _table(without, 6),
    }
    return Result(goals, tables, {"content": content, "sessions": sessions, "folder": without})


def _content(folder: Path, files: int, size: int) -> dict[str, list[float]]:
    plain = S3Store(BUCKET, client_options={"allow_http": True})
    times: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        name = f"pipeline/model/trainer/model/{number}"
        source = _write(folder / "source/var" / name, files, size)
        _host(folder / "source")

        def upload(source: Path = source, number: int = number) -> None:
            hash_files(source)
            for path in source.iterdir():
                obstore.put(plain, f"plain/{number}/{path.name}", path.read_bytes(), use_multipart=False)

        def download(number: int = number) -> None:
            target = folder / f"plain-{number}"
            target.mkdir()
            for index in range(files):
                with (target / str(index)).open("wb") as file:
                    for chunk in obstore.get(plain, f"plain/{number}/{index}").stream():
                        file.write(chunk)
            hash_files(target)

        _timed(times, "plain upload", upload)
        _timed(times, "publish", lambda source=source: current().publish(source))
        _timed(times, "publish again", lambda source=source: current().publish(source))
        _timed(times, "plain download", download)
        target = _host(folder / f"host-{number}") / name
        _timed(times, "fetch", lambda target=target: current().fetch(target))
        _timed(times, "fetch again", lambda target=target: current().fetch(target))
        for used in (folder / "source", folder / f"plain-{number}", folder / f"host-{number}"):
            shutil.rmtree(used)
    return times


def _sessions(folder: Path, records: int) -> dict[str, list[float]]:
    _host(folder / "writer")
    with current().session("model") as paths:
        parts, run = paths.downloads / "model/parts", paths.nights / "model/run-0"
        run.mkdir()
        for number in range(records):
            path = parts / f"{number}.json" if number > 10 else run / f"{number}.json"
            path.write_text(f'{{"number": {number}}}')
        began = time.perf_counter()
    times = {"commit of all": [time.perf_counter() - began]}

    def session(number: int) -> None:
        with current().session("model") as paths:
            (paths.nights / "model/run-0/0.json").write_text(f'{{"number": "changed {number}"}}')

    _host(folder / "reader")
    _timed(times, "first on a host", lambda: session(0))
    for number in range(1, ROUNDS + 1):
        _timed(times, "open and commit", lambda number=number: session(number))
    return times


def _in_a_folder(folder: Path, files: int, size: int) -> dict[str, list[float]]:
    os.environ.pop("NIGHTLY_STATE")
    var = _host(folder / "alone")
    content = _write(var / "pipeline/model/trainer/model/1", files, size)

    def all_three() -> None:
        state = current()
        assert isinstance(state, FolderState)
        with state.session("model"):
            state.publish(content)
            state.fetch(content)

    def paths() -> Any:
        return Paths.from_environment()

    times: dict[str, list[float]] = {}
    for _ in range(20):
        _timed(times, "all three", all_three)
        _timed(times, "of which Paths.from_environment()", paths)
    return times


def _host(folder: Path) -> Path:
    """Be a host whose NIGHTLY_VAR is in `folder`, and return it."""
    os.environ["NIGHTLY_VAR"] = str(folder / "var")
    if hasattr(current(), "cache"):
        from nightly.state.current import _bucket

        _bucket.cache_clear()
    return folder / "var"


def _write(folder: Path, files: int, size: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(files):
        (folder / str(number)).write_bytes(os.urandom(size))
    return folder


def _timed(times: dict[str, list[float]], name: str, work: Callable[[], object]) -> None:
    began = time.perf_counter()
    work()
    times.setdefault(name, []).append(time.perf_counter() - began)


def _table(times: dict[str, list[float]], digits: int = 3) -> list[dict[str, Any]]:
    return [{"": name, "seconds": spread(seconds, digits)} for name, seconds in times.items()]


if __name__ == "__main__":
    main(run)
