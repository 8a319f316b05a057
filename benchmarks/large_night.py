"""The night of benchmarks/night.py with a million rows, once on each side; TFX's takes 15 minutes."""

from pathlib import Path

from benchmarks.common import Result, main
from benchmarks.night import measured


def run(quick: bool, folder: Path) -> Result:
    return measured(folder, 20_000, 100, 1) if quick else measured(folder, 1_000_000, 1300, 1)


if __name__ == "__main__":
    main(run)
