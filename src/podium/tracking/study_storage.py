"""Where a study is kept, which Optuna shows by no public name."""

import optuna
from optuna.storages import BaseStorage

from podium.private_names import private_or_public


def storage_of(study: optuna.Study) -> BaseStorage:
    """The storage of `study`. Where its private name is gone, whatever `study` holds that is a storage."""

    def by_name() -> BaseStorage:
        return study._storage

    def by_type() -> BaseStorage:
        return next(value for value in vars(study).values() if isinstance(value, BaseStorage))

    return private_or_public("optuna", "a study's storage is found by its type", by_name, by_type)


def number_in_storage(study: optuna.Study) -> int:
    """The number that `study` has in its storage: the older a study, the smaller."""
    return storage_of(study).get_study_id_from_name(study.study_name)
