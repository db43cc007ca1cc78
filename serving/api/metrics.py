"""What the server shows of itself, for Prometheus."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_BUCKETS_S: Final = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.015, 0.025, 0.05, 0.1, 0.25, 1.0)


class HttpMetrics:
    """All metrics of one server, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        self._requests = Counter(
            "afterglow_http_requests", "Requests answered.", ["route", "status"], registry=r
        )
        self._seconds = Histogram(
            "afterglow_http_seconds",
            "From a request's arrival to its whole answer; of streams, to its beginning.",
            ["route"],
            buckets=_BUCKETS_S,
            registry=r,
        )
        self._found: dict[tuple[str, int], tuple[Counter, Histogram]] = {}
        self.followers = Gauge(
            "afterglow_http_followers", "Clients that follow the changes.", registry=r
        )
        self.cut = Counter(
            "afterglow_http_followers_cut", "Followers cut off.", ["reason"], registry=r
        )

    def observe(self, route: str, status: int, seconds: float) -> None:
        """Count a request."""
        found = self._found.get((route, status))
        if found is None:
            found = self._requests.labels(route, str(status)), self._seconds.labels(route)
            self._found[route, status] = found
        found[0].inc()
        found[1].observe(seconds)

    def page(self) -> bytes:
        """All of it, as Prometheus reads it."""
        return generate_latest(self.registry)
