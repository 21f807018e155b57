"""What a registered model says of itself: model.json inside it, and a page of Markdown in the registry."""

import base64
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.decode import Preprocess, encode_png
from podium.trained import TrainedModel

ANSWERS = 8
"""Images stored in the model with their right answers: enough to see that it works, few enough to stay small."""


def about(trained: TrainedModel, spec: Preprocess, metrics: dict[str, float]) -> dict[str, Any]:
    """model.json of the registered model: all that serving needs besides the graph, and where it comes from."""
    return {
        "classes": trained.classes,
        "preprocess": spec.to_dict(),
        "metrics": metrics,
        "trained": asdict(trained),
    }


def right_answers(
    images: NDArray[np.uint8], probabilities: NDArray[np.float32], classes: list[str]
) -> list[dict[str, Any]]:
    """answers.json of the registered model: image files in base64 and what evaluation answered for them."""
    best = probabilities.argmax(axis=1)
    return [
        {
            "image": base64.b64encode(encode_png(images[i])).decode(),
            "label": classes[best[i]],
            "probability": float(probabilities[i, best[i]]),
        }
        for i in range(min(ANSWERS, len(images)))
    ]


def markdown(trained: TrainedModel, metrics: dict[str, float], tags: dict[str, str]) -> str:
    """The card in the registry: at most 4,000 characters, since a database keeps 5,000."""
    model, train = trained.recipe["model"], trained.recipe["train"]
    channels, height, width = trained.shape
    classes = ", ".join(trained.classes)
    lines = [
        f"**Accuracy {metrics['accuracy']:.4f}** ({metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
        f" on {metrics['count']:,.0f} sealed images",
        "",
        "| measure | value |",
        "|---|---|",
        f"| macro F1 | {metrics['macro_f1']:.4f} |",
        f"| expected calibration error | {metrics['ece']:.4f} |",
        f"| negative log likelihood | {metrics['nll']:.4f} |",
        "",
        f"Takes image files of any size, makes them {channels}x{height}x{width}, answers one of"
        f" {len(trained.classes)} classes: {classes if len(classes) <= 1000 else classes[:1000] + ' ...'}.",
        "",
        f"- configuration: trial {trained.trial} of study `{trained.study}`; {_settings(model)}, {_settings(train)}",
        f"- trained on {trained.device} with seed {trained.seed}; confirmed on seeds"
        f" {', '.join(map(str, trained.confirmation_seeds)) or 'none'}",
        f"- data `{trained.data_digest[:12]}`, weights `{trained.weights_digest[:12]}`",
        f"- commit `{tags['git_commit'][:12]}`{', with uncommitted changes' if tags['git_dirty'] == 'true' else ''}",
        f"- evaluation, loaded model, exported graph and served model agree within {tags['parity_max_difference']}",
    ]
    return "\n".join(lines)


def _settings(section: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in section.items()
    )
