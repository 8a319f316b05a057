"""Check the disk space for a night and for each node of its pipeline, by the size of the model's last night."""

from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from nightly.io.paths import Paths
from nightly.io.space import check_space, size_of
from nightly.records.base import ContractError
from nightly.records.night import Download

FIRST_NIGHT_BYTES = 256 * 2**20  # of a model without an earlier night
NIGHTS = 3  # whose downloads are looked at; one that was run again has fetched nothing
FACTOR = 2  # times the last night's size: the next one may be larger, and some files are written twice


def check_night(paths: Paths, model: str) -> None:
    """Raise SpaceError unless the disks have room for twice the last night's download, snapshot, artifacts and version.

    The serving volume may be another disk, whose lack of room would be found only when the night releases.
    """
    last = {
        paths.downloads / model: _last_fetched(paths.nights / model),
        paths.snapshots / model: size_of(_newest(paths.snapshots / model)),
        paths.pipeline / model: sum(size_of(folder) for folder in _artifacts(paths.pipeline / model)),
        paths.serving / model: size_of(_newest(paths.serving / model)),
    }
    needs = {folder: FACTOR * size for folder, size in last.items()}
    known = sum(needs.values()) > 0
    purpose = f"a night of {model} (twice what the last one took)" if known else f"a first night of {model}"
    check_space(needs if known else needs | {paths.pipeline / model: FIRST_NIGHT_BYTES}, purpose)


def check_node(root: Path, node: str, inputs: Iterable[Path]) -> None:
    """Raise SpaceError unless the disk has room for twice the node's last outputs or, the first time, for its inputs.

    :param root: the pipeline's folder
    """
    last = sum(size_of(folder) for folder in _artifacts(root, node))
    needed, basis = (FACTOR * last, "twice its last outputs") if last else (sum(map(size_of, inputs)), "as its inputs")
    check_space({root / node: needed}, f"{node} ({basis})")


def _last_fetched(nights: Path) -> int:
    """Return the most bytes that one of the last nights has fetched: the bodies of earlier nights are there already."""
    downloads = sorted(nights.glob(f"*/{Download.FILE}"), key=lambda path: path.stat().st_mtime)[-NIGHTS:]
    fetched = 0
    for path in downloads:
        with suppress(ContractError):
            fetched = max(fetched, Download.load(path).fetched_bytes)
    return fetched


def _newest(folder: Path) -> Path:
    """Return the subfolder that was changed last, or a path that does not exist if there is none."""
    return max(folder.glob("[!.]*/"), key=lambda path: path.stat().st_mtime, default=folder / "none")


def _artifacts(root: Path, node: str = "*") -> list[Path]:
    """Return the newest execution's folder of each output, <node>/<output>/<execution>.

    A held night has no outputs after its gate, so these folders may be of an earlier one.
    """
    newest = {}
    for path in root.glob(f"{node}/*/[0-9]*/"):
        if path.name.isdecimal():
            key = path.parent
            newest[key] = max(newest.get(key, path), path, key=lambda each: int(each.name))
    return list(newest.values())
