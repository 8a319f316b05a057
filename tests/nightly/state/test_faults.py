"""A bucket that lies, answers that are lost, hosts that write at once, and deaths in the middle."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import timedelta

import pytest

from nightly.io.paths import python_path
from nightly.io.polling import poll
from nightly.state import sweeping
from nightly.state.check import Checked, check
from nightly.state.errors import ChangedElsewhereError, DamagedStateError, StateError
from nightly.state.manifests import blob_key
from nightly.state.sweep import probe_lists, sweep
from nightly.state.sweeping import KEY, Count, Watch, read_count
from tests.nightly.state.conftest import read, write

FILES = {"rows-0.parquet": b"rows" * 1000, "manifest.json": b'{"rows": 4000}\n'}
AT_ONCE = timedelta(0)


class Lying:
    """A bucket's client of which a method is replaced."""

    def __init__(self, objects, **methods):
        self._objects = objects
        self.__dict__.update(methods)

    def __getattr__(self, name):
        return getattr(self._objects, name)


def twice(write):
    """Write, and then again, as a client does that got no answer."""
    return lambda *arguments: (write(*arguments), write(*arguments))[1]


def first(var):
    return var / "snapshots/taxi/first"


@pytest.fixture
def published(hosts):
    with hosts.on("a") as (state, var):
        state.publish(write(first(var), FILES))
        (blob,) = state.content.manifest("snapshots/taxi/first").blobs
    return blob


def test_a_missing_blob(hosts, published):
    with hosts.on("b") as (state, var):
        state.objects.delete(blob_key(published))
        with pytest.raises(
            DamagedStateError, match=f"has no blob {published}, which is rows-0.parquet of snapshots/taxi"
        ):
            state.fetch(first(var))
        assert not first(var).exists()
        (problem,) = check(state.objects, content=False).problems
        assert problem == f"snapshots/taxi/first: its blob {published} is missing"
        state.publish(write(first(var), FILES))  # by a host that has made it again
        assert check(state.objects, content=True).problems == []


@pytest.mark.parametrize("content", [b"torn", b"ROWS" * 1000])
def test_wrong_bytes(hosts, published, content):
    with hosts.on("b") as (state, var):
        state.objects.put(blob_key(published), content)
        (problem,) = check(state.objects, content=True).problems
        assert problem.startswith(f"snapshots/taxi/first: its blob {published} has ")
        with pytest.raises(DamagedStateError, match="has other bytes"):
            state.fetch(first(var))
        assert not first(var).exists()
        assert not (var / "cache/blobs" / published).exists()
    with hosts.on("a") as (state, var):  # the reader has deleted it, and who has the right bytes uploads them
        state.remove(first(var))
        state.publish(write(first(var), FILES))
        assert check(state.objects, content=True).problems == []


def test_a_manifest_of_something_else(hosts, published):
    with hosts.on("b") as (state, var):
        stored = state.objects.get("manifests/snapshots/taxi/first.json")
        state.objects.put("manifests/snapshots/taxi/second.json", stored.data)
        state.objects.put("manifests/snapshots/taxi/third.json", b"{")
        for name in ("second", "third"):
            with pytest.raises(DamagedStateError, match=f"manifests/snapshots/taxi/{name}.json is"):
                state.fetch(var / "snapshots/taxi" / name)
        assert len(check(state.objects, content=False).problems) == 2
        with pytest.raises(DamagedStateError):  # as it is not known which blobs are in use
            sweep(state.objects, AT_ONCE)


def test_stale_lists(hosts, published):
    with hosts.on("b") as (state, _):
        now = state.objects.list("manifests")
        stale = Lying(state.objects, list=lambda prefix: [] if prefix == "manifests" else state.objects.list(prefix))
        ghost = Lying(state.objects, list=lambda prefix: [*now, *state.objects.list(prefix)])
        with pytest.raises(DamagedStateError, match=r"The lists of s3://.* do not have what was just written"):
            sweep(stale, AT_ONCE)
        assert state.objects.head(blob_key(published))
        assert "do not have what was just written" in check(stale, content=False).problems[0]
        probe_lists(ghost)
        without = Lying(state.objects, list=lambda prefix: [] if prefix == "blobs" else state.objects.list(prefix))
        assert check(without, content=False).problems == [f"blobs/{published} is there, but the list of blobs lacks it"]


def test_a_record_that_the_list_lacks_is_not_overwritten(hosts):
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        write(paths.nights / "taxi/run", {"1.json": b"theirs"})
    with hosts.on("b") as (state, _):
        state.content.objects = Lying(state.objects, list=lambda prefix: [])
        with pytest.raises(ChangedElsewhereError), state.session("taxi") as paths:
            write(paths.nights / "taxi/run", {"1.json": b"mine"})
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        assert (paths.nights / "taxi/run/1.json").read_bytes() == b"theirs"


def test_the_answer_to_a_write_is_lost(hosts):
    with hosts.on("a") as (state, var):
        deaf = Lying(state.objects, create=twice(state.objects.create), swap=twice(state.objects.swap))
        state.content.objects = deaf
        state.publish(write(first(var), FILES))
        for content in (b"1", b"2"):
            with state.session("taxi") as paths:
                write(paths.nights / "taxi/run", {"1.json": content})
        with state.session("taxi") as paths:
            assert (paths.nights / "taxi/run/1.json").read_bytes() == b"2"


SWAP = """
import sys
from nightly.state import current
with current().session("taxi") as paths:
    print("open", flush=True)
    sys.stdin.readline()
    (paths.nights / "taxi/run/1.json").write_text(sys.argv[1])
"""


def process(code, *arguments, **variables):
    environment = {**os.environ, "PYTHONPATH": python_path(), **variables}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, "-c", code, *arguments], env=environment, text=True, **pipes)


def test_of_two_processes_that_replace_a_record_at_once_one_is_told(hosts, tmp_path):
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        write(paths.nights / "taxi/run", {"1.json": b"0"})
    children = [process(SWAP, str(n), NIGHTLY_VAR=str(tmp_path / f"host-{n}")) for n in (1, 2)]
    for child in children:
        assert child.stdout.readline() == "open\n"
    answers = [child.communicate("\n", timeout=120)[1] if child is children[0] else "" for child in children]
    answers[1] = children[1].communicate("\n", timeout=120)[1]
    assert [child.returncode for child in children] == [0, 1]
    assert "ChangedElsewhereError: nights/taxi/run/1.json was changed by another host" in answers[1]
    with hosts.on("a") as (state, _), state.session("taxi") as paths:
        assert (paths.nights / "taxi/run/1.json").read_bytes() == b"1"


WORK = {
    "publish": """
from pathlib import Path
from nightly.io.paths import Paths
from nightly.state import current
folder = Paths.from_environment().snapshots / "taxi/large"
folder.mkdir(parents=True, exist_ok=True)
for n in range(20):
    (folder / str(n)).write_bytes(bytes([n]) * 200_000)
current().publish(folder)
""",
    "fetch": """
from nightly.io.paths import Paths
from nightly.state import current
current().fetch(Paths.from_environment().snapshots / "taxi/large")
""",
    "commit": """
from nightly.state import current
with current().session("taxi") as paths:
    for n in range(20):
        (paths.nights / f"taxi/run").mkdir(parents=True, exist_ok=True)
        (paths.nights / f"taxi/run/{n}.json").write_text("{}")
""",
}


@pytest.mark.slow
@pytest.mark.parametrize("work", WORK)
def test_a_death_in_the_middle_leaves_nothing_that_matters(hosts, s3, tmp_path, work):
    """Each child dies a little later in its work: while the server answers its n-th request."""
    if work == "fetch":
        subprocess.run(
            [sys.executable, "-c", WORK["publish"]], env={**os.environ, "PYTHONPATH": python_path()}, check=True
        )
    variables = {"NIGHTLY_VAR": str(tmp_path / "dying")}
    deaths = 0
    for requests in (2, 5, 9, 14, 21, 23):
        s3.requests.clear()
        child = process(WORK[work], **variables)
        poll(lambda child=child, n=requests: child.poll() is not None or len(s3.requests) >= n, every=0.001)
        child.send_signal(signal.SIGKILL)
        child.communicate()
        deaths += child.returncode == -signal.SIGKILL
        with hosts.on("b") as (state, var):
            large = var / "snapshots/taxi/large"
            state.fetch(large)
            assert len(read(large)) in ((0, 20) if work == "publish" else (20,) if work == "fetch" else (0,))
            assert check(state.objects, content=True).problems == []
            for name in state.view("taxi").nights.glob("taxi/run/*.json"):
                assert name.read_text() == "{}"
    assert deaths >= 3  # what was fetched before a death is not fetched again
    done = process(WORK[work], **variables)
    assert (done.communicate()[1], done.returncode) == ("", 0)
    if work == "fetch":
        assert len(read(tmp_path / "dying/snapshots/taxi/large")) == 20
    if work == "commit":
        with hosts.on("b") as (state, _), state.session("taxi") as paths:
            assert len(list((paths.nights / "taxi/run").iterdir())) == 20


def test_an_unreachable_bucket_is_waited_for(hosts):
    with hosts.on("a") as (state, var):
        down = threading.Event()
        real = state.objects._call

        def call(key, work):
            def refused():
                if not down.is_set():
                    raise OSError("connection refused: a test")
                return work()

            return real(key, refused)

        state.objects._call = call
        threading.Timer(3, down.set).start()
        begin = time.monotonic()
        state.publish(write(first(var), FILES))
        assert time.monotonic() - begin > 2.5
    with hosts.on("b") as (state, var):
        state.fetch(first(var))
        assert read(first(var)) == FILES


# --- the sweep


def test_a_sweep_deletes_what_no_manifest_names_and_nothing_else(hosts, published):
    with hosts.on("a") as (state, var):
        state.publish(write(var / "snapshots/taxi/second", {"rows-1.parquet": b"other" * 500}))
        state.objects.put(blob_key("0" * 64), b"of a publication that was killed")
        state.remove(var / "snapshots/taxi/second")
        assert sweep(state.objects, timedelta(hours=1)).young == 2
        assert sweep(state.objects, AT_ONCE).blobs == 2
        assert check(state.objects, content=True).problems == []
        assert check(state.objects, content=False).unused == 0


def test_a_sweep_deletes_a_version_that_no_record_names(hosts):
    with hosts.on("a") as (state, var):
        for version in (1, 2):
            state.publish(write(var / f"serving/taxi/{version}", {"saved_model.pb": b"model %d" % version}))
        with state.session("taxi") as paths:
            write(paths.releases / "taxi", {"2.json": b"{}"})  # the host died before it wrote the record of the first
        assert sweep(state.objects, timedelta(hours=1)).abandoned == 0
        assert sweep(state.objects, AT_ONCE).abandoned == 1
        assert state.names(var / "serving/taxi") == ["1", "2"]  # this host's own copy stays
        assert sweep(state.objects, AT_ONCE).blobs == 1
        assert check(state.objects, content=True) == Checked(1, 1, len(b"model 2"), 1, 0, [])


def test_a_sweep_deletes_the_parts_of_a_job_whose_driver_died(hosts):
    with hosts.on("a") as (state, _var), state.session("taxi") as paths:
        for node in ("examples", "statistics"):
            state.hand_over(write(paths.pipeline / f"taxi/{node}/out/7", {"data-00000": b"rows"}) / "data-00000")
        state.publish(write(paths.nights / "taxi/run", {"examples.running": b""}) / "examples.running")
        assert sweep(state.objects, timedelta(hours=1)).abandoned == 0
        assert sweep(state.objects, AT_ONCE).abandoned == 1
        state.collect(paths.pipeline / "taxi/examples/out/7")
        assert (paths.pipeline / "taxi/examples/out/7/data-00000").read_bytes() == b"rows"
        assert not state.objects.list("parts")


def test_a_publication_beside_a_sweep_uploads_again_what_it_deleted(hosts, published):
    with hosts.on("a") as (state, var):
        state.remove(first(var))
        write(first(var), FILES)
        create = state.objects.create

        def sweeping_first(key, data):  # the blob was there when the publication looked
            if key.startswith("manifests/snapshots"):
                assert sweep(state.objects, AT_ONCE).blobs == 1
            return create(key, data)

        state.content.objects = Lying(state.objects, create=sweeping_first)
        state.publish(first(var))
        assert check(state.objects, content=True).problems == []


def test_a_publication_waits_while_a_sweep_deletes(hosts, published, monkeypatch):
    monkeypatch.setattr(sweeping, "POLL_SECONDS", 0.01)
    with hosts.on("a") as (state, var):
        state.remove(first(var))
        write(first(var), FILES)
        etag = state.objects.create(KEY, Count(1, running=True).dump())

        def rest_of_the_sweep():
            state.objects.delete(blob_key(published))
            state.objects.swap(KEY, Count(1).dump(), etag)

        threading.Timer(2, rest_of_the_sweep).start()
        state.publish(first(var))
        assert json.loads(state.objects.get(KEY).data) == {"number": 1, "running": False, "token": ""}
        assert check(state.objects, content=True).problems == []


def test_a_sweep_whose_answers_are_lost(hosts):
    with hosts.on("a") as (state, _):
        deaf = Lying(state.objects, create=twice(state.objects.create), swap=twice(state.objects.swap))
        for number in (1, 2):
            state.objects.put(blob_key("0" * 64), b"of a publication that was killed")
            assert sweep(deaf, AT_ONCE).blobs == 1
            assert read_count(state.objects)[0].number == number
            assert not read_count(state.objects)[0].running


def test_of_two_sweeps_at_once_one_deletes(hosts):
    with hosts.on("a") as (state, _):
        errors = []

        def other_sweep():
            try:
                sweep(state.objects, AT_ONCE)
            except StateError as error:
                errors.append(str(error))

        def delete(key):
            if key.startswith("blobs/"):
                other_sweep()  # begins while the first deletes
            state.objects.delete(key)

        def create(key, data):
            other_sweep()  # has begun and ended between the first one's look and its count
            return state.objects.create(key, data)

        state.objects.put(blob_key("0" * 64), b"of a publication that was killed")
        with pytest.raises(StateError, match="Another host has begun to sweep"):
            sweep(Lying(state.objects, create=create), AT_ONCE)
        assert not errors
        state.objects.put(blob_key("0" * 64), b"of a publication that was killed")
        assert sweep(Lying(state.objects, delete=delete), AT_ONCE).blobs == 1
        assert [error.partition(" s3://")[0] for error in errors] == ["Another host sweeps"]
        assert not read_count(state.objects)[0].running


def test_a_publication_waits_for_each_of_two_sweeps_as_long(hosts, monkeypatch):
    monkeypatch.setattr(sweeping, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 6)
    with hosts.on("a") as (state, _):
        etag = state.objects.create(KEY, Count(1, running=True).dump())
        watch = Watch(state.objects)
        ended = []

        def second_sweep():
            second = state.objects.swap(KEY, Count(2, running=True).dump(), etag)
            time.sleep(4)
            ended.append(state.objects.swap(KEY, Count(2).dump(), second))

        timer = threading.Timer(4, second_sweep)
        timer.start()
        assert watch.has_swept()
        timer.join()
        assert ended


def test_a_sweep_that_was_killed_is_not_waited_for_twice(hosts, published, monkeypatch):
    monkeypatch.setattr(sweeping, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(sweeping, "SWEEP_SECONDS", 1)
    with hosts.on("a") as (state, var):
        state.objects.create(KEY, Count(1, running=True).dump())
        with pytest.raises(StateError, match=r"Another host sweeps s3://.* now"):
            state.objects.put(blob_key("0" * 64), b"")
            sweep(state.objects, AT_ONCE)
        for name in ("second", "third"):
            begin = time.monotonic()
            state.publish(write(var / "snapshots/taxi" / name, {"x": name.encode()}))
            assert (time.monotonic() - begin > 1) == (name == "second")
