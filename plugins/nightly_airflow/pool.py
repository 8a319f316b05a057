"""The pool of the ML steps: how many run at once, over all models. The plugin creates it; users resize it.

A task of a pool that does not exist is never scheduled, and only the scheduler's log says so. DAGs are parsed without
Airflow's database, so they cannot ask. They name the pool only if the environment variable NIGHTLY_POOL does: the
plugin sets it in each component that has seen the pool, and the DAG processor's parsing processes inherit it. Where
no component loads the plugin, the steps are in Airflow's own default pool, which always exists.
"""

from __future__ import annotations

import contextlib
import os

from nightly.io import variables

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
