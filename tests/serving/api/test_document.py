"""Requests made up from the OpenAPI document: none makes the server fail, all answers are as said.

The store is a real one that a real replay has filled.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from starlette.types import Receive, Scope, Send

from dataflows.explaining_items import explain_item
from serving.api.auth import Tokens
from serving.api.feed import Feed
from serving.api.follower import Follower, Wanted
from serving.api.parts import NotExplained
from tests.serving.api.conftest import Filled
from tests.serving.api.serving import application

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import schemathesis
    from schemathesis.specs.openapi.checks import negative_data_rejection

pytestmark = [pytest.mark.servers, pytest.mark.slow]

TOKEN: Final = "t" * 32
EXAMPLES: Final = 30
KNOWN: Final = "u000001"


async def explain(user: str, name: str) -> str:
    """As far as the document goes."""
    if user == KNOWN:
        return f"{user} is in {name}"
    raise NotExplained(f"nothing is known of {user!r}")


class Ending(Feed):
    """A feed that ends every stream after its beginning, so that it can be looked at."""

    def follow(self, wanted: Wanted, places: Mapping[int, int] | None = None) -> Follower:
        follower = super().follow(wanted, places)
        follower.end("closing")
        return follower


@pytest.fixture(scope="module")
def schema(filled: Filled) -> Any:
    feed = Ending(history=100, waiting=100)
    feed.begin({0: 5, 1: 0})
    app = application(
        filled.url,
        tokens=Tokens({TOKEN: "admin"}),
        explain=explain,
        explain_item=explain_item,
        feed=feed,
    )

    async def each_in_a_loop_of_its_own(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        finally:
            await app.parts.reader.close()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return schemathesis.openapi.from_asgi("/openapi.json", each_in_a_loop_of_its_own)


OPERATIONS: Final = [
    *(("GET", f"/v1/{path}") for path in ("profiles/{user_id}", "candidates/{user_id}")),
    *(("GET", f"/v1/{path}") for path in ("segments", "segments/{segment}/members")),
    *(("GET", f"/v1/{path}") for path in ("explanations", "changes")),
    *(("GET", path) for path in ("/health", "/ready", "/metrics")),
    ("POST", "/v1/profiles"),
]


def test_every_operation_is_tried(schema: Any) -> None:
    found = {(op.ok().method.upper(), op.ok().path) for op in schema.get_all_operations()}
    assert found == set(OPERATIONS)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
@pytest.mark.parametrize("mode", ["positive", "negative"])
def test_no_request_makes_it_fail(schema: Any, method: str, path: str, mode: str) -> None:
    """All of schemathesis' checks: status, media type, headers and body are as documented."""
    generated = schemathesis.GenerationMode(mode)
    operation = schema[path][method]
    tried: Counter[int] = Counter()
    # parameters that nobody knows are passed over, and the token is always sent
    left_out = [negative_data_rejection] if mode == "negative" else []

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=generated))
    def run(case: Any) -> None:
        answer = case.call(headers={"Authorization": f"Bearer {TOKEN}"})
        tried[answer.status_code] += 1
        assert answer.status_code < 500
        case.validate_response(answer, excluded_checks=left_out)

    try:
        run()
    except Unsatisfiable:  # nothing can be wrong there
        assert mode == "negative"
    assert tried or mode == "negative"
