"""Spark Connect: the tests of the faces pass for a client as well."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
TESTS = (
    "test_dataframe.py::test_predict_equals_the_program_bit_for_bit",
    "test_dataframe.py::test_predict_odd_column_names_are_taken_literally",
    "test_sql.py::test_register_query_lists_the_most_probable_classes",
    "test_sql.py::test_register_path_reads_the_files",
    "test_read_images.py::test_read_images_options_choose_the_files",
    "test_transformer.py::test_pipeline_predicts_the_same_after_save_and_load",
    "test_measure.py::test_measure_counts_every_row_once_by_error_and_device",
    "test_nearest.py::test_nearest_scores_do_not_depend_on_partitions",
    "test_streaming.py::test_predict_stream_equals_the_program_over_all_batches",
)


def test_faces_work_on_spark_connect() -> None:
    env = os.environ | {"SPARK_TESTS": "connect", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, *(str(FOLDER / test) for test in TESTS)],
        env=env, cwd=FOLDER.parents[1], capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "passed" in done.stdout and "failed" not in done.stdout
