"""The registered model behind BentoML, as its documentation shows it: `python bentoml_model.py FOLDER PORT`."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import bentoml
import mlflow
import pandas as pd
import torch

FOLDER = "BENCHMARK_MODEL"


@bentoml.service(workers=1, traffic={"timeout": 60})
class Classifier:
    def __init__(self) -> None:
        torch.set_num_threads(1)
        self.model = mlflow.pyfunc.load_model(os.environ[FOLDER])

    @bentoml.api(route="/invocations")
    def predict(self, dataframe_records: list[dict[str, str]]) -> dict[str, Any]:
        files = [base64.b64decode(row["image"]) for row in dataframe_records]
        return {"predictions": self.model.predict(pd.DataFrame({"image": files})).to_dict("records")}


if __name__ == "__main__":
    os.environ |= {FOLDER: sys.argv[1], "BENTOML_DO_NOT_TRACK": "true"}
    where = ["--working-dir", str(Path(__file__).parent), "--host", "127.0.0.1", "--port", sys.argv[2]]
    os.execv(sys.executable, [sys.executable, "-m", "bentoml", "serve", "bentoml_model:Classifier", *where])  # noqa: S606
