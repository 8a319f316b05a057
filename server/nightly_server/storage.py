"""Which versions of a model lie under its base path, and which of them its version policy wants."""

import logging

import tensorflow as tf
from tensorflow_serving.config import model_server_config_pb2

log = logging.getLogger(__name__)


def aspired_versions(model: model_server_config_pb2.ModelConfig) -> dict[int, str] | None:
    """Version -> path for what the server should have loaded now.

    Only children named by an integer count, half-copied or not. An existing base path without any is an answer: unload
    everything. A base path that is not there is none (None): it may be gone for a moment.
    """
    try:
        children = tf.io.gfile.listdir(model.base_path)
    except tf.errors.OpError:
        log.error("Could not find base path %s for servable %s", model.base_path, model.name)
        return None
    found: dict[int, str] = {}
    for child in sorted(name.rstrip("/") for name in children):
        if not (child.isascii() and child.isdigit()) or int(child) >= 2**63:
            continue
        if int(child) in found:
            log.warning("Duplicate version directories: %s of %s is loaded from %s", int(child), model.name, child)
        found[int(child)] = f"{model.base_path.rstrip('/')}/{child}"
    policy = model.model_version_policy
    choice = policy.WhichOneof("policy_choice")
    if choice == "all":
        wanted = found
    elif choice == "specific":
        wanted = {version: found[version] for version in policy.specific.versions if version in found}
        for version in set(policy.specific.versions) - set(found):
            log.warning("Version %s of %s is wanted and not under %s", version, model.name, model.base_path)
    else:
        newest = sorted(found, reverse=True)[: max(policy.latest.num_versions, 1)]
        wanted = {version: found[version] for version in newest}
    if not wanted:
        log.warning("No versions of servable %s found under base path %s", model.name, model.base_path)
    return wanted
