"""Parquet in bounded memory, and the same bytes for the same rows."""

import pyarrow as pa
import pyarrow.parquet as pq

from nightly.io.files import hash_file
from nightly.sources import row_groups
from nightly.sources.row_groups import write_parquet


def table(rows=5_000):
    return pa.table(
        {
            "n": range(rows),
            "flag": [n % 2 == 0 for n in range(rows)],
            "text": [None if n % 7 == 0 else "x" * (n % 300) for n in range(rows)],
            "list": [None if n % 5 == 0 else ["ab"] * (n % 4) for n in range(rows)],
            "bytes": [b"\x00" * (n % 90) for n in range(rows)],
            "none": pa.nulls(rows, pa.null()),
        }
    )


def test_the_same_rows_in_other_batches_are_the_same_file(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "GROUP_BYTES", 100_000)
    hashes = set()
    for size in (1_000, 317, 5_000):
        assert write_parquet(tmp_path / f"{size}", table().to_batches(size)) == 5_000
        hashes.add(hash_file(tmp_path / f"{size}"))
    assert len(hashes) == 1
    assert pq.read_table(tmp_path / "317").equals(table())


def test_a_row_group_has_bounded_bytes_and_rows(tmp_path, monkeypatch):
    monkeypatch.setattr(row_groups, "GROUP_BYTES", 100_000)
    monkeypatch.setattr(row_groups, "GROUP_ROWS", 400)
    write_parquet(tmp_path / "file", table().to_batches())
    file = pq.ParquetFile(tmp_path / "file")
    groups = [file.read_row_group(number) for number in range(file.num_row_groups)]
    assert max(group.num_rows for group in groups) == 400
    assert all(group.nbytes < 150_000 for group in groups)
    write_parquet(tmp_path / "wide", pa.table({"image": [b"x" * 90_000] * 10}).to_batches())
    assert pq.ParquetFile(tmp_path / "wide").num_row_groups == 5


def test_no_rows_make_no_file(tmp_path):
    assert write_parquet(tmp_path / "file", [table().to_batches()[0].slice(0, 0)]) == 0
    assert not (tmp_path / "file").exists()
