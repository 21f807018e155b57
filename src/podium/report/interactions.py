"""Interactions: how much of a result two dimensions of the space decide only together."""

from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import RandomForestRegressor

from podium.report.chart import Scale
from podium.report.trials import Search

ENOUGH = 20
"""Completed trials below which a forest learns noise."""
MOST = 6
"""Number of dimensions whose pairs are analysed, the most important first: 15 pairs take a second."""
GRID = 6
"""Values along a dimension."""
BACKGROUND = 64
"""Random points of the space over which the others are averaged."""
ABSENT = -0.5
"""Position of a dimension that a configuration does not have; the others are 0 to 1."""


@dataclass(frozen=True)
class Interactions:
    """Shares of the forest's variance over the space that two dimensions decide only together."""

    names: list[str]
    shares: list[list[float]]
    """Symmetric; the diagonal is 0."""
    trials: int
    explained: float
    """R squared of the forest on trials that it did not see (out of bag)."""

    @property
    def strongest(self) -> float:
        """The largest share."""
        return max(map(max, self.shares))


def interactions(search: Search) -> Interactions | None:
    """A functional analysis of variance of a random forest over the completed trials; None if they are too few.

    Hutter et al., An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014; the marginals are averages
    of the forest over random points of the space, as in Friedman's partial dependence.
    """
    complete = search.ranked()
    names = sorted(search.space, key=lambda name: -search.importances.get(name, 0.0))[:MOST]
    values = np.array([t.value for t in complete], dtype=np.float64)
    if len(complete) < ENOUGH or len(set(values)) < 2 or len(names) < 2:
        return None
    scales = [Scale.of(name, search.space[name]) for name in search.space]
    columns = list(search.space)
    points = np.array([[_at(s, t.params) for s in scales] for t in complete])
    # One thread: it is quick, and leaves the other cores to whoever shares the machine.
    forest = RandomForestRegressor(64, min_samples_leaf=2, oob_score=True, random_state=0, n_jobs=1)
    forest.fit(points, values)
    return _decompose(forest, columns, names, len(complete))


def _decompose(forest: RandomForestRegressor, columns: list[str], names: list[str], trials: int) -> Interactions:
    background = np.random.default_rng(0).random((BACKGROUND, len(columns)))
    whole = float(np.var(forest.predict(np.random.default_rng(1).random((GRID**4, len(columns)))))) or 1.0
    chosen = [columns.index(name) for name in names]
    shares = np.zeros((len(names), len(names)))
    alone = [_marginal(forest, background, [column]) for column in chosen]
    for a, b in combinations(range(len(names)), 2):
        together = _marginal(forest, background, [chosen[a], chosen[b]]).reshape(GRID, GRID)
        left = together - alone[a][:, None] - alone[b][None, :] + together.mean()
        shares[a, b] = shares[b, a] = np.var(left)
    return Interactions(names, (shares / whole).round(4).tolist(), trials, float(forest.oob_score_))


def _marginal(
    forest: RandomForestRegressor, background: NDArray[np.float64], columns: list[int]
) -> NDArray[np.float64]:
    """The forest's mean prediction for each combination of values of `columns`."""
    steps = (np.arange(GRID) + 0.5) / GRID
    grid = np.stack(np.meshgrid(*[steps] * len(columns), indexing="ij"), -1).reshape(-1, len(columns))
    points = np.repeat(background[None], len(grid), axis=0)
    points[:, :, columns] = grid[:, None, :]
    predicted: NDArray[np.float64] = forest.predict(points.reshape(-1, background.shape[1]))
    means: NDArray[np.float64] = predicted.reshape(len(grid), -1).mean(1)
    return means


def _at(scale: Scale, params: dict[str, Any]) -> float:
    return scale.position(params[scale.name]) if scale.name in params else ABSENT
