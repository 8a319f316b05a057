"""Local files as a source: listed, hashed, and read where they are."""

import hashlib
import re
import subprocess
import zipfile
from pathlib import Path
from typing import Literal

from nightly.io.paths import Paths
from nightly.records.night import DownloadedFile
from nightly.sources.errors import NothingFoundError, PathNotFoundError, UnreadableFileError

ZIP_MAGIC = b"PK\x03\x04"
READABLE = ".csv, .csv.gz, .zip (of CSV), .tfrecord, .tfrecord.gz"


def kind_of(name: str) -> Literal["csv", "tfrecord"] | None:
    """How a file of this name is read; None when it is neither. TFX's names, …_tfrecord-00000-of-00001.gz, count."""
    name = name.lower()
    if name.endswith((".csv", ".csv.gz", ".zip")):
        return "csv"
    return "tfrecord" if re.search(r"tfrecord(-\d+-of-\d+)?(\.gz)?$", name) else None


def fetch(path: str) -> list[DownloadedFile]:
    """The files at `path` (a file, a folder, or `package:NAME/PATH` in the ML environment), in order of their names.

    Nothing is copied: each entry is the file itself. Names that begin with . or _ are left out, as everywhere in this
    field. Raises PathNotFoundError, NothingFoundError or UnreadableFileError.
    """
    place = _in_package(path.removeprefix("package:")) if path.startswith("package:") else Path(path).expanduser()
    place = place.absolute()
    try:
        if not place.exists():
            raise PathNotFoundError(f"{place} does not exist; `source.path` in the model's config.toml names it.")
        if place.is_file():
            files = [place]
            if kind_of(place.name) is None:
                raise NothingFoundError(f"{place} is not of a kind that can be read: {READABLE}.")
        else:
            inside = sorted(file for file in place.rglob("*") if file.is_file())
            files = [
                file
                for file in inside
                if kind_of(file.name) and not any(part.startswith((".", "_")) for part in file.relative_to(place).parts)
            ]
            if not files:
                found = ", ".join(file.name for file in inside[:5]) or "nothing"
                raise NothingFoundError(f"{place} holds no file that can be read ({READABLE}); found: {found}.")
        return [_described(file) for file in files]
    except PermissionError as error:
        raise UnreadableFileError(f"{error.filename} may not be read by this user.") from error


def _described(file: Path) -> DownloadedFile:
    with file.open("rb") as body:
        sha256 = hashlib.file_digest(body, "sha256").hexdigest()
    size = file.stat().st_size
    if not size:
        raise UnreadableFileError(f"{file} is empty; a file without rows still has a header line.")
    if file.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(file) as archive:
                members = csv_members(archive)
        except zipfile.BadZipFile as error:
            with file.open("rb") as body:
                cut = body.read(len(ZIP_MAGIC)) == ZIP_MAGIC
            end = "it begins as a zip archive and has no directory at its end. Have it delivered again."
            why = f"is truncated or damaged: {end}" if cut else f"is not a zip archive: {error}"
            raise UnreadableFileError(f"{file} {why}") from error
        if not members:
            raise NothingFoundError(f"{file} holds no .csv file.")
    return DownloadedFile(path=str(file), bytes=size, sha256=sha256, origin=str(file))


def csv_members(archive: zipfile.ZipFile) -> list[str]:
    """The CSV files in an archive, in order of their names; not what macOS adds."""
    names = (info.filename for info in archive.infolist() if not info.is_dir())
    return sorted(name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/"))


def _in_package(path: str) -> Path:
    """`path` in the site-packages of the ML environment, which need not be the one that runs this."""
    python = Paths.from_environment().ml_python
    command = [str(python), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    try:
        purelib = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError) as error:
        raise PathNotFoundError(
            f"package:{path} needs the ML environment, and its Python {python} does not run: {error}. "
            "Set the environment up, or name its Python in NIGHTLY_ML_PYTHON."
        ) from error
    return Path(purelib) / path
