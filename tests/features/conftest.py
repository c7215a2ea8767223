"""Spark for the tests that need it: one session on one core, on this machine alone."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import pytest

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CONFIG = {
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.memory": "768m",
    "spark.log.level": "OFF",
    "spark.sql.codegen.factoryMode": "NO_CODEGEN",  # to compile would take longer than to run
    "spark.sql.codegen.wholeStage": "false",
    "spark.sql.session.timeZone": "Asia/Kolkata",  # no answer may hang on it
    "spark.sql.shuffle.partitions": "2",
    "spark.ui.enabled": "false",
    "spark.ui.showConsoleProgress": "false",
}


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> "Iterator[SparkSession]":
    """Skips where there is no PySpark or no Java. The JVM ends with the module's tests."""
    pytest.importorskip("pyspark", reason="PySpark is not installed: add the extra [spark]")
    if shutil.which("java") is None and not os.environ.get("JAVA_HOME"):
        pytest.skip("Java is not installed, which Spark needs: the engines are not compared")
    from pyspark.sql import SparkSession

    folder = Path(tmp_path_factory.mktemp("spark"))
    builder = SparkSession.builder.master("local[1]").appName("conformance")
    for name, value in {**CONFIG, "spark.sql.warehouse.dir": str(folder), "spark.local.dir": str(folder)}.items():
        builder = builder.config(name, value)
    session = builder.getOrCreate()
    _ = ibis.pyspark  # Ibis writes SQL for Spark only once this is loaded
    yield session
    gateway = session.sparkContext._gateway
    session.stop()
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(timeout=30)
