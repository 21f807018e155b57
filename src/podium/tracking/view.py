"""The table of runs as a reader wants it first, as one of MLflow's shared views: objective, state, searched parameters.

`python -m podium.tracking.view` prints its address below that of the server that `make ui` starts.
"""

import json

import optuna
from optuna.study import StudyDirection

from podium import paths, process
from podium.config.params import load
from podium.tracking.run_names import FRONT_TAG, LIMIT, key_of
from podium.tracking.store import Tracking, connect
from podium.tracking.study_summary import objectives

KEY = "podium"
TAG = f"mlflow.sharedViewState.{KEY}"
"""The tag of an experiment in which MLflow 3.17's pages keep a shared view; its content is JSON."""
PRIMARY_METRIC = "mlflow.experiment.primaryMetric.name"
"""The tag of an experiment from which the charts that compare its runs take the metric that they begin with."""
SERVER = "http://127.0.0.1:5000"


def view_of(study: optuna.Study) -> str:
    """The view of the trials of `study`: the best first, one column per objective and searched parameter."""
    searched = sorted({key_of(name) for trial in study.get_trials(deepcopy=False) for name in trial.params})
    columns = [f"metrics.`{name}`" for name in objectives(study)]
    front = [f"tags.`{FRONT_TAG}`"] if len(study.directions) > 1 else []
    columns += ["tags.`podium.state`", *front, *(f"params.`{name}`" for name in searched)]
    best_is_low = study.directions[0] == StudyDirection.MINIMIZE
    view = {"orderByKey": columns[0], "orderByAsc": best_is_low, "selectedColumns": columns}
    while len(json.dumps(view)) > LIMIT:  # hundreds of parameters
        columns.pop()
    return json.dumps(view)


def save_first(tracking: Tracking, study: optuna.Study) -> None:
    """Make the view of `study` that of its experiment where that has none yet."""
    if TAG not in tracking.client.get_experiment(tracking.experiment_id).tags:
        save(tracking, study)


def save(tracking: Tracking, study: optuna.Study) -> None:
    """Make the view of `study` that of its experiment, whose charts begin with the objective unless a person chose."""
    tracking.client.set_experiment_tag(tracking.experiment_id, TAG, view_of(study))
    if PRIMARY_METRIC not in tracking.client.get_experiment(tracking.experiment_id).tags:
        tracking.client.set_experiment_tag(tracking.experiment_id, PRIMARY_METRIC, objectives(study)[0])


def address(tracking: Tracking, server: str = SERVER) -> str:
    """Where the runs of the experiment are shown, with the view where a search has saved one."""
    known = tracking.client.get_experiment(tracking.experiment_id).tags
    page = f"{server}/#/experiments/{tracking.experiment_id}/runs?workflowType=machine_learning"
    return f"{page}&viewStateShareKey={KEY}" if TAG in known else page


def main() -> None:
    """Print the address."""
    print(f"the trials: {address(connect(load(paths.PARAMS).tracking))}", flush=True)


if __name__ == "__main__":
    process.run(main)
