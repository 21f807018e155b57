"""What lies in data/ of an earlier run: a stage that ran again leaves behind it what the later ones made before."""

from typing import Any

Json = dict[str, Any]


def earlier(
    search: tuple[str, int],
    selected: Json | None,
    model: Json | None,
    evaluation: Json | None,
    registered: Json | None,
) -> dict[str, str]:
    """The stages whose files are not of the search there is, each with what they are of: search, selection, training.

    `search`: the study and its best trial; the others are config.json, model.json, evaluation.json and version.json.
    A study goes on under its name when it gets more trials, so a selection is also one of its best trial.
    """
    found: dict[str, str] = {}
    study, best = search
    if selected is not None and (selected["study"], selected["candidates"][0]["trial"]) != (study, best):
        found["select"] = "search"
    if model is not None:
        if model["study"] != study or "select" in found:
            found["retrain"] = "search"
        elif selected is not None and model["trial"] != selected["trial"]:
            found["retrain"] = "selection"
    for stage, made in (("evaluate", evaluation), ("register", registered)):
        if made is not None and (model is None or made.get("weights_digest") != model["weights_digest"]):
            found[stage] = found.get("retrain", "training")
        elif made is not None and "retrain" in found:
            found[stage] = found["retrain"]
    return found


def said(what: str) -> str:
    """The sentence for a reader of the page."""
    return f"of an earlier {what}: run `dvc repro`"
