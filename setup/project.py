"""The project itself in an environment: a .pth file with its folders, so that `import nightly` works from anywhere.

It does what an editable installation does, and needs no build. `include.models`, which users write, is no part of an
installed package: the project's own folder is in the file, too.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = (".", "include", "client", "server", "plugins")  # as python_path() of nightly.io.paths has them
NAME = "nightly-retrain.pth"


def link(venv: Path) -> None:
    """Write the file into `venv`, unless it is up to date."""
    (packages,) = venv.glob("lib/python3*/site-packages")
    file, text = packages / NAME, "".join(f"{(ROOT / folder).resolve()}\n" for folder in FOLDERS)
    if not file.exists() or file.read_text() != text:
        file.write_text(text)
