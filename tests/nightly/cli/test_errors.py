"""Every command line reports a mistake of its user in one line: what, where, what to do; with status 2."""

import errno
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from nightly.cli import (
    configure,
    data,
    new,
    night,
    pipeline,
    predictions,
    pull,
    releases,
    replay,
    schema,
    show,
    snapshots,
    state,
)
from nightly.cli.errors import command, describe
from nightly.io.errors import DamageError, UserError
from nightly.io.paths import ROOT

NAMES = {
    night: "bin/night",
    data: "bin/data",
    new: "bin/new",
    pipeline: "bin/pipeline",
    state: "bin/state",
    releases: "bin/releases",
    schema: "bin/schema",
    snapshots: "bin/snapshots",
    replay: "bin/replay",
    pull: "bin/pull",
    predictions: "bin/predictions",
    configure: "python -m nightly.cli.configure",
    show: "python -m nightly.cli.show",
}
COMPILE = ["--to", "kubeflow", "--image", "image"]
NIGHT = [night, "taxi", "--as-of", "2016-01-02", "--source"]
MISTAKES = {
    "unreadable CSV": [
        ([data, "statistics", "broken.csv"], "broken.csv has no header line"),
        ([data, "validate", "twice.csv", "--model", "taxi"], "the header 'fare' is there twice; rename one"),
        ([data, "convert", "zipped.csv", "out"], "is compressed by gzip: rename it to zipped.csv.gz"),
        ([new, "bikes", "broken.csv", "--yes"], "broken.csv has no header line"),
        ([*NIGHT, "broken.csv"], "broken.csv has no header line"),
        ([*NIGHT, "twice.csv"], "the header 'fare' is there twice"),
        ([*NIGHT, "empty.csv"], "empty.csv is empty; a file without rows still has a header line"),
    ],
    "unknown model": [
        ([night, "taxy"], "there is no model 'taxy'"),
        ([data, "statistics", "good.csv", "--model", "taxy"], "did you mean 'taxi'?"),
        ([pipeline, "compile", "taxy", *COMPILE], "did you mean 'taxi'?"),
        ([pipeline, "run", "plan", "--model", "taxy", "--run", "r"], "did you mean 'taxi'?"),
        ([data, "schema", "show", "taxy"], "there is no schema at taxy"),
        ([releases, "list", "taxy"], "nothing was released for 'taxy'"),
        ([releases, "rollback", "taxy", "previous", "--reason", "so"], "nothing was released for 'taxy'"),
        ([schema, "versions", "taxy"], "did you mean 'taxi'?"),
        ([snapshots, "list", "taxy"], "did you mean 'taxi'?"),
        ([snapshots, "prune", "taxy"], "did you mean 'taxi'?"),
        ([replay, "taxy"], "did you mean 'taxi'?"),
        ([show, "taxy"], "nothing was released for 'taxy'"),
        ([pull, "taxy", "--gcs", "gs://nowhere/a", "--into", "volume"], "gs://nowhere/a/taxy"),
    ],
    "bad date or number": [
        ([night, "taxi", "--as-of", "yesterday"], "as_of 'yesterday' is not a date; write 2016-03-01"),
        ([night, "taxi", "--as-of", "2999-01-01"], "is in the future: the latest possible is now"),
        ([night, "taxi", "--as-of", "0001-01-05"], "no window of 365 days ends at 0001-01-05"),
        ([night, "taxi", "--train-steps", "0"], "'0' is not a whole number: give 1 or more; see bin/night --help"),
        ([snapshots, "show", "taxi", "ab", "--rows", "0"], "see bin/snapshots show --help"),
        ([releases, "show", "taxi", "latest"], "invalid int value: 'latest'; see bin/releases show --help"),
        ([replay, "taxi", "--set", "min_rows"], "give KEY=NUMBER, e.g. data_gate.min_rows=2000"),
        ([replay, "taxi", "--set", "data_gate.min_row=5"], "did you mean 'min_rows'?"),
        ([data, "drift", "good.csv", "good.csv", "--threshold", "fare"], "give FEATURE=VALUE"),
        ([pull, "taxi", "--gcs", "gs://nowhere/a", "--into", "volume", "--watch", "-1"], "is not a number above 0"),
        ([pipeline, "run", "plan", "--model", "taxi", "--run", "r", "--as-of", "soon"], "as_of 'soon' is not a date"),
        ([state, "sweep", "--grace", "0"], "'0' is not a whole number: give 1 or more; see bin/state sweep --help"),
        ([configure, "models"], "unrecognized arguments: models"),
    ],
    "missing path": [
        ([*NIGHT, "gone.csv"], "gone.csv does not exist"),
        ([data, "statistics", "gone.csv"], "gone.csv does not exist; did you mean 'good.csv'?"),
        ([data, "validate", "good.csv", "--schema", "gone.pbtxt"], "--out gone.pbtxt` writes a first one"),
        ([schema, "show", "taxi", "99"], "has no version 99"),
        ([schema, "diff", "taxi", "manual__1"], "proposes no change of the schema"),
        ([snapshots, "show", "taxi", "abc"], "abc"),
        ([new, "bikes", "gone.csv", "--yes"], "gone.csv"),
        ([state, "copy", "gone", "s3://bucket/state"], "gone is not a folder; name a folder"),
        ([predictions, "push", "taxi", "--from", "gone"], "gone is not a folder; name a folder"),
    ],
    "a file in the place of a folder": [
        ([data, "convert", "good.csv", "good.csv/out"], "good.csv"),
        ([data, "statistics", "good.csv", "--out", "good.csv/x.pb"], "good.csv"),
        ([data, "schema", "infer", "good.csv", "--out", "good.csv"], "exists and may have been edited"),
    ],
    "a name that cannot be": [
        (
            [new, "Taxi trips", "good.csv"],
            "use lower-case letters, digits and _, and begin with a letter, as in 'taxi_tr",
        ),
        ([new, "taxi", "good.csv"], "exists and may have been edited: choose another name, or remove it"),
        ([new, "bikes", "--table", "trips"], "Name its Airflow connection with --connection ID"),
        ([pipeline, "run", "tranier", "--model", "taxi", "--run", "r"], "did you mean 'trainer'?"),
        ([pipeline, "compile", "taxi", *COMPILE], "set NIGHTLY_STATE to s3://…, gs://… or az://…"),
        ([state, "check"], "NIGHTLY_STATE names no bucket; set it to s3://bucket/prefix"),
        ([state, "copy", "here", "there"], "FROM and TO must be a folder and a bucket, or a bucket and a folder"),
        ([state, "copy", "ftp://host/state", "there"], "use a folder, or a bucket as s3://bucket/prefix"),
    ],
    "nothing that was asked for": [
        ([new, "bikes"], "give the data: a file, a folder, a URL, or --connection ID --table T"),
        ([pipeline, "compile", "taxi"], "the following arguments are required: --to, --image"),
        ([state], "the following arguments are required: COMMAND; see bin/state --help"),
        ([data, "statistics"], "the following arguments are required: DATA; see bin/data statistics --help"),
        ([releases, "quarantine", "taxi", "5"], "the following arguments are required: --reason"),
        ([schema, "approve", "taxi", "run"], "the following arguments are required: --reason"),
        ([data, "validate", "good.csv"], "give --schema FILE or --model NAME"),
        ([show], "the following arguments are required: model"),
    ],
}
CASES = [pytest.param(args, part, id=f"{kind}: {args[1:]}") for kind, each in MISTAKES.items() for args, part in each]


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """A folder with files that can be read and that cannot, and commands that begin without any state."""
    (tmp_path / "good.csv").write_text(",fare\n0,9.5\n1,3\n")
    (tmp_path / "broken.csv").write_bytes(b"\n\n\n")
    (tmp_path / "twice.csv").write_text("fare,fare\n1,2\n")
    (tmp_path / "zipped.csv").write_bytes(b"\x1f\x8b\x08\x00")
    (tmp_path / "empty.csv").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NIGHTLY_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("NO_GCE_CHECK", "true")  # there are no credentials, and no machine of Google's to ask
    return tmp_path


def run(args, capsys) -> str:
    """Run a command that is to refuse its arguments; what it prints on standard error, less its log."""
    module, *args = args
    try:
        status = module.main(args)
    except SystemExit as ended:
        status = ended.code
    output = capsys.readouterr()
    lines = [line for line in output.err.splitlines() if not line.startswith(("INFO ", "WARNING"))]
    assert (status, output.out) == (2, ""), output
    assert len(lines) == 1 and lines[0].startswith(NAMES[module]), output.err
    return lines[0]


@pytest.mark.parametrize(("args", "part"), CASES)
def test_a_mistake_is_one_line(folder, args, part, capsys):
    assert part in run(args, capsys)


def test_every_command_of_the_ml_environment_is_tested_with_mistakes():
    scripts = {}
    for path in (ROOT / "bin").iterdir():
        if started := re.search(r"^run_ml (\S+)", path.read_text(), re.MULTILINE):
            scripts[started[1]] = f"bin/{path.name}"
    tested = {args[0].__name__: NAMES[args[0]] for each in MISTAKES.values() for args, _ in each}
    assert scripts and scripts.items() <= tested.items()


@pytest.fixture
def locked_out(folder, monkeypatch):
    """A user who may not go into the state's folder."""
    if os.geteuid():
        (folder / "var").mkdir(mode=0)
        yield folder
        (folder / "var").chmod(0o700)
        return
    (folder / "var").mkdir(mode=0o700)
    (folder / "secret.csv").write_text("fare\n1\n")
    (folder / "secret.csv").chmod(0o600)
    (folder / "tmp").mkdir()
    (folder / "tmp").chmod(0o777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "tmp"))  # the tests' own is root's
    parents = [parent for parent in folder.parents if parent.stat().st_mode & 0o005 != 0o005]
    modes = {path: path.stat().st_mode for path in [folder, *parents]}
    for path in modes:
        path.chmod(0o755)
    os.seteuid(65534)
    yield folder
    os.seteuid(0)
    for path, mode in modes.items():
        path.chmod(mode)


@pytest.mark.parametrize(
    "args",
    [
        [night, "taxi", "--as-of", "2016-01-02", "--source", "good.csv"],
        [data, "statistics", "snapshot:taxi/latest"],
        [data, "statistics", "good.csv", "--out", "var/x.pb"],
        [releases, "list", "taxi"],
        [schema, "versions", "taxi"],
        [snapshots, "list", "taxi"],
        [replay, "taxi"],
        [configure],
        [show, "taxi"],
    ],
    ids=lambda args: f"{args[0].__name__} {args[1:]}",
)
def test_a_missing_permission_is_one_line(locked_out, args, capsys):
    assert "var" in (line := run(args, capsys)) and ("no permission" in line or "ermission" in line)


@pytest.mark.parametrize("name", ["night", "new", "releases"])
def test_without_the_ml_environment_a_command_names_what_sets_it_up(folder, name):
    environment = {**os.environ, "NIGHTLY_ML_PYTHON": "/nowhere/python"}
    done = subprocess.run([ROOT / "bin" / name, "taxi"], env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"bin/{name}: error: /nowhere/python does not exist; set it up with `make setup`")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["bin/night", "taxy"], "did you mean 'taxi'?"),
        (["bin/data", "statistics", "broken.csv"], "has no header line"),
        (["bin/releases", "list", "taxy"], "nothing was released for 'taxy'"),
        (["bin/schema", "show", "taxi", "99"], "has no version 99"),
        (["bin/snapshots", "list"], "the following arguments are required: model"),
        (["bin/replay", "taxy"], "did you mean 'taxi'?"),
    ],
)
def test_the_commands_as_people_type_them(folder, args, part):
    done = subprocess.run([ROOT / args[0], *args[1:]], cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(args[0]) and part in done.stderr and done.stderr.count("\n") == 1


def test_the_index_that_pandas_writes_is_no_mistake(folder, capsys):
    assert data.main(["statistics", "good.csv"]) == 0
    assert "index" in capsys.readouterr().out


def ended(error: BaseException) -> int:
    @command("bin/this")
    def main(args=None) -> int:
        raise error

    return main([])


def test_damaged_files_are_no_mistake_of_the_user(capsys):
    assert (ended(UserError("no")), ended(DamageError("oh"))) == (2, 1)
    assert capsys.readouterr().err == "bin/this: error: no\nbin/this: error: oh\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        ended(ZeroDivisionError())


def test_a_traceback_is_shown_on_request(monkeypatch, caplog):
    monkeypatch.setenv("NIGHTLY_LOG_LEVEL", "DEBUG")
    assert ended(UserError("no")) == 2 and "Traceback" in caplog.text


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (UserError("a is not valid:\n  b: no\n  c: no"), "a is not valid: b: no; c: no"),
        (UserError(""), "it failed without a message"),
        (OSError(errno.ENOENT, "No such file", "/a"), "/a does not exist; check the path"),
        (OSError(errno.EACCES, "Denied", "/a"), "/a: no permission; change the owner or mode of /,"),
        (OSError(errno.ENOTDIR, "Not a folder", "/a"), "/a is not a folder; name a folder"),
        (OSError(errno.EIO, "Input/output error", "/a"), "/a: Input/output error; check the path"),
        (OSError("the server hung up"), "the server hung up"),
    ],
)
def test_an_error_says_what_where_and_what_to_do(error, text):
    assert describe(error).startswith(text)


def test_ctrl_c_is_one_line_and_the_shell_learns_of_the_signal():
    code = (
        "import os, signal; from nightly.cli.errors import command\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "command('bin/night')(lambda: os.kill(os.getpid(), signal.SIGINT))()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "bin/night: interrupted\n")
