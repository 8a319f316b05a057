"""The devices that train together: each has a copy of the model and gets an equal share of every batch."""

import logging

import keras
import tensorflow as tf

from nightly.training.errors import TrainingError

log = logging.getLogger("nightly")

KIND = "GPU"


def strategy_of(gpus: int | str, batch_size: int) -> tf.distribute.Strategy:
    """Return the strategy in whose scope the model is built, and trained by as many devices.

    Raises TrainingError if there are fewer, or if a batch cannot be divided into equal shares: the mean of the shares'
    losses would not be the batch's.

    :param gpus: a number, or "all" there are. 1 leaves the choice of the device to TensorFlow
    """
    there = [device.name for device in tf.config.list_logical_devices(KIND)]
    count = max(len(there), 1) if gpus == "all" else int(gpus)
    if count == 1:
        return tf.distribute.get_strategy()
    if count > len(there):
        raise TrainingError(f"training.gpus is {gpus}, and TensorFlow sees {len(there)} here: {there}")
    if batch_size % count:
        raise TrainingError(
            f"training.batch_size is {batch_size}, which {count} GPUs cannot share equally: set a multiple of {count}"
        )
    log.info("training on %s, with %s of the %s rows of a batch each", there[:count], batch_size // count, batch_size)
    return tf.distribute.MirroredStrategy(there[:count])


def refuse_own_steps(model: keras.Model, where: str | None) -> None:
    """Raise TrainingError if several devices would train the model by a `train_step` of its own.

    Keras divides a loss by their number where it computes it, and a step that computes its own would be off by that.
    """
    for name in ("train_step", "compute_loss"):
        if model.distribute_strategy.num_replicas_in_sync > 1 and getattr(type(model), name) not in _OF_KERAS[name]:
            raise TrainingError(
                f"the model of {where} has a {name} of its own, which several GPUs cannot share: set training.gpus to 1"
            )


_OF_KERAS = {
    name: [getattr(kind, name) for kind in (keras.Model, keras.Sequential)] for name in ("train_step", "compute_loss")
}
