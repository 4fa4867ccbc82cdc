"""What the Spark benches compute, and the same without Spark: photographs to labels."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from pyspark.ml.functions import predict_batch_udf
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.types import IntegerType
from topologies import MEAN, STD, mobilenet_v1, resnet50

import accel
from accel.images import ImageChain, decode

PHOTOS = Path(__file__).resolve().parents[2] / "shared" / "data" / "images" / "imagenet500"
CHAIN = ImageChain(resize=256, crop=224)
BATCH = 32
NETWORKS = {"ResNet-50": resnet50, "MobileNetV1-0.25": mobilenet_v1}


def photos(count: int, folder: Path) -> list[str]:
    """Paths of JPEG files: the photographs beside the repository, or noise made in `folder`."""
    found = sorted(map(str, PHOTOS.glob("*.jpg"))) or sorted(_noise(folder))
    return list(islice(cycle(found), count))


def build(name: str, folder: Path) -> tuple[Path, Path]:
    """Files of one network: float32, and int8 for images."""
    fp32, int8 = folder / f"{name}.fp32.onnx", folder / f"{name}.int8.onnx"
    if not int8.exists():
        model = NETWORKS[name]()
        model.save(fp32)
        model.with_preprocessing(MEAN, STD).quantize().save(int8)
    return fp32, int8


class Plain:
    """The same work in processes of one thread each, without Spark."""

    def __init__(self, model: Path, processes: int) -> None:
        self._processes = processes
        context = multiprocessing.get_context("spawn")
        self._pool = context.Pool(processes, _open, (str(model),))

    def run(self, paths: Sequence[str]) -> list[int]:
        """Label of each file."""
        count = self._processes
        labels = [0] * len(paths)
        parts = self._pool.map(_classify, [paths[i::count] for i in range(count)], chunksize=1)
        for i, part in enumerate(parts):
            labels[i::count] = part
        return labels

    def close(self) -> None:
        self._pool.terminate()
        self._pool.join()


def batch_udf(fp32: Path) -> Any:
    """What is written today: decode, normalise and ONNX Runtime within predict_batch_udf."""

    def make() -> Any:
        import onnxruntime

        cv2.setNumThreads(1)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            str(fp32), options, providers=["CPUExecutionProvider"]
        )

        def predict(contents: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
            images = np.stack([_normalised(bytes(content)) for content in contents])
            labels: np.ndarray[Any, Any] = session.run(None, {"image": images})[0].argmax(1)
            return labels.astype(np.int32)

        return predict

    return predict_batch_udf(make, return_type=IntegerType(), batch_size=BATCH)


def paths_df(spark: SparkSession, paths: Sequence[str], partitions: int) -> DataFrame:
    """id int, content string: a path."""
    rows = pd.DataFrame({"id": np.arange(len(paths), dtype=np.int32), "content": list(paths)})
    return _spread(spark.createDataFrame(rows), partitions)


def files_df(spark: SparkSession, paths: Sequence[str], partitions: int) -> DataFrame:
    """id int, content binary: a file; held by the JVM."""
    contents = [Path(path).read_bytes() for path in paths]
    rows = pd.DataFrame({"id": np.arange(len(paths), dtype=np.int32), "content": contents})
    return _spread(spark.createDataFrame(rows), partitions)


def _spread(df: DataFrame, partitions: int) -> DataFrame:
    spread = df.repartition(partitions).cache()
    spread.count()
    return spread


def _normalised(content: bytes) -> np.ndarray[Any, Any]:
    """float32 (3, 224, 224)."""
    image = cv2.cvtColor(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR),
                         cv2.COLOR_BGR2RGB)  # fmt: skip
    height, width = image.shape[:2]
    ratio = 256 / min(height, width)
    image = cv2.resize(image, (round(width * ratio), round(height * ratio)))
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    cut = image[top : top + 224, left : left + 224].astype(np.float32) / 255
    return ((cut - np.float32(MEAN)) / np.float32(STD)).transpose(2, 0, 1)


_programs: list[accel.Program] = []


def _open(model: str) -> None:
    cv2.setNumThreads(1)
    _programs.append(accel.device("cpu").compile(accel.load(model), batch_size=BATCH))


def _classify(paths: Sequence[str]) -> list[int]:
    labels: list[int] = []
    for start in range(0, len(paths), BATCH):
        images = [CHAIN(decode(Path(p).read_bytes())) for p in paths[start : start + BATCH]]
        labels += np.asarray(_programs[0].run(np.stack(images))).argmax(1).tolist()
    return labels


def _noise(folder: Path) -> Iterator[str]:
    rng = np.random.default_rng(0)
    for i in range(64):
        coarse = rng.integers(0, 256, (32, 43, 3), np.uint8)
        path = folder / f"noise{i:02d}.jpg"
        cv2.imwrite(str(path), cv2.resize(coarse, (341, 256), interpolation=cv2.INTER_CUBIC))
        yield str(path)
