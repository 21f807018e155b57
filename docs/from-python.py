"""Podium from Python: the functions that the stages call. Run it in the project's root after `dvc repro prepare`."""

from podium import build_network, load_params, prepared_data, train

params = load_params("params.yaml", {"train.epochs": 2, "train.batch_size": 64})

# %% What `prepare` left: images as (N, C, H, W) uint8, and their labels.
data = prepared_data()
print(f"{len(data.train)} images to train on, {len(data.val)} to validate on; {data.info.classes}")

# %% The network that params.yaml names: raw uint8 images in, logits out.
network = build_network(params, data)
print(f"{sum(weights.numel() for weights in network.parameters()):,} parameters")

# %% One training, without a search and without a run in MLflow; the last epoch's figures.
trained = train(params, data, seed=1)
print(f"validation accuracy {trained.history[-1]['val_accuracy']:.3f}")
