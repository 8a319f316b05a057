"""Remove from an environment of an image what no night reads: C++ headers, libclang, tests."""

import shutil
from pathlib import Path

# Not `test`: tensorflow._api.v2.test and others of that name are part of a package's interface.
UNREAD = ("tensorflow/include", "clang", "**/tests", "**/testdata")


def slim(venv: Path) -> None:
    """Delete those folders of `venv`, and print how much space that saves."""
    (packages,) = venv.glob("lib/python3*/site-packages")
    before = _megabytes(packages)
    for pattern in UNREAD:
        for folder in list(packages.glob(pattern)):
            if folder.is_dir():
                shutil.rmtree(folder, ignore_errors=True)  # one may lie in another
    print(f"{venv}: {before:.0f} MB, {_megabytes(packages):.0f} MB without headers and tests", flush=True)


def _megabytes(folder: Path) -> float:
    return sum(path.lstat().st_size for path in folder.rglob("*")) / 1e6
