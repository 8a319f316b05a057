"""Where the state of all nights is: in a folder of this host, or in a bucket that many hosts share.

The variable NIGHTLY_STATE names the folder or the bucket. Code above this room works on folders and files, and says
what it needs and what it has completed:

    fetch(path)     before it reads a folder or file that another task, maybe on another host, has published
    publish(path)   after it has completed one
    remove(path)    instead of deleting one

With a folder these cost nothing: what is complete is visible to all. With a bucket, each task works in a session of
its own (`session`), and sees what was published before.

    base.py      the interface State, and its words: record, content, session
    folder.py    state in a folder
    bucket.py    state in a bucket
"""

from nightly.state.base import State
from nightly.state.current import current, fetch, publish, remove, unshared

__all__ = ["State", "current", "fetch", "publish", "remove", "unshared"]
