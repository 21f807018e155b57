"""MLflow as a true image of what was done: the store, the runs, the mirror of a study and its repair."""

import os

# Before mlflow is imported: no telemetry, and no look at a package index while a model is logged.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_SKIP_PIP_REQUIREMENTS_CHECK", "true")
# A server's client would print two lines of addresses for every trial.
os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
# Where git is not installed, GitPython would print a page about it.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
# Its bars of progress would fill a pipe, and the console.
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that is away is noticed in seconds: MLflow's seven retries take four minutes, and we retry ourselves.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
