"""Steps that behave badly on purpose, for the tests of what runs them."""

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nightly.io.polling import poll

log = logging.getLogger("nightly")


def speak(night_folder, paths):
    log.info("first line")
    log.warning("a warning")
    print("a bare line")
    print("E0000 00:00:1795394992.259580   21893 meta_optimizer.cc:967] remapper failed", flush=True)
    time.sleep(1)
    log.info("last line, in process group %d of parent %d", os.getpgid(0), os.getppid())
    return {"night": night_folder.name, "pid": os.getpid(), "tensorflow": "tensorflow" in sys.modules}


def fail(night_folder, paths):
    raise ValueError("the third column is missing")


def crash(night_folder, paths):
    os.abort()


def log_and_be_killed(night_folder, paths):
    log.info("the last thing it did")
    os.kill(os.getpid(), signal.SIGKILL)


def hang_with_a_child(night_folder, paths):
    child = subprocess.Popen(["sleep", "600"])
    night_folder.mkdir(parents=True, exist_ok=True)
    (night_folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def leave_files(night_folder, paths):
    """End without any clean-up, as a fork of the warm host does."""
    Path(tempfile.mkstemp(prefix="left-behind-")[1]).write_text("left")
    return {"folder": tempfile.gettempdir()}


def wait_for_a_file(night_folder, paths):
    (night_folder / "started").write_text(f"{os.getpid()} {os.getppid()}")
    poll((night_folder / "go").exists, every=0.05)
    return {"pid": os.getpid()}


def record(night_folder, paths):
    """Leave a record in the night's folder, and nothing else."""
    night_folder.mkdir(parents=True, exist_ok=True)
    (night_folder / "trained.json").write_text("{}")
    return {"local": str(paths.var), "connections": [name for name in os.environ if name.startswith("AIRFLOW_CONN_")]}


def record_after_a_while(night_folder, paths):
    time.sleep(8)
    return {"connections": record(night_folder, paths)["connections"]}
