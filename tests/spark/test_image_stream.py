"""accel_images: every file that comes into a folder once, over restarts and crashes."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
from pyspark.sql import SparkSession
from pyspark.sql.streaming.datasource import ReadMaxFiles

import accel
from accel.errors import InputError
from spark_bridge import predict, read_images, watch_images, write_once
from spark_bridge.image_log import NAME, ImageLog
from spark_bridge.image_stream import ImageReader, _parsed


def test_watch_images_reads_each_file_once_over_a_restart(
    spark: SparkSession, cnn: accel.Model, files: list[bytes], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    out, checkpoint = str(tmp_path / "out"), str(tmp_path / "checkpoint")
    (photos / "cat").mkdir(parents=True)
    stream = watch_images(
        spark, str(photos), str(tmp_path / "log"), label="dir", maxFilesPerTrigger=7
    )
    predicted = predict(stream, cnn)
    assert predicted.isStreaming
    for numbers in (range(10), range(10, 25)):
        for i in numbers:
            (photos / "cat" / f"{i}.png").write_bytes(files[i] if i else b"")
        query = write_once(predicted, out, checkpoint, available_now=True)
        query.awaitTermination()
    assert len(query.recentProgress) >= 3  # 15 files, at most 7 at once
    found = {row.path: row for row in spark.read.parquet(out).collect()}
    table = predict(read_images(spark, str(photos), label="dir"), cnn).collect()
    assert spark.read.parquet(out).count() == len(found) == 25
    assert found == {row.path: row for row in table}
    assert found["cat/0.png"].prediction.error.code == "EMPTY"


def test_image_reader_file_that_is_gone_is_a_row_with_an_error(
    files: list[bytes], tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a.png", "b.png", "notes.txt"):
        (photos / name).write_bytes(files[0])
    reader = ImageReader(_parsed({"path": str(photos), "logdir": str(tmp_path / "log")}))
    end = reader.latestOffset(reader.initialOffset(), ReadMaxFiles(10))
    assert end == {"file": 2}
    (photos / "b.png").unlink()
    pieces = reader.partitions({"file": 0}, end)
    assert [[name for name, _ in piece.files] for piece in pieces] == [["a.png"], ["b.png"]]
    task = pickle.loads(pickle.dumps(reader))
    rows = [row for piece in pieces for batch in task.read(piece) for row in batch.to_pylist()]
    assert [row["content"] for row in rows] == [files[0], None]
    assert rows[1]["error"]["code"] == "UNREADABLE"
    reader.stop()


def test_image_log_keeps_numbers_and_drops_a_cut_line(tmp_path: Path) -> None:
    log = ImageLog(tmp_path)
    log.add([("a.png", 1), ("näh\n.png", 2)])
    log.add([("a.png", 9), ("c.png", 3)])
    log.close()
    for cut, names in ((b"", ["a.png", "näh\n.png", "c.png"]), (b'["d.p', ["a.png"])):
        path = tmp_path / NAME
        whole = path.read_bytes() if not cut else path.read_bytes().splitlines(True)[0]
        path.write_bytes(whole + cut)
        again = ImageLog(tmp_path)
        assert [name for name, _ in again.files(0, again.end)] == names
        again.close()
    again = ImageLog(tmp_path)
    again.add([("e.png", 5)])
    assert again.files(1, 2) == [("e.png", 5)]
    with pytest.raises(InputError, match=r"images 0 to 9 are asked for, .* one logDir"):
        again.files(0, 9)
    again.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"path": "/no/such/folder"}, "no folder at"),
        ({"label": "name"}, "label is 'name'"),
        ({"maxFilesPerTrigger": 0}, "option maxFilesPerTrigger"),
        ({"log": ""}, "option logDir is missing; accel_images needs path, logDir"),
        ({"window": 3}, "unknown option 'window'"),
    ],
)
def test_watch_images_wrong_option_is_an_error_at_once(
    spark: SparkSession, tmp_path: Path, change: dict[str, object], message: str
) -> None:
    given: dict[str, object] = {"path": str(tmp_path), "log": str(tmp_path / "log")}
    with pytest.raises(InputError, match=message):
        watch_images(spark, **(given | change))  # type: ignore[arg-type]


def test_write_once_wrong_use_is_an_error(spark: SparkSession, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="df is no stream"):
        write_once(spark.range(1), str(tmp_path), str(tmp_path))
    with pytest.raises(InputError, match="format is 'xml'"):
        write_once(spark.range(1), str(tmp_path), str(tmp_path), format="xml")
