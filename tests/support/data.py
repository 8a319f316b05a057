"""Real rows: Chicago's taxi trips, which come with TFX, and consumer complaints, which lie beside the repository."""

from pathlib import Path

from nightly.io.paths import ROOT, Paths

_INSIDE_TFX = "tfx/examples/chicago_taxi_pipeline/data/big_tipper_label/data.csv"
_ML_ENVIRONMENT = Paths.from_environment().ml_python.parent.parent
TAXI = next((_ML_ENVIRONMENT / "lib").glob(f"python3*/site-packages/{_INSIDE_TFX}"), Path(_INSIDE_TFX))
COMPLAINTS = ROOT.parent / "shared/data/cfpb_complaints_2013_2016.csv"
