"""The module file of the TFX pipeline: our transform and network, with TFX's usual reading, training and export."""

import keras
import tensorflow as tf
import tensorflow_transform as tft
from tfx_bsl.public import tfxio

from include.models.complaints.model import build_model
from nightly.models import load_config
from nightly.training import transforming

MODEL = "complaints"
LABEL = transforming.LABEL


def preprocessing_fn(inputs):
    return transforming.preprocessing_fn(inputs, {"model": MODEL})


def run_fn(fn_args):
    training = load_config(MODEL).training
    transform = tft.TFTransformOutput(fn_args.transform_output)

    def batches(files):
        options = tfxio.TensorFlowDatasetOptions(batch_size=training.batch_size, label_key=LABEL)
        schema = transform.transformed_metadata.schema
        return fn_args.data_accessor.tf_dataset_factory(files, options, schema).repeat()

    keras.utils.set_random_seed(0)
    model = build_model(transform, training.hyperparameters)
    model.fit(
        batches(fn_args.train_files),
        steps_per_epoch=fn_args.train_steps,
        validation_data=batches(fn_args.eval_files),
        validation_steps=fn_args.eval_steps,
        verbose=2,
    )
    model.tft_layer = transform.transform_features_layer()
    examples = tf.TensorSpec([None], tf.string, "examples")

    @tf.function(input_signature=[examples])
    def serve(serialized):
        spec = transform.raw_feature_spec()
        spec.pop(load_config(MODEL).data.label.column)
        features = model.tft_layer(tf.io.parse_example(serialized, spec))
        return {"outputs": model(features)}

    @tf.function(input_signature=[examples])
    def transform_features(serialized):
        features = tf.io.parse_example(serialized, transform.raw_feature_spec())
        return {LABEL: model.tft_layer(features)[LABEL]}  # others would hide the raw columns of the slices

    signatures = {"serving_default": serve, "transform_features": transform_features}
    tf.saved_model.save(model, fn_args.serving_model_dir, signatures=signatures)
