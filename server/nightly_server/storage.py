"""The versions of a model under its base path, chosen by its version policy."""

import logging

import tensorflow as tf
from tensorflow_serving.config import model_server_config_pb2

log = logging.getLogger(__name__)


def aspired_versions(model: model_server_config_pb2.ModelConfig) -> dict[int, str] | None:
    """Return the path of each version that should be loaded, by version number.

    Every child named by an integer counts, even if half-copied. An empty base path returns {}: unload everything. A
    missing base path returns None: it may be missing only for a moment.
    """
    try:
        children = tf.io.gfile.listdir(model.base_path)
    except tf.errors.OpError:
        log.error("Could not find base path %s for servable %s", model.base_path, model.name)
        return None
    paths: dict[int, str] = {}
    for child in sorted(name.rstrip("/") for name in children):
        if not (child.isascii() and child.isdigit()) or int(child) >= 2**63:
            continue
        if int(child) in paths:
            log.warning("Duplicate version directories: %s of %s is loaded from %s", int(child), model.name, child)
        paths[int(child)] = f"{model.base_path.rstrip('/')}/{child}"
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        aspired = paths
    elif choice == "specific":
        aspired = {version: paths[version] for version in policy.specific.versions if version in paths}
        for version in set(policy.specific.versions) - set(paths):
            log.warning("Version %s of %s is wanted and not under %s", version, model.name, model.base_path)
    else:
        newest = sorted(paths, reverse=True)[: max(policy.latest.num_versions, 1)]
        aspired = {version: paths[version] for version in newest}
    if not aspired:
        log.warning("No versions of servable %s found under base path %s", model.name, model.base_path)
    return aspired
