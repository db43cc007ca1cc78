"""``afterglow serve``: the HTTP API, until a signal ends it."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path
from typing import Any

from afterglow_client import AsyncReader, Unavailable
from cli.common import UserError, need_redis
from dataflows import plans
from dataflows.engine import settle_memory
from dataflows.explainer import Explainer
from dataflows.explaining import UnknownError
from dataflows.explaining_items import explain_item
from dataflows.sections.engine import ServeSettings
from dataflows.settings import Settings
from serving.api.app import build
from serving.api.auth import TokenError, Tokens, parse_tokens
from serving.api.feed import Feed
from serving.api.parts import NotExplained, Parts
from serving.api.server import serve
from serving.api.tail import Tail
from serving.api.terms import Terms
from state.store_errors import StoreError


def run_server(settings: Settings) -> int:
    """Serve until SIGTERM or SIGINT; the exit code."""
    need_redis(settings)
    host, port = parse_address(settings.serve.address)
    tokens = read_tokens(settings.serve)
    if not tokens and not _is_loopback(host):
        raise UserError(
            f"serve.address {settings.serve.address} can be reached from other machines, so tokens "
            "are needed, but there are none: set AFTERGLOW_TOKENS=read:<token>,admin:<token> or "
            "serve.tokens_file; make one with `openssl rand -hex 32`"
        )
    parts, tail, explainer = make_parts(settings, Tokens(tokens))

    def stop() -> None:
        if tail is not None:
            tail.stop()
        explainer.close()

    app = build(parts, tail.start if tail is not None else lambda _feed: None, stop)
    open_to = f"{len(tokens)} tokens" if tokens else "no tokens, so everybody on this machine may"
    said = f"afterglow: http://{settings.serve.address}/docs, {open_to}"
    settle_memory()
    try:
        serve(app, host, port, lambda _: print(said, file=sys.stderr, flush=True))
    except OSError as error:
        raise UserError(
            f"{settings.serve.address} cannot be served: {error.strerror or error}. Set "
            "serve.address to a free host:port"
        ) from error
    return 0


def make_parts(settings: Settings, tokens: Tokens) -> tuple[Parts, Tail | None, Explainer]:
    """What the server stands on."""
    chosen, redis = settings.serve, settings.redis
    explainer, terms = Explainer(settings), _terms(chosen)
    tail = feed = None
    if settings.kafka.bootstrap:
        plans.check_kafka(settings)
        tail = Tail(plans.kafka_config(settings), settings.kafka.changes)
        feed = Feed(terms.history, terms.waiting, tail)

    async def explain(user: str, name: str) -> str:
        try:
            return await explainer.explain(user, name)
        except UnknownError as error:
            raise NotExplained(str(error)) from error
        except (StoreError, TimeoutError) as error:
            raise Unavailable(str(error) or "explanations take too long") from error

    reader = AsyncReader(
        redis.url.get_secret_value(), prefix=redis.prefix, timeout_s=chosen.timeout / 1000
    )
    parts = Parts(reader, tokens, terms, explain, explain_item, feed)
    return parts, tail, explainer


def read_tokens(chosen: ServeSettings) -> dict[str, str]:
    """Roles by token, from the environment and the file."""
    lines = [chosen.tokens.get_secret_value()]
    try:
        if chosen.tokens_file:
            lines += Path(chosen.tokens_file).read_text(encoding="utf-8-sig").splitlines()
        tokens = parse_tokens(lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"serve.tokens_file {chosen.tokens_file}: cannot be read: {error}"
        ) from error
    except TokenError as error:
        raise UserError(f"AFTERGLOW_TOKENS and serve.tokens_file: {error}") from error
    if chosen.tokens_file and not tokens:
        raise UserError(
            f"serve.tokens_file {chosen.tokens_file}: must hold a token, such as "
            "read:A-LONG-SECRET, but holds none; without the setting everybody on this machine "
            "may ask"
        )
    return tokens


def parse_address(address: str) -> tuple[str, int]:
    """Host and port.

    >>> parse_address("[::1]:8080"), parse_address("0.0.0.0:80")
    (('::1', 8080), ('0.0.0.0', 80))
    """
    host, _, port = address.rpartition(":")
    if int(port) > 65535:
        raise UserError(f"serve.address must have a port up to 65535, but {address} came")
    return host.removeprefix("[").removesuffix("]"), int(port)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _terms(chosen: ServeSettings) -> Terms:
    limits: dict[str, Any] = {
        name: getattr(chosen, name)
        for name in ("batch", "concurrency", "followers", "waiting", "history")
    }
    return Terms(
        **limits,
        max_body_bytes=chosen.max_body,
        heartbeat_s=chosen.heartbeat / 1000,
        stalled_s=chosen.stalled / 1000,
        max_age_s=chosen.max_age / 1000,
    )
