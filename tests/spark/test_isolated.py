"""Isolated decoding: the image that ends a process is one row with an error."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import accel
from accel.images import ImageChain
from spark_bridge.isolated import Decoder, is_careful
from spark_bridge.rows import RowError, image_row
from spark_bridge.settings import Settings

IMAGE = accel.TensorSpec("image", (16, 16, 3), np.dtype(np.uint8))
POISON = b"poison"  # a PNG file may be followed by anything
CRASH = f"""
import os, signal, cv2
real = cv2.imdecode
def imdecode(data, flags):
    if bytes(data).endswith({POISON!r}):
        os.kill(os.getpid(), signal.SIGSEGV)
    return real(data, flags)
cv2.imdecode = imdecode
"""
JOB = """
import sys
from pathlib import Path
from accel.demo import digits_model
from spark_bridge import local_session, measure, predict, read_images
spark = local_session("local[2,2]")
df = predict(read_images(spark, sys.argv[1], partitions=2), digits_model().quantize(), meta=True)
df, measured = measure(df)
for row in df.collect():
    error = row.prediction.error.code if row.prediction.error else None
    print(row.path, row.prediction.meta.attempt, error)
print('measured', measured.rows, measured.errors['NATIVE_CRASH'])
spark.stop()
"""


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Makes OpenCV crash on POISON in every Python process started from here."""
    (tmp_path / "sitecustomize.py").write_text(CRASH)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    made = Decoder()
    yield made
    made.close()


def test_decoder_gives_the_same_pixels_and_errors_as_without_it(
    decoder: Decoder, files: list[bytes], pixels: np.ndarray
) -> None:
    for value in (files[0], bytearray(files[0]), pixels[0]):
        found = decoder.image_row(value, IMAGE, ImageChain(resize=16), Settings())
        np.testing.assert_array_equal(found, pixels[0])
    for bad in (None, b"", b"junk", "text"):
        with pytest.raises(RowError) as expected:
            image_row(bad, IMAGE, None, Settings())
        with pytest.raises(RowError) as caught:
            decoder.image_row(bad, IMAGE, None, Settings())
        assert vars(caught.value) == vars(expected.value)


def test_decoder_crash_is_an_error_and_the_next_image_is_decoded(
    crashing: Path, decoder: Decoder, files: list[bytes], pixels: np.ndarray
) -> None:
    for i in range(2):
        with pytest.raises(RowError, match=r"NATIVE_CRASH at decode: .* by SIGSEGV"):
            decoder.image_row(files[0] + POISON, IMAGE, None, Settings())
        found = decoder.image_row(files[i], IMAGE, None, Settings())
        np.testing.assert_array_equal(found, pixels[i])


def test_is_careful_follows_the_setting_outside_a_retry() -> None:
    careful = [is_careful(Settings(isolate=mode)) for mode in ("auto", "always", "never")]
    assert careful == [False, True, False]


def test_job_image_that_crashes_the_worker_costs_one_row(
    crashing: Path, files: list[bytes]
) -> None:
    folder = crashing / "photos"
    folder.mkdir()
    for i in range(12):
        (folder / f"{i:02d}.png").write_bytes(files[i] + (POISON if i == 5 else b""))
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(crashing), *sys.path])}
    done = subprocess.run(
        [sys.executable, "-c", JOB, str(folder)], env=env, capture_output=True, text=True,
        timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    *rows, measured = sorted(line.split() for line in done.stdout.splitlines())
    assert measured == ["measured", "12", "1"]  # each row once, in whichever try
    assert [name for name, _, _ in rows] == [f"{i:02d}.png" for i in range(12)]
    assert [error for _, _, error in rows] == ["None"] * 5 + ["NATIVE_CRASH"] + ["None"] * 6
    assert rows[5][1] == "1"  # the second try
