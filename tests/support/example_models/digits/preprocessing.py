"""Decode images, in training and, inside the SavedModel, in serving."""

from nightly.training.preprocessing import images


def preprocessing_fn(inputs):
    """Return `pixels`, float32 [batch, 8, 8, 1], 0 to 1."""
    return {"pixels": images(inputs["image"], 8, 8, channels=1)}
