"""From the settings of retention to what lanes take, and what makes no sense there.

Whatever is measured over a time must be over before its user is forgotten: else an order would
leave the window, or an outcome stay unknown, because nobody remembers whose it was.
"""

from __future__ import annotations

from collections.abc import Iterator

from dataflows.durations import duration_text
from dataflows.sections.profiles import CountFeature
from dataflows.settings import Settings, SettingsError


def retention_ms(settings: Settings) -> int:
    """How long after the last event a user is remembered; 0 for ever.

    Raises:
        SettingsError: something takes longer than that.
    """
    after_ms = settings.retention.after
    if after_ms is None:
        return 0
    longest_ms, path = max(_spans(settings))
    if after_ms <= longest_ms:
        raise SettingsError(
            f"retention.after: must be longer than {path} ({duration_text(longest_ms)}), which "
            f"needs its user for so long, but {duration_text(after_ms)} came; make it longer, or "
            'that one shorter, or "never" to forget nobody'
        )
    return after_ms


def _spans(settings: Settings) -> Iterator[tuple[int, str]]:
    """Everything that is measured over a time, with its path."""
    yield settings.events.max_ahead + settings.dedup.window, "dedup.window + events.max_ahead"
    yield settings.lane.lateness, "lane.lateness"
    yield settings.rfm.window, "rfm.window"
    yield settings.orders.keep or 0, "orders.keep"
    yield settings.session.gap, "session.gap"
    yield settings.session.return_gap, "session.return_gap"
    yield settings.cart.ttl, "cart.ttl"
    for name, feature in settings.features.items():
        if isinstance(feature, CountFeature):
            yield feature.window, f"features.{name}.window"
    for name, segment in settings.segments.items():
        yield segment.min_dwell, f"segments.{name}.min_dwell"
        yield segment.cooldown, f"segments.{name}.cooldown"
    for name, offer in settings.offers.items():
        if offer.enabled:
            yield offer.lasts, f"offers.{name}.for"
            yield offer.cap_window or 0, f"offers.{name}.cap_window"
            yield offer.cooldown, f"offers.{name}.cooldown"
    if settings.models.enabled:
        yield settings.models.every, "models.every"
        for name, task in settings.models.tasks.items():
            yield task.horizon if task.enabled else 0, f"models.tasks.{name}.horizon"
        if settings.models.value.enabled:
            yield settings.models.value.horizon, "models.value.horizon"
    if settings.recommend.enabled:
        yield settings.recommend.not_again, "recommend.not_again"
        yield settings.recommend.gap, "recommend.gap"
        yield settings.recommend.validity, "recommend.validity"
    for name, experiment in settings.experiments.items():
        yield experiment.window, f"experiments.{name}.window"
