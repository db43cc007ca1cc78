"""What the engine shows of itself, for Prometheus; counted per batch, never per event."""

from __future__ import annotations

import time
from collections import Counter as Tally
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from wsgiref.simple_server import WSGIServer

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from events.batch import DeadLetter, Span
from state.counters import Counters
from state.experiments import Experiments
from state.totals import arm_totals

_STEP_S = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1.0)
_FRESH_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.06, 0.1, 0.25, 1.0, 5.0, 60.0)
_TOTALS = {
    "events": "Good events applied.",
    "duplicates": "Events whose id had been seen.",
    "unchecked": "Events older than the ids that are kept, applied without a check.",
    "late": "Events whose time the clock had passed.",
    "decided": "Evaluations of users.",
    "committed": "Profiles written.",
    "forgotten": "Users forgotten because they were silent for too long.",
}


class MetricsError(Exception):
    """Metrics cannot be served where they should."""


class Metrics:
    """All metrics of one process, in a registry of their own; docs/metrics.md describes each."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        PlatformCollector(registry=r)
        self._totals = {
            name: Counter(f"afterglow_{name}", text, registry=r) for name, text in _TOTALS.items()
        }
        self._dead = Counter("afterglow_dead_letters", "Dead letters.", ["reason"], registry=r)
        self._changes = Counter("afterglow_changes", "Segment changes.", ["cause"], registry=r)
        self._catalog = Counter(
            "afterglow_catalog_messages",
            "Messages of the catalogue; without reason those that were taken.",
            ["reason"],
            registry=r,
        )
        self._steps = Histogram(
            "afterglow_step_seconds", "Time of one step.", ["step"], buckets=_STEP_S, registry=r
        )
        self._fresh = Histogram(
            "afterglow_event_to_commit_seconds",
            "From the log's timestamp of a batch's last event to its commit.",
            buckets=_FRESH_S,
            registry=r,
        )
        self._told = Histogram(
            "afterglow_event_to_change_seconds",
            "From the log's timestamp of a commit's last event to the acknowledgement of its "
            "changes.",
            buckets=_FRESH_S,
            registry=r,
        )
        self._published = Counter(
            "afterglow_changes_published", "Changes that the broker acknowledged.", registry=r
        )
        self.unpublished = Gauge(
            "afterglow_changes_unpublished", "Changes that wait for the broker.", registry=r
        )
        self.retries = Counter(
            "afterglow_publish_retries", "Times that publishing began again.", registry=r
        )
        self.fence = Gauge(
            "afterglow_fence_epoch",
            "Since when this engine owns its shards, epoch milliseconds.",
            ["worker"],
            registry=r,
        )
        self.build = Info("afterglow_build", "What runs here.", registry=r)
        self.alerts = Counter(
            "afterglow_model_alerts", "Alerts of models, as they stand in the log.", registry=r
        )
        self.lag = Gauge("afterglow_lag", "Messages not yet read.", ["partition"], registry=r)
        self.delay = Gauge(
            "afterglow_watermark_delay_seconds", "Wall clock less the lane's clock.", registry=r
        )
        self.rows = Gauge("afterglow_rows", "Users held.", registry=r)
        self.members = Gauge("afterglow_segment_members", "Members.", ["segment"], registry=r)
        self.stale = Gauge(
            "afterglow_segment_stale_users", "Users not yet under new definitions.", registry=r
        )
        self.revision = Gauge(
            "afterglow_segment_revision", "Revision of the definitions in force.", registry=r
        )
        self._paused = Gauge(
            "afterglow_segment_paused", "1 while it is paused.", ["segment"], registry=r
        )
        self._suppressed = Counter(
            "afterglow_segment_flips_suppressed",
            "Evaluations in which a flip was held back.",
            ["segment", "reason"],
            registry=r,
        )
        self.offers = Gauge(
            "afterglow_offers_standing", "Users that have it.", ["offer"], registry=r
        )
        self._given = Counter("afterglow_offers_given", "Givings.", ["offer"], registry=r)
        self.model = Gauge(
            "afterglow_model", "Quality on matured labels.", ["model", "measure"], registry=r
        )
        self.experiment = Gauge(
            "afterglow_experiment",
            "What the arms came to in this worker's shards; to be summed over workers.",
            ["experiment", "arm", "measure"],
            registry=r,
        )
        self.ruled = Gauge(
            "afterglow_experiment_ruled",
            "Of all shards, as ruled last: weight, stopped, lift, always-valid p, intervals.",
            ["experiment", "arm", "measure"],
            registry=r,
        )
        self.ratio = Gauge(
            "afterglow_experiment_sample_ratio_p",
            "How likely the arms' sizes are if assignment works.",
            ["experiment"],
            registry=r,
        )
        self._seen_catalog: Mapping[str, int] = {}
        self._sizes: Sequence[int] = ()
        self._segments: set[str] = set()
        self._were_paused: set[str] = set()
        self._seen_suppressed: Tally[tuple[str, str]] = Tally()
        self._seen_given: Sequence[int] = ()
        self._seen = Counters()
        self._seen_changes: Tally[str] = Tally()

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Time a step."""
        start = time.perf_counter()
        yield
        self._steps.labels(name).observe(time.perf_counter() - start)

    def count_dead(self, letters: Sequence[DeadLetter]) -> None:
        """Count dead letters by their reason."""
        for reason, count in Tally(letter.reason for letter in letters).items():
            self._dead.labels(reason).inc(count)

    def observe(self, counters: Counters) -> None:
        """Take over what a lane has counted since the last time."""
        for name, total in self._totals.items():
            now = getattr(counters, name)
            total.inc(now - getattr(self._seen, name))
            setattr(self._seen, name, now)
        for cause, count in counters.changes.items():
            self._changes.labels(cause).inc(count - self._seen_changes[cause])
            self._seen_changes[cause] = count

    def observe_catalog(self, counts: Mapping[str, int]) -> None:
        """Take over what a reader of the catalogue has counted since the last time, by reason."""
        for reason, count in counts.items():
            self._catalog.labels(reason).inc(count - self._seen_catalog.get(reason, 0))
        self._seen_catalog = dict(counts)

    def observe_commit(self, age_s: float) -> None:
        """A batch was committed so long after the log's timestamp of its last event."""
        self._fresh.observe(max(age_s, 0.0))

    def observe_published(self, changes: int, ages_s: Iterable[float], waiting: int) -> None:
        """Changes have arrived at the broker.

        Args:
            changes: how many.
            ages_s: for each commit among them, since the log's timestamp of its last event.
            waiting: how many are still to come.
        """
        self._published.inc(changes)
        for age_s in ages_s:
            self._told.observe(max(age_s, 0.0))
        self.unpublished.set(waiting)

    def observe_lag(self, spans: Sequence[Span], ends: dict[int, int]) -> None:
        """How far behind the end of its partitions the source is."""
        for span in spans:
            if span.partition in ends:
                self.lag.labels(span.partition).set(max(ends[span.partition] - span.stop, 0))

    def observe_sizes(self, segments: Sequence[str], sizes: Sequence[int]) -> None:
        """Show how many users each segment holds."""
        if sizes != self._sizes:
            self._sizes = sizes
            for gone in self._segments - set(segments):
                self.members.remove(gone)
            self._segments = set(segments)
            for segment, size in zip(segments, sizes, strict=True):
                self.members.labels(segment).set(size)

    def observe_definitions(self, suppressed: Tally[tuple[str, str]], paused: set[str]) -> None:
        """Take over what was held back since the last time, and what is paused."""
        for (segment, reason), count in suppressed.items():
            seen = self._seen_suppressed[segment, reason]
            if count != seen:
                self._suppressed.labels(segment, reason).inc(count - seen)
                self._seen_suppressed[segment, reason] = count
        if paused != self._were_paused:
            for segment in paused | self._were_paused:
                self._paused.labels(segment).set(segment in paused)
            self._were_paused = set(paused)

    def observe_offers(
        self, offers: Sequence[str], given: Sequence[int], sizes: Sequence[int]
    ) -> None:
        """Take over how often each offer was given, and how many users have it."""
        before = self._seen_given or [0] * len(offers)
        self._seen_given = given
        for offer, now, seen, size in zip(offers, given, before, sizes, strict=True):
            self._given.labels(offer).inc(now - seen)
            self.offers.labels(offer).set(size)

    def observe_model(self, model: str, measures: Mapping[str, float | None]) -> None:
        """Show a model's quality; a measure that is not known yet (None) is left out."""
        for measure, value in measures.items():
            if value is not None:
                self.model.labels(model, measure).set(value)

    def observe_experiments(self, experiments: Experiments) -> None:
        """Show what the arms came to, and what has been ruled about them."""
        for experiment, totals in experiments.totals():
            for arm, found in zip(experiment.names, arm_totals(totals), strict=True):
                for measure, value in asdict(found).items():
                    self.experiment.labels(experiment.name, arm, measure).set(value)
        for experiment, ruling in experiments.ruled():
            self.ratio.labels(experiment.name).set(ruling.sample_ratio_p)
            for arm in experiment.names:
                figures = ruling.figures.get(arm, {}) | {"stopped": float(arm in ruling.stopped)}
                for measure, value in figures.items():
                    self.ruled.labels(experiment.name, arm, measure).set(value)

    def serve(self, address: str) -> WSGIServer:
        """Answer scrapes from a thread.

        Args:
            address: ``host:port``; loopback without a host, any free port for port 0.

        Returns:
            The server; ``shutdown`` and ``server_close`` end it.

        Raises:
            MetricsError: it cannot listen there.
        """
        host, _, port = address.rpartition(":")
        try:
            server, _thread = start_http_server(
                int(port), host.strip("[]") or "127.0.0.1", self.registry
            )
        except (OSError, OverflowError, ValueError) as error:
            raise MetricsError(
                f"metrics cannot be served on {address!r}: {error}. Set metrics.address to a free "
                "host:port, or leave it empty for none"
            ) from error
        return server
