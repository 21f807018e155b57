"""The registered model behind LitServe, as its documentation shows it: `python litserve_model.py FOLDER PORT`."""

import base64
import sys
from typing import Any

import litserve
import mlflow
import pandas as pd
import torch


class Classifier(litserve.LitAPI):
    def setup(self, device: str) -> None:
        torch.set_num_threads(1)
        self.model = mlflow.pyfunc.load_model(sys.argv[1])

    def decode_request(self, request: dict[str, Any]) -> list[bytes]:
        return [base64.b64decode(row["image"]) for row in request["dataframe_records"]]

    def predict(self, files: list[bytes]) -> Any:
        return self.model.predict(pd.DataFrame({"image": files}))

    def encode_response(self, found: Any) -> dict[str, Any]:
        return {"predictions": found.to_dict("records")}


if __name__ == "__main__":
    api = Classifier(api_path="/invocations")
    litserve.LitServer(api, accelerator="cpu", timeout=60).run(
        host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning"
    )
