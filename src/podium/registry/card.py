"""The model card: model.json and card.md inside the registered model, and a shorter page in the registry."""

from dataclasses import asdict, dataclass
from typing import Any

from podium.data.dataset import DatasetInfo
from podium.data.decode import Preprocess
from podium.metrics.class_rows import by_recall
from podium.text import for_code, for_markdown
from podium.training.answering import Promise
from podium.training.trained import TrainedModel

LONGEST = 4000
"""Characters of the card in the registry: a database stores 5,000."""
MEASURES = 20
"""Further metrics in the registry's card, which has little room."""
LONGEST_NAMES = 1000
"""Characters of the names of classes in the registry's card."""
SHOWN = 30
"""Classes in the table of figures; the end of the card has all of them."""
SUMMARY = ("accuracy", "accuracy_low", "accuracy_high", "macro_f1", "ece", "nll", "count", "groups")
"""What every evaluation has."""


def about(
    trained: TrainedModel, spec: Preprocess, metrics: dict[str, float], promise: Promise | None = None
) -> dict[str, Any]:
    """model.json of the registered model: all that serving needs besides the graph, and where it comes from."""
    abstain = (
        {"threshold": promise.threshold, "error": promise.error, "confidence": promise.confidence} if promise else {}
    )
    return ({"abstain": abstain} if abstain else {}) | {
        "classes": trained.classes,
        "preprocess": spec.to_dict(),
        "metrics": metrics,
        "trained": asdict(trained),
    }


@dataclass(frozen=True)
class Evaluated:
    """What the card shows besides the model itself."""

    metrics: dict[str, float]
    """metrics.json of the evaluation."""
    classes: list[dict[str, str]]
    """per_class.csv of the evaluation."""
    info: DatasetInfo
    chosen: dict[str, Any]
    """config.json of the selection."""
    promise: Promise | None = None
    """From which probability the model answers; None: always."""


def page(trained: TrainedModel, spec: Preprocess, evaluated: Evaluated, tags: dict[str, str]) -> str:
    """The card inside the model: data, figures with intervals, classes, limits, how it was chosen, where it is from."""
    info, chosen, metrics = evaluated.info, evaluated.chosen, evaluated.metrics
    counts = ", ".join(f"{name} {sum(per_class.values()):,}" for name, per_class in info.counts.items())
    fresh = ", ".join(f"{value:.4f}" for value in chosen.get("values", [])) or "none"
    folds = chosen.get("folds")
    how = f"over {folds} folds of the training and validation images" if folds else "on fresh seeds"
    lines = [
        "# Model card",
        "",
        "## Data",
        "",
        f"Source `{for_code(info.source)}`, images by split: {counts or 'unknown'}."
        f" Trained on {' and '.join(trained.splits)}, measured on test, a held-out test set that stayed"
        " sealed until then.",
        f"Digest `{info.digest}`.",
        "",
        "## Figures on the held-out test set",
        "",
        f"Accuracy {metrics['accuracy']:.4f} ({metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f}) of"
        f" {metrics['count']:,.0f} images, macro F1 {metrics['macro_f1']:.4f}, expected calibration error"
        f" {metrics['ece']:.4f}, negative log likelihood {metrics['nll']:.4f}.",
        *_others(metrics),
        "",
        *_classes(evaluated.classes),
        *_calibration(trained.temperature),
        *_abstain(evaluated.promise),
        "## Limits",
        "",
        f"Takes one image file of at most {spec.max_bytes:,} bytes and {spec.max_pixels:,} pixels, and makes it"
        f" {spec.channels}x{spec.height}x{spec.width}. It always predicts one of the classes above: an image of"
        " anything else gets one of them too. The figures hold for images like those of the source; other cameras,"
        " scanners or times were not measured.",
        "",
        "## How it was chosen",
        "",
        f"Trial {trained.trial} of study `{for_code(trained.study)}`"
        f" ({chosen.get('metric', 'accuracy')} {chosen.get('value')} in the search), run again {how}: {fresh}."
        f" {_settings(trained.recipe['model'])}; {_settings(trained.recipe['train'])}.",
        "",
        "## Lineage",
        "",
        *(f"- {name}: `{for_code(value)}`" for name, value in sorted(tags.items()) if value),
        *(["", "## Every class", "", *_class_table(evaluated.classes)] if len(evaluated.classes) > SHOWN else []),
    ]
    return "\n".join(lines) + "\n"


def _classes(classes: list[dict[str, str]]) -> list[str]:
    """The table of all classes; of many the SHOWN of lowest recall, as all stand at the end of the card."""
    if len(classes) <= SHOWN:
        return [*_class_table(classes), ""]
    weakest = by_recall(classes)[:SHOWN]
    return [
        f"The {SHOWN} of {len(classes):,} classes with the lowest recall; all are below.",
        "",
        *_class_table(weakest),
        "",
    ]


def _class_table(classes: list[dict[str, str]]) -> list[str]:
    return [
        "| class | images | precision | recall | interval |",
        "|---|---|---|---|---|",
        *(
            f"| {for_markdown(row['class'])} | {row['support']} | {float(row['precision']):.4f} |"
            f" {float(row['recall']):.4f} | {float(row['recall_low']):.4f} to {float(row['recall_high']):.4f} |"
            for row in classes
        ),
    ]


def _others(metrics: dict[str, float]) -> list[str]:
    """search.metric with the ends of its interval, and evaluate.metrics, where these are others."""
    others = {name: value for name, value in metrics.items() if name not in SUMMARY}
    return ["", f"{', '.join(f'{name} {value:.4f}' for name, value in others.items())}."] if others else []


def _calibration(temperature: float) -> list[str]:
    if temperature == 1:
        return []
    return [
        "Its probabilities are calibrated: logits are divided by the temperature"
        f" {temperature:.4g}, fitted on validation images by confirmation runs that were not trained on them.",
        "",
    ]


def _abstain(promise: Promise | None) -> list[str]:
    if promise is None:
        return []
    text = promise.sentence()
    return [f"With the parameter `abstain` it {text[0].lower()}{text[1:]}.", ""]


def markdown(trained: TrainedModel, metrics: dict[str, float], tags: dict[str, str]) -> str:
    """The card in the registry, of at most LONGEST characters: figures, origin, the configuration as a table."""
    model, train = trained.recipe["model"], trained.recipe["train"]
    channels, height, width = trained.shape
    lines = [
        f"**Accuracy {metrics['accuracy']:.4f}** ({metrics['accuracy_low']:.4f} to {metrics['accuracy_high']:.4f})"
        f" on {metrics['count']:,.0f} images of the held-out test set",
        "",
        "| metric | value |",
        "|---|---|",
        f"| macro F1 | {metrics['macro_f1']:.4f} |",
        f"| expected calibration error | {metrics['ece']:.4f} |",
        f"| negative log likelihood | {metrics['nll']:.4f} |",
        *[f"| {name} | {value:.4f} |" for name, value in metrics.items() if name not in SUMMARY][:MEASURES],
        "",
        f"Takes image files of any size, makes them {channels}x{height}x{width}, predicts one of"
        f" {len(trained.classes)} classes: {_names(trained.classes)}.",
        "",
        f"- configuration (below): trial {trained.trial} of study `{for_code(trained.study)}`",
        f"- trained on {trained.device} with seed {trained.seed}; confirmed on seeds"
        f" {', '.join(map(str, trained.confirmation_seeds)) or 'none'}",
        f"- data `{trained.data_digest[:12]}`, weights `{trained.weights_digest[:12]}`",
        f"- commit `{tags['git_commit'][:12]}`{', with uncommitted changes' if tags['git_dirty'] == 'true' else ''}",
        f"- evaluation, loaded model, exported graph and served model agree within {tags['parity_max_difference']}",
    ]
    text = "\n".join(lines)
    return f"{text}\n\n{_table({'model': model, 'train': train}, LONGEST - len(text))}"


def _table(sections: dict[str, dict[str, Any]], room: int) -> str:
    """The configuration, a setting a row, in at most `room` characters; what has none is counted."""
    rows = [
        f"| `{name}.{key}` | {_shown(value)} |" for name, section in sections.items() for key, value in section.items()
    ]
    lines, left = ["| setting | value |", "|---|---|"], max(0, room - 120)
    for row in rows:
        left -= len(row) + 1
        if left >= 0:
            lines.append(row)
    missing = len(rows) - (len(lines) - 2)
    return "\n".join(
        [*lines, *([f"\n{missing} longer or further ones are in the model's card.md."] if missing else [])]
    )


def _names(classes: list[str]) -> str:
    """The first of `classes`, as many as have room."""
    shown, room = list[str](), LONGEST_NAMES
    for name in map(for_markdown, classes):
        room -= len(name) + 2
        if room < 0:
            return ", ".join([*shown, "..."])
        shown.append(name)
    return ", ".join(shown)


def _shown(value: Any) -> str:
    """A value within a row of a table."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return for_markdown(text)


def _settings(section: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_shown(value)}" for name, value in section.items())
