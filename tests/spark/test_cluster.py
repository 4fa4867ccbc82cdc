"""A cluster of two executors, one killed in the middle: the same rows, each once."""

from __future__ import annotations

import os
import subprocess
import sys

JOB = """
import os, signal, threading
from pathlib import Path
import numpy as np
import accel
from accel.demo import digits_model, digits_test
from spark_bridge import local_session, predict
from spark_bridge.session import QUICK_START

def executors():
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                commands[int(entry.name)] = (entry / "cmdline").read_bytes()
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    def mine(pid):
        while pid in parents and pid != os.getpid():
            pid = parents[pid]
        return pid == os.getpid()
    return [p for p, c in commands.items() if mine(p)
            and b"CoarseGrainedExecutorBackend" in c and c.split(b"\\0")[0].endswith(b"java")]

spark = local_session("local-cluster[2,1,1024]", conf={
    "spark.executor.memory": "1g", "spark.executor.extraJavaOptions": QUICK_START})
images, _ = digits_test()
model = digits_model().quantize()
rows = [(i, image.tobytes()) for i, image in enumerate(np.concatenate([images] * 3))]
df = spark.createDataFrame(rows, "id int, content binary").repartition(30)
query = predict(df, model, kind="tensor")
query.limit(1).collect()
before = executors()
threading.Timer(0.5, lambda: os.kill(before[0], signal.SIGKILL)).start()
found = {}
for row in query.collect():
    assert row.id not in found
    found[row.id] = (row.prediction.label, row.prediction.score)
scores = accel.device("cpu").compile(model, batch_size=32).run(images)
wanted = [(int(s.argmax()), float(s.max())) for s in scores] * 3
assert [found[i] for i in range(len(rows))] == wanted
assert before[0] not in executors()
print(len(before), len(found))
spark.stop()
"""


def test_executor_killed_in_the_middle_of_a_job_changes_no_row() -> None:
    import pyspark

    env = os.environ | {
        "SPARK_HOME": os.path.dirname(pyspark.__file__),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=env, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["2", "2703"]
    assert "Lost executor" in done.stderr
