import numpy as np
import pytest

from podium.tuning.freeze_thaw.curve_model import CurveModel, Points, fit, start


def _curves(trials: int, epochs: int, *, seed: int = 0) -> tuple[Points, np.ndarray]:
    """Curves that fall with time, the lower the nearer the first feature is to 0.7; the second feature is noise."""
    random = np.random.default_rng(seed)
    places = random.random((trials, 2))
    x = np.repeat(places, epochs, axis=0)
    t = np.tile(np.linspace(0.1, 1, epochs), trials)
    y = -2 * t + 3 * (x[:, 0] - 0.7) ** 2 + 0.02 * random.normal(size=len(t))
    return Points(x, t, np.repeat(np.arange(trials), epochs)), y


def test_fit_finds_which_feature_matters() -> None:
    points, y = _curves(12, 6)
    theta = fit(points, y, start(2))
    assert theta[1] > theta[0], "the length of the feature that does not matter is the longer one"


def test_model_predicts_a_curve_that_has_begun_and_one_that_has_not() -> None:
    points, y = _curves(14, 6)
    seen = np.flatnonzero((points.trial < 12) | ((points.trial == 12) & (points.t < 0.5)))
    theta = fit(points.take(seen), y[seen], start(2))
    model = CurveModel(points.take(seen), y[seen], theta)
    for trial in (12, 13):
        rows = np.flatnonzero((points.trial == trial) & (points.t == 1))
        mean, deviation = model.predict(points.take(rows))
        assert mean[0] == pytest.approx(y[rows[0]], abs=0.5)
        assert deviation[0] > 0


def test_deviation_is_small_where_something_was_seen_and_large_elsewhere() -> None:
    points, y = _curves(3, 5)
    model = CurveModel(points, y, fit(points, y, start(2)))
    _, seen = model.predict(points)
    _, away = model.predict(Points(np.array([[9.0, 9.0]]), np.array([1.0]), np.array([99])))
    assert away[0] > 3 * seen.max()


def test_fit_again_from_its_end_changes_little() -> None:
    points, y = _curves(10, 5)
    once = fit(points, y, start(2))
    again = fit(points, y, once)
    before, after = (CurveModel(points, y, theta).predict(points)[0] for theta in (once, again))
    assert before == pytest.approx(after, abs=0.1)


@pytest.mark.parametrize("features", [0, 1])
def test_model_takes_equal_values_and_no_features(features: int) -> None:
    points = Points(np.zeros((5, features)), np.linspace(0, 1, 5), np.arange(5))
    model = CurveModel(points, np.full(5, 0.3), fit(points, np.full(5, 0.3), start(features)))
    assert model.predict(points)[0] == pytest.approx(np.full(5, 0.3), abs=1e-6)
