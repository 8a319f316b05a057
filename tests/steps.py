"""Steps that behave badly on purpose, for the tests of what runs them."""

import logging
import os
import subprocess
import sys
import time

log = logging.getLogger("nightly")


def speak(night_folder, places):
    log.info("first line")
    log.warning("a warning")
    print("a bare line")
    print("E0000 00:00:1795394992.259580   21893 meta_optimizer.cc:967] remapper failed", flush=True)
    time.sleep(1)
    log.info("last line, in process group %d of parent %d", os.getpgid(0), os.getppid())
    return {"night": night_folder.name, "pid": os.getpid(), "tensorflow": "tensorflow" in sys.modules}


def fail(night_folder, places):
    raise ValueError("the third column is missing")


def crash(night_folder, places):
    os.abort()


def hang_with_a_child(night_folder, places):
    child = subprocess.Popen(["sleep", "600"])
    (night_folder / "pids").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)
