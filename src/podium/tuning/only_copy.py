"""A project that was restored from a backup, or lost lines in a power cut, and goes on with its runs in MLflow."""

from podium.config.params import RuntimeParams, TrackingParams
from podium.tracking import sessions
from podium.tracking.store import connect
from podium.tuning import storage, upkeep


def take_over(params: TrackingParams, runtime: RuntimeParams) -> int:
    """Leave a mark of this folder on each search's run where a session that it does not know has logged since.

    It is for a person who knows that there is no other copy, which would be refused from now on. `podium sync` then
    makes the runs what the studies hold. Returns how many studies that were. Killed, it goes on when it is run again.
    Raises RefusedError where one of these searches is at work.
    """
    tracking = connect(params)
    where = storage.place(runtime)
    taken = 0
    for study in upkeep.studies(where):
        if sessions.others_run(tracking, study) is None:
            continue
        with storage.alone(where, study.study_name), storage.reached(where):
            taken += sessions.take_over(tracking, study)
    return taken
