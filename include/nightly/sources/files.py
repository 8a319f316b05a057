"""Files as a source. Local ones are listed, hashed, and read where they are."""

import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nightly.io.files import hash_file
from nightly.io.paths import Paths
from nightly.records.night import DownloadedFile
from nightly.records.source_config import FilesSource
from nightly.sources.base import Context, Fetched, Part
from nightly.sources.errors import NothingFoundError, PathNotFoundError, UnreadableFileError

ZIP_MAGIC = b"PK\x03\x04"
READABLE = ".csv, .csv.gz, .zip (of CSV), .tfrecord, .tfrecord.gz, .parquet"


def kind_of(name: str) -> Literal["csv", "tfrecord", "parquet"] | None:
    """Return the kind of a file by its name, or None. TFX's …_tfrecord-00000-of-00001.gz is TFRecord."""
    name = name.lower()
    if name.endswith((".csv", ".csv.gz", ".zip")):
        return "csv"
    if name.endswith(".parquet"):
        return "parquet"
    return "tfrecord" if re.search(r"tfrecord(-\d+-of-\d+)?(\.gz)?$", name) else None


@dataclass(frozen=True)
class Files:
    """A file, a folder, or `package:NAME/PATH` in the ML environment."""

    path: str

    def parts(self) -> list[Part]:
        return [Part(str(file), suffix="".join(file.suffixes), path=file) for file in files_at(self.path)]

    def fetch(self, part: Part, target: Path, known: str) -> Fetched:
        raise NotImplementedError(f"{part.name} is read where it is")


def open_source(config: FilesSource, context: Context) -> Files:
    """Return the source of a [source] of kind files."""
    named = context.connection.extra.get("path") if context.connection else None
    return Files(context.address or named or config.path)


def files_at(path: str) -> list[Path]:
    """Return the files at `path` (a file, a folder, or `package:NAME/PATH` in the ML environment), sorted by name.

    Names that begin with . or _ are left out, as in Beam and Spark. Raises PathNotFoundError, NothingFoundError or
    UnreadableFileError.
    """
    root = _in_package(path.removeprefix("package:")) if path.startswith("package:") else Path(path).expanduser()
    root = root.absolute()
    try:
        if not root.exists():
            raise PathNotFoundError(f"{root} does not exist; `source.path` in the model's config.toml names it.")
        if root.is_file():
            files = [root]
            if kind_of(root.name) is None:
                raise NothingFoundError(f"{root} is not of a kind that can be read: {READABLE}.")
        else:
            candidates = sorted(file for file in root.rglob("*") if file.is_file())
            files = [
                file
                for file in candidates
                if kind_of(file.name) and not any(part.startswith((".", "_")) for part in file.relative_to(root).parts)
            ]
            if not files:
                shown = ", ".join(file.name for file in candidates[:5]) or "nothing"
                raise NothingFoundError(f"{root} holds no file that can be read ({READABLE}); found: {shown}.")
        return files
    except PermissionError as error:
        raise UnreadableFileError(f"{error.filename} may not be read by this user.") from error


def described(file: Path) -> DownloadedFile:
    """Return a local file's record. Raises UnreadableFileError or NothingFoundError."""
    try:
        sha256, size = hash_file(file), file.stat().st_size
    except PermissionError as error:
        raise UnreadableFileError(f"{error.filename} may not be read by this user.") from error
    if not size:
        raise UnreadableFileError(f"{file} is empty; a file without rows still has a header line.")
    if file.suffix.lower() == ".zip":
        try:
            with zipfile.ZipFile(file) as archive:
                members = csv_members(archive)
        except zipfile.BadZipFile as error:
            with file.open("rb") as body:
                truncated = body.read(len(ZIP_MAGIC)) == ZIP_MAGIC
            problem = f"is not a zip archive: {error}"
            if truncated:
                reason = "it begins as a zip archive and has no directory at its end. Have it delivered again."
                problem = f"is truncated or damaged: {reason}"
            raise UnreadableFileError(f"{file} {problem}") from error
        if not members:
            raise NothingFoundError(f"{file} holds no .csv file.")
    return DownloadedFile(path=str(file), bytes=size, sha256=sha256, origin=str(file))


def csv_members(archive: zipfile.ZipFile) -> list[str]:
    """Return the CSV files in an archive, sorted by name, without those that macOS adds."""
    names = (info.filename for info in archive.infolist() if not info.is_dir())
    return sorted(name for name in names if name.lower().endswith(".csv") and not name.startswith("__MACOSX/"))


def _in_package(path: str) -> Path:
    """Return `path` in the site-packages of the ML environment, while another environment may run this code."""
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
