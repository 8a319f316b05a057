"""The interface of the state.

Two kinds of things are in the state:

record      a small file that changes: a night's JSON files, release records, schema versions, what is known of
            downloaded parts. It is read and replaced as a whole. A session's copy has the modification time of the
            record itself, as for a folder
content     a folder or file that never changes once it is published, and may be large: a snapshot, an artifact, a
            baseline, a downloaded body, the files of a released version

Of downloads, the records are <model>/parts/ and the content <model>/bodies/. A session's <model>/bodies is a link to
the host's: name a body by its path there, as the session's ends with it.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime
from pathlib import Path
from typing import Protocol

from nightly.io.paths import Paths


class State(Protocol):
    """All state of all models. Paths are absolute, in one of the folders of Paths."""

    shared: bool  # whether other hosts read and write it

    def session(self, model: str) -> AbstractContextManager[Paths]:
        """Work on the state of `model`: yield the paths to work in, and publish the changed records at the end.

        In a bucket's session, the records' folders are this session's own: copies of the bucket's records as they are
        now. At the end, also after an error, each record that the session wrote is replaced in the bucket by
        compare-and-swap, and each that it deleted is deleted. A process that is killed changes no record. A session
        inside a session of the same task, as in its ML process (NIGHTLY_SESSION), is the outer one.

        Raises ChangedElsewhereError at the end if another host has changed one of these records meanwhile.
        """
        ...

    def view(self, model: str) -> Paths:
        """Return paths to read the records of `model` at, as they were a few seconds ago at most.

        For a process that lives long and only reads, as the web page: it calls this again for each request.
        """
        ...

    def refresh(self, folder: Path) -> None:
        """Bring the records below `folder` to what the bucket has now; keep those that this session has written."""
        ...

    def fetch(self, path: Path) -> None:
        """Have the content at `path` complete on this host, each file checked by its SHA-256.

        Does nothing if it is there, or was never published: the reader then says what is missing, as for a folder.
        Raises DamagedStateError if the bucket lacks a file or has other bytes, and StateNotReachedError.
        """
        ...

    def hold(self, path: Path) -> None:
        """Keep the content at `path`, once it is on this host, until this process ends.

        A session does this for what is fetched in it. This is for a process without one.
        """
        ...

    def publish(self, path: Path) -> None:
        """Make the complete content or record at `path` visible to other hosts, at once and as a whole.

        Content: its files are uploaded by SHA-256, where the bucket has none of that hash, and then its manifest is
        created. Publishing the same content again does nothing. A record is replaced by compare-and-swap, and need
        not wait for the session's end. Raises ChangedElsewhereError and StateNotReachedError.
        """
        ...

    def replace(self, path: Path) -> None:
        """Publish the content at `path` in the place of what was published there, at once.

        For a repair: others may read either. The caller holds a lock.
        """
        ...

    def restore(self, path: Path) -> bool:
        """Replace this host's damaged copy of the content at `path` by the bucket's; return whether there is another.

        A folder has no other copy. Raises as `fetch` does.
        """
        ...

    def hand_over(self, path: Path) -> None:
        """Upload the file at `path`, which a job's worker wrote, for the job's driver: a part of some content.

        In a bucket it leaves this host, and waits there until the driver calls `collect`. Compare `send`.
        """
        ...

    def collect(self, folder: Path) -> None:
        """Take the files below `folder` that the job's workers have handed over: from then on only this host has them.

        Compare `receive`.
        """
        ...

    def remove(self, path: Path) -> None:
        """Delete the content at `path` for all hosts, and on this one. Its blobs stay until the next collection."""
        ...

    def receive(self, folder: Path, select: Callable[[str, datetime], bool]) -> Path:
        """Return a folder with the files that were sent to `folder`, such as clients' logs and users' labels.

        The files stay where they are, for every host and every later call. In a bucket each is an object
        `<folder's name>/<file>`, and the result has copies of those for which `select(name, time of its last change)`.
        They have their objects' times. Compare `collect`.
        """
        ...

    def address(self, folder: Path) -> str:
        """Return where a person finds what was sent to `folder`: the folder, or its address in the bucket."""
        ...

    def send(self, path: Path, folder: Path) -> None:
        """Put a complete file, which is of no run, where `receive` of `folder` has it on all hosts from then on.

        Does nothing if it is there. Raises ChangedElsewhereError if another file of its name is, and StateAddressError
        if the state is a folder, where others write themselves.
        """
        ...

    def names(self, folder: Path) -> list[str]:
        """Return the names of what is directly below `folder`: the published content and, if any, this host's own."""
        ...

    def locked(
        self,
        path: Path,
        *,
        wait: bool = True,
        on_wait: Callable[[], object] = lambda: None,
        shared: bool = False,
    ) -> AbstractContextManager[None]:
        """Hold a lock named by `path` that no other process, on any host, holds. It ends with its process.

        Raises BlockingIOError if another process has it and `wait` is False.

        :param shared: other processes may hold it at the same time, if they share it, too
        """
        ...

    def check_locks(self) -> None:
        """Raise StateNotReachedError if this process has lost one of its locks, so that another host may hold it.

        A lock between hosts ends with its connection to the database, which may break.
        """
        ...
