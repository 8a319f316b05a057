"""The pool of the ML steps: how many run at once, over all models. The plugin creates it; users resize it.

A task of a pool that does not exist is never scheduled, and only the scheduler's log says so. DAGs are parsed without
Airflow's database, so they cannot ask. They name the pool only if the environment variable NIGHTLY_POOL does: the
plugin sets it in each component that has seen the pool, and the DAG processor's parsing processes inherit it. Where
no component loads the plugin, the steps are in Airflow's own default pool, which always exists.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING

from nightly.io import variables
from nightly.io.polling import poll

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

log = logging.getLogger(__name__)

POOL, SLOTS = "ml", 2
DEFAULT = "default_pool"  # every Airflow has it


def pool_of_steps() -> str:
    """Return the pool of the ML steps, which exists."""
    return variables.POOL.read() or DEFAULT


def ensure_pool() -> None:
    """Create the pool if there is none, and name it to the processes that this one starts. Needs Airflow's database."""
    from airflow.models.pool import Pool
    from sqlalchemy.exc import IntegrityError

    name = variables.POOL.read() or POOL
    with contextlib.suppress(IntegrityError):  # another component has created it just now
        if Pool.get_pool(name) is None:
            Pool.create_or_update_pool(name, SLOTS, "ML steps at a time, over all models", include_deferred=False)
    os.environ[variables.POOL.name] = name


def restore_pool(session: Session) -> None:
    """Create the pool again if a person has deleted it since Airflow started: the DAGs still name it.

    :param session: the scheduler's, which must not be committed here. So a thread creates the pool
    """
    from airflow.models.pool import Pool

    name = variables.POOL.read()
    if name and Pool.get_pool(name, session=session) is None:
        log.warning("the pool %s was deleted: creating it again with %d slots", name, SLOTS)
        threading.Thread(target=_create_again, daemon=True).start()


def _create_again() -> None:
    """Create the pool, also if the database is locked for a moment."""
    if not poll(_is_created, seconds=60, every=5):
        log.error("the pool could not be created: steps wait until it is there, or until the next night begins")


def _is_created() -> bool:
    from sqlalchemy.exc import OperationalError

    try:
        ensure_pool()
    except OperationalError:
        return False
    return True
