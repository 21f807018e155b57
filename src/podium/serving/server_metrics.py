"""What a server counts, in Prometheus' text format (its client library writes it): rates, times, sizes, the version."""

import os
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

if TYPE_CHECKING:
    from podium.drift.window_verdict import Verdict

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)


class ServerMetrics:
    """The metrics of one process, each with its process number as the label `worker`."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        disable_created_metrics()  # type: ignore[no-untyped-call] # a time beside each value, which nothing here needs
        self.worker = str(os.getpid())
        self.requests = Counter(
            "podium_requests", "Requests answered.", ["worker", "path", "status"], registry=self.registry
        )
        self.images = Counter("podium_images", "Images predicted.", ["worker"], registry=self.registry).labels(
            self.worker
        )
        self.seconds = Histogram(
            "podium_request_seconds",
            "From the end of the headers to the end of the response, of requests that got predictions.",
            ["worker"],
            buckets=SECONDS,
            registry=self.registry,
        ).labels(self.worker)
        self.batches = Histogram(
            "podium_batch_images",
            "Images in a batch of the network.",
            ["worker"],
            buckets=SIZES,
            registry=self.registry,
        ).labels(self.worker)
        self.at_work = Gauge(
            "podium_requests_at_work", "Requests in progress.", ["worker"], registry=self.registry
        ).labels(self.worker)
        self.memory = Gauge(
            "podium_reserved_bytes", "Memory reserved by requests.", ["worker"], registry=self.registry
        ).labels(self.worker)
        self.version = Gauge(
            "podium_model_version", "Number of the version that serves.", ["worker", "model"], registry=self.registry
        )
        self.changes = Counter("podium_model_changes", "Versions loaded.", ["worker"], registry=self.registry).labels(
            self.worker
        )
        self.failing = Gauge(
            "podium_follow_failing",
            "1: the version that should serve can't be loaded.",
            ["worker"],
            registry=self.registry,
        ).labels(self.worker)

        self._of_others()
        self._of_drift()

    def _of_others(self) -> None:
        """What observers, a shadow and a canary do."""
        self.observed = Counter(
            "podium_observed_images",
            "Images that an observer processed, that were dropped because its queue was full, or on which it failed.",
            ["worker", "observer", "outcome"],
            registry=self.registry,
        )
        self.shadow = Counter(
            "podium_shadow_images",
            "Images on which champion and challenger agreed, disagreed, or the challenger failed.",
            ["worker", "outcome"],
            registry=self.registry,
        )
        self.canary = Counter(
            "podium_canary_images",
            "Images by the version that served them; fallback: the champion, in place of a challenger that failed.",
            ["worker", "by"],
            registry=self.registry,
        )
        self.challenger = Gauge(
            "podium_challenger_version",
            "Number of the second version (--shadow, --canary).",
            ["worker", "model"],
            registry=self.registry,
        )

    def _of_drift(self) -> None:
        """What the newest window of answered images is like."""
        self._drift_features: dict[tuple[str, str, str], set[str]] = {}
        self.drift = Gauge(
            "podium_drift",
            "1: the newest complete window of the version's images is unlike its training set.",
            ["worker", "model", "version"],
            registry=self.registry,
        )
        self.drift_window = Gauge(
            "podium_drift_window",
            "Number of the newest complete window.",
            ["worker", "model", "version"],
            registry=self.registry,
        )
        self.drift_effect = Gauge(
            "podium_drift_effect",
            "How far a feature of that window is from the training set, 0 to 1.",
            ["worker", "model", "version", "feature"],
            registry=self.registry,
        )
        self.drift_detected = Gauge(
            "podium_drift_feature",
            "1: the feature drifted in that window.",
            ["worker", "model", "version", "feature"],
            registry=self.registry,
        )

    def show_drift(self, model: str, number: int, verdict: "Verdict") -> None:
        """Show what the tests said of the newest complete window of version `number`, and nothing of earlier ones."""
        whose = self.worker, model, str(number)
        features = {change.feature for change in verdict.changes}
        self._hide_features(whose, self._drift_features.get(whose, set()) - features)
        self._drift_features[whose] = features
        self.drift.labels(*whose).set(verdict.drifted)
        self.drift_window.labels(*whose).set(verdict.window)
        for change in verdict.changes:
            self.drift_effect.labels(*whose, change.feature).set(change.effect)
            self.drift_detected.labels(*whose, change.feature).set(change.drifted)

    def hide_drift(self, model: str, number: int) -> None:
        """Show nothing of version `number` any more: it does not answer."""
        whose = self.worker, model, str(number)
        if (features := self._drift_features.pop(whose, None)) is not None:
            self._hide_features(whose, features)
            self.drift.remove(*whose)
            self.drift_window.remove(*whose)

    def _hide_features(self, whose: tuple[str, str, str], features: set[str]) -> None:
        for feature in features:
            self.drift_effect.remove(*whose, feature)
            self.drift_detected.remove(*whose, feature)

    def text(self) -> bytes:
        """The page for Prometheus."""
        return generate_latest(self.registry)
