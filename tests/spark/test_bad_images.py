"""Every odd or bad image in one table: a prediction or an error for each, and no row lost."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pyspark.sql import SparkSession

import accel
from accel.images import ImageChain, decode
from spark_bridge import map_partitions, predict

SIDE = 16
ORIENTATION = 0x0112


def picture() -> Image.Image:
    ramp = np.add.outer(np.arange(SIDE) * 9, np.arange(SIDE) * 5)
    return Image.fromarray(np.stack([ramp, 255 - ramp, ramp // 2], -1).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    return encoded(picture(), "JPEG", exif=exif, quality=95)


def bomb() -> bytes:
    """A small JPEG whose header claims 20000x20000 pixels."""
    data = bytearray(encoded(picture(), "JPEG"))
    at = data.index(b"\xff\xc0") + 5  # height and width in the frame header
    data[at : at + 4] = (20000).to_bytes(2, "big") * 2
    return bytes(data)


def animated() -> bytes:
    later = Image.new("RGB", (SIDE, SIDE), "red")
    return encoded(picture().quantize(64).convert("RGB"), "GIF", save_all=True,
                   append_images=[later, later])  # fmt: skip


def sixteen_bit() -> bytes:
    grey = np.asarray(picture().convert("L"), np.uint16) * 257
    return encoded(Image.fromarray(grey))


GOOD = {
    "grey": encoded(picture().convert("L")),
    "cmyk": encoded(picture().convert("CMYK"), "JPEG", quality=95),
    "16 bit": sixteen_bit(),
    "animated": animated(),
    "exif": turned(),
    "alpha": encoded(picture().convert("RGBA")),
    "palette": encoded(picture().quantize(16)),
}
BAD = {
    "null": (None, "NULL_INPUT"),
    "empty": (b"", "EMPTY"),
    "truncated": (encoded(picture(), "JPEG")[:200], "DECODE"),
    "header only": (encoded(picture())[:40], "DECODE"),
    "text": (b"no image at all", "DECODE"),
    "bomb": (bomb(), "TOO_MANY_PIXELS"),
}


@pytest.fixture
def rows() -> list[tuple[str, bytes | None]]:
    """Good and bad ones mixed, so that they share batches."""
    named = [*GOOD.items(), *((name, data) for name, (data, _) in BAD.items())]
    return named[::2] + named[1::2]


def expected(cnn: accel.Model) -> dict[str, bytes]:
    pixels = {name: decode(data) for name, data in GOOD.items()}
    outputs = accel.device("cpu").compile(cnn).run(np.stack(list(pixels.values())))
    return {name: row.tobytes() for name, row in zip(pixels, outputs, strict=True)}


def found(pairs: list[tuple[str, Any]]) -> dict[str, object]:
    return {name: bytes(p.features) if p.error is None else p.error.code for name, p in pairs}


def test_predict_gives_every_odd_image_its_prediction_or_its_error(
    spark: SparkSession, cnn: accel.Model, rows: list[tuple[str, bytes | None]]
) -> None:
    df = spark.createDataFrame(rows, "name string, content binary").coalesce(1)
    predicted = predict(df, cnn, task="features").collect()
    assert [row.name for row in predicted] == [name for name, _ in rows]
    wanted = expected(cnn) | {name: code for name, (_, code) in BAD.items()}
    assert found([(row.name, row.prediction) for row in predicted]) == wanted
    pairs = spark.sparkContext.parallelize(rows, 1).mapPartitions(
        map_partitions(cnn, task="features")
    )
    assert found(pairs.collect()) == wanted


def test_predict_exif_is_followed_unless_the_chain_says_otherwise(
    spark: SparkSession, cnn: accel.Model
) -> None:
    df = spark.createDataFrame([(turned(),)], "content binary")
    stored = decode(turned(), exif=False)
    scores = accel.device("cpu").compile(cnn).run(stored[np.newaxis])
    row = predict(df, cnn, task="features", chain=ImageChain(exif=False)).first()
    assert row is not None and bytes(row.prediction.features) == scores.tobytes()


def test_predict_chain_normalises_within_the_program(
    spark: SparkSession, fp32: accel.Model, files: list[bytes], pixels: np.ndarray
) -> None:
    chain = ImageChain(order="bgr", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
    df = spark.createDataFrame([(f,) for f in files[:5]], "content binary").coalesce(1)
    values = (pixels[:5, :, :, ::-1] / 255 - chain.mean) / chain.std
    program = accel.device("onnxruntime").compile(fp32)
    logits = program.run(values.transpose(0, 3, 1, 2).astype(np.float32))
    rows = predict(df, fp32, task="features", chain=chain, backend="onnxruntime").collect()
    got = np.stack([np.frombuffer(row.prediction.features, "<f4") for row in rows])
    np.testing.assert_allclose(got, logits, rtol=1e-4, atol=1e-4)
    int8 = chain.fold(fp32).quantize()
    same = predict(df, int8, task="features", chain=chain).collect()
    own = accel.device("cpu").compile(int8).run(pixels[:5])
    assert [bytes(row.prediction.features) for row in same] == [row.tobytes() for row in own]
