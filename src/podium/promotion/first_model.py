"""What to do where the gate refuses the first model: how to try it all the same, and what would help."""

from podium.promotion.verdict import Verdict

FEW = 10
"""Test images of a class below which one image is more than a tenth of its recall."""
REMEDIES = {
    "accuracy": (
        "accuracy: `podium report --open` names the errors and what to try next; `podium doctor` names the preset that"
        " fits these images; `podium relabel` lists doubtful labels"
    ),
    "recall": "recall: more images of {worst}, or right labels for them (`podium relabel`); train.balance: loss",
    "calibration": "calibration: select.calibrate: true with full_fidelity: true, and more images",
    "latency": "latency: a smaller network or smaller images (model.name, prepare.size)",
    "data": "data: `dvc repro` trains a model on what is prepared now",
    "size": "size: a smaller network (model.name)",
}
"""By the name of the check that failed."""


def advice(verdict: Verdict) -> list[str]:
    """Lines for a person, where `verdict` refuses a first model; none where there is a champion, or it promotes."""
    if verdict.decision != "refuse" or verdict.champion is not None or "champion" in _failed(verdict):
        return []
    side = verdict.challenger
    recalls = side.recalls
    worst = min(recalls, key=lambda name: recalls[name], default="the weakest class")
    return [
        "It is registered and can be tried as it is: `podium predict --alias challenger FILE`, or"
        f" `podium predict --version {side.version} FILE`.",
        "What would help:",
        *(f"  {_remedy(name, verdict).format(worst=worst)}" for name in _failed(verdict)),
        f"  {_images(verdict)}",
        "If such a model is useful to you, lower what failed in `gate` of params.yaml (no stage runs again for it) and"
        ' promote again; `podium promote --force --reason "..."` moves it all the same, and the ledger says so.',
    ]


def _remedy(name: str, verdict: Verdict) -> str:
    """What helps against a failed check; against a low value of the gate's metric the same as for accuracy."""
    if name == verdict.metric != "accuracy":
        return f"{name}{REMEDIES['accuracy'].removeprefix('accuracy')}"
    return REMEDIES.get(name, f"{name}: see its line above")


def _failed(verdict: Verdict) -> list[str]:
    return list(dict.fromkeys(check.name for check in verdict.failed))


def _images(verdict: Verdict) -> str:
    """What so many test images can say."""
    side, count = verdict.challenger, verdict.images
    text = (
        f"images: on {count:,} test images an accuracy of {side.accuracy:.2f} means {side.low:.2f} to {side.high:.2f}"
    )
    per_class = count / max(len(side.recalls), 1)
    if per_class < FEW:
        text += f"; with about {per_class:.0f} of a class one image is {1 / max(per_class, 1):.0%} of its recall"
    return f"{text}; more images make it surer, and the model better"
