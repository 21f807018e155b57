"""One training run and what it is made of; nothing here knows Optuna or MLflow."""
