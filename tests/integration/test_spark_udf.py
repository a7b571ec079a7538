"""The registered model as a function of Spark's, on rows in a data frame of Spark's."""

import importlib.util
import shutil
import sys

import mlflow
import numpy as np
import pandas as pd
import pytest

from pii_finetune.registry import DPO_MODEL, promote

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="no Java here, which Spark needs (17 or newer)"),
    pytest.mark.skipif(
        importlib.util.find_spec("pyspark") is None, reason="pyspark is not installed: pip install 'pyspark<4.2'"
    ),
]

LABELS = ["prénom", "file size", "customer iban", "Straße", "number of retries"] * 8
LANGUAGES = ["French", "English", None, "de", "xx"] * 8


@pytest.fixture
def spark(monkeypatch):
    from pyspark.sql import SparkSession

    monkeypatch.setenv("PYSPARK_PYTHON", sys.executable)
    session = (
        SparkSession.builder.master("local[2]")
        .config("spark.ui.enabled", "false")
        .config("spark.driver.bindAddress", "127.0.0.1")
        .config("spark.driver.host", "127.0.0.1")
        .config("spark.sql.execution.arrow.maxRecordsPerBatch", "16")
        .getOrCreate()
    )
    yield session
    session.stop()


def test_the_model_answers_in_spark_as_it_does_alone(registered, spark):
    promote(DPO_MODEL, registered[0])
    uri = f"models:/{DPO_MODEL}/Production"
    rows = pd.DataFrame({"label": LABELS, "language": LANGUAGES})
    expected = mlflow.pyfunc.load_model(uri).predict(rows)

    answer = mlflow.pyfunc.spark_udf(
        spark, uri, result_type="sensitive string, probability double", env_manager="local"
    )
    table = spark.createDataFrame(list(zip(LABELS, LANGUAGES, strict=True)), "label string, language string")
    answered = table.repartition(2).withColumn("answer", answer("label", "language"))
    found = answered.select("label", "language", "answer.sensitive", "answer.probability").toPandas()

    assert len(found) == len(rows)
    by_question = dict(zip(zip(LABELS, LANGUAGES, strict=True), expected.itertuples(index=False), strict=True))
    for row in found.itertuples(index=False):
        wanted = by_question[row.label, None if pd.isna(row.language) else row.language]
        assert row.sensitive == wanted.sensitive
        assert np.isclose(row.probability, wanted.probability, atol=1e-5)
