"""The documentation's example for notebooks runs as it stands there."""

import re
from pathlib import Path

import pandas as pd

DOCS = Path(__file__).parents[3] / "docs/data.md"


def test_the_notebook_example_runs(trips, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for year in (2015, 2016):
        years = pd.to_datetime(trips["trip_start_timestamp"], unit="s").dt.year
        trips[years == year].to_csv(f"{year}.csv", index=False)
    (code,) = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    names = {}
    exec(compile(code, str(DOCS), "exec"), names)
    assert sum(names["rows"].values()) == names["now"].datasets[0].num_examples
    assert (tmp_path / "examples/Split-eval/data_tfrecord-00000-of-00001.gz").exists()
