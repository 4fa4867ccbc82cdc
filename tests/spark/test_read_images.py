"""read_images: every file a row, the broken ones too."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyspark.sql import SparkSession

import accel
from accel.errors import InputError
from spark_bridge import predict, read_images


@pytest.fixture
def folder(tmp_path: Path, files: list[bytes]) -> Path:
    for name, data in {"cat/1.png": files[0], "dog/2.PNG": files[1], "dog/old/3.png": files[2],
                       "dog/empty.jpg": b"", "notes.txt": b"text"}.items():  # fmt: skip
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return tmp_path


def test_read_images_gives_every_image_file_a_row(
    spark: SparkSession, folder: Path, files: list[bytes]
) -> None:
    df = read_images(spark, str(folder), label="dir", partitions=3)
    rows = {r.path: (r.label, r.length, r.content, r.error) for r in df.collect()}
    assert df.rdd.getNumPartitions() == 3
    assert rows == {
        "cat/1.png": ("cat", len(files[0]), files[0], None),
        "dog/2.PNG": ("dog", len(files[1]), files[1], None),
        "dog/old/3.png": ("old", len(files[2]), files[2], None),
        "dog/empty.jpg": ("dog", 0, b"", None),
    }


def test_read_images_options_choose_the_files(spark: SparkSession, folder: Path) -> None:
    def names(**options: object) -> list[str]:
        return sorted(r.path for r in read_images(spark, str(folder), **options).collect())  # type: ignore[arg-type]

    assert names(glob="*.txt") == ["notes.txt"]
    assert names(glob="?.png") == ["cat/1.png", "dog/old/3.png"]
    assert [r.path for r in read_images(spark, (folder / "dog").as_uri(), False).collect()]


def test_read_images_file_lost_or_too_large_is_an_error_row(
    spark: SparkSession, folder: Path, cnn: accel.Model
) -> None:
    spark.conf.set("spark.accel.maxBytes", "100")
    try:
        (folder / "large.png").write_bytes(bytes(101))
        df = read_images(spark, str(folder), glob="l*.png")
        (folder / "late.png").write_bytes(b"x")
        lost = read_images(spark, str(folder), glob="late.png")
        (folder / "late.png").unlink()
        codes = {r.path: (r.content, r.error.code) for r in df.union(lost).collect()}
    finally:
        spark.conf.unset("spark.accel.maxBytes")
    assert codes == {"large.png": (None, "TOO_LARGE"), "late.png": (None, "UNREADABLE")}
    errors = [r.prediction.error.code for r in predict(lost, cnn).collect()]
    assert errors == ["NULL_INPUT"]


def test_read_images_nothing_to_read_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder at"):
        read_images(spark, str(tmp_path / "none"))
    with pytest.raises(InputError, match="no file in"):
        read_images(spark, str(tmp_path))
    with pytest.raises(InputError, match="cannot open nothing://"):
        read_images(spark, "nothing://there")
    with pytest.raises(InputError, match="label is 'name'"):
        read_images(spark, str(tmp_path), label="name")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="partitions is 0"):
        read_images(spark, str(tmp_path), partitions=0)
