"""Every refusal is a problem document that says what to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from dataflows.embedded import EmbeddedStore
from serving.api.auth import Tokens
from serving.api.parts import NotExplained
from serving.api.terms import Terms
from tests.cli.running import ROOT
from tests.serving.api.conftest import Filled
from tests.serving.api.serving import Answer, application, ask

pytestmark = pytest.mark.servers

READ, BULK, ADMIN = "r" * 16, "b" * 16, "a" * 16
TOKENS = Tokens({READ: "read", BULK: "bulk", ADMIN: "admin"})


def problem(answer: Answer, status: int, kind: str) -> dict[str, Any]:
    """The document of a problem that is whole."""
    assert answer.status == status, answer.body
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json
    assert set(document) == {"type", "title", "status", "detail", "fix"}
    assert (document["status"], document["type"]) == (status, f"urn:afterglow:problem:{kind}")
    assert all(document.values())
    found: dict[str, Any] = document
    return found


@pytest.mark.parametrize(
    "path",
    ["/v1/profiles/ann", "/v1/candidates/ann", "/v1/segments", "/v1/segments/vip/members",
     "/v1/explanations?user_id=ann&kind=segment&name=vip", "/v1/changes"],
)  # fmt: skip
def test_without_a_token_nobody_passes(filled: Filled, path: str) -> None:
    for held in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {READ}"}):
        got = ask(application(filled.url, tokens=TOKENS), path, headers=held)
        problem(got, 401, "unauthorized")
        assert got.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    ("token", "statuses"), [(READ, (404, 200, 403, 403)), (BULK, (404, 200, 200, 503)),
                            (ADMIN, (404, 200, 200, 503))]
)  # fmt: skip
def test_a_role_may_what_it_may(filled: Filled, token: str, statuses: tuple[int, ...]) -> None:
    paths = ("/v1/profiles/nobody", "/v1/segments", "/v1/segments/vip/members", "/v1/changes")
    for path, status in zip(paths, statuses, strict=True):
        got = ask(
            application(filled.url, tokens=TOKENS),
            path,
            headers={"Authorization": f"bearer {token}"},
        )
        assert got.status == status
        if status == 403:
            assert "bulk" in problem(got, 403, "forbidden")["fix"]


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics", "/openapi.json"])
def test_operations_need_no_token(filled: Filled, path: str) -> None:
    assert ask(application(filled.url, tokens=TOKENS), path).status == 200


def test_nobody_of_this_name(filled: Filled) -> None:
    for kind in ("profiles", "candidates"):
        told = problem(ask(application(filled.url), f"/v1/{kind}/nobody"), 404, "unknown-user")
        assert "'nobody'" in told["detail"]


def test_no_such_segment(filled: Filled) -> None:
    got = ask(application(filled.url), "/v1/segments/vipp/members")
    assert "vip" in problem(got, 404, "unknown-segment")["detail"]


@pytest.mark.parametrize("user", ["a%00b", "%0a", "x" * 129, "%C2%85"])
def test_an_id_that_cannot_be(filled: Filled, user: str) -> None:
    problem(ask(application(filled.url), f"/v1/profiles/{user}"), 422, "wrong-input")
    problem(ask(application(filled.url), f"/v1/candidates/{user}"), 422, "wrong-input")


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'{"user_ids": "ann"}', b'{"user_ids": [1]}', b'{"user_ids": [""]}',
             b'{"user_ids": [], "more": 1}', b'{"user_ids": ["\\ud800"]}', b"\xff",
             b'{"user_ids": ["\xff"]}', b"[" * 100_000, b'{"user_ids": ' + b"[" * 100_000]
)  # fmt: skip
def test_a_body_that_means_nothing(filled: Filled, body: bytes) -> None:
    problem(ask(application(filled.url), "/v1/profiles", "POST", body=body), 422, "wrong-input")


def test_too_many_and_too_much(filled: Filled) -> None:
    app = application(filled.url, terms=Terms(batch=3, max_body_bytes=100))
    body = json.dumps({"user_ids": list("abcd")}).encode()
    told = problem(ask(app, "/v1/profiles", "POST", body=body), 413, "too-many")
    assert "3 are taken (serve.batch)" in told["detail"]
    app = application(filled.url, terms=Terms(batch=3, max_body_bytes=100))
    problem(ask(app, "/v1/profiles", "POST", body=b" " * 101), 413, "too-large")


def test_no_such_path_or_method(filled: Filled) -> None:
    problem(ask(application(filled.url), "/v1/nothing"), 404, "no-such-path")
    got = ask(application(filled.url), "/v1/segments", "DELETE")
    problem(got, 405, "no-such-method")
    assert got.headers["allow"] == "GET"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "user_id=ann&kind=nix&name=x",
        "user_id=ann&kind=segment",
        "kind=segment&name=vip",
        "user_id=a%00b&kind=segment&name=vip",
    ],
)
def test_a_question_that_means_nothing(filled: Filled, query: str) -> None:
    problem(ask(application(filled.url), f"/v1/explanations?{query}"), 422, "wrong-input")


def test_nothing_to_explain(filled: Filled) -> None:
    async def explain(user: str, name: str) -> str:
        raise NotExplained(f"{user} {name}")

    app = application(filled.url, explain=explain)
    got = ask(app, "/v1/explanations?user_id=ann&kind=offer&name=hat")
    assert problem(got, 404, "not-explained")["detail"] == "ann offers.hat"
    problem(
        ask(application(filled.url), "/v1/explanations?user_id=ann&kind=segment&name=vip"),
        503,
        "no-explanations",
    )


def test_a_store_that_is_away() -> None:
    with EmbeddedStore() as server:
        url = server.url
    for path in (
        "/v1/profiles/ann",
        "/v1/candidates/ann",
        "/v1/segments",
        "/v1/segments/a/members",
    ):
        got = ask(application(url), path)
        told = problem(got, 503, "store-away")
        assert got.headers["retry-after"] == "1"
        assert "no usable answer" in told["detail"]
    got = ask(application(url), "/ready")
    assert (got.status, got.json["status"]) == (503, "not ready")
    assert got.json["why"][0].startswith("store: ")
    assert ask(application(url), "/health").status == 200


def test_a_store_without_afterglow_data(store_url: str) -> None:
    got = ask(application(store_url), "/v1/profiles/ann")
    assert "there is no 'ag:meta'" in problem(got, 503, "store-unreadable")["detail"]
    assert "no 'ag:meta'" in ask(application(store_url), "/ready").json["why"][0]


def test_a_store_that_refuses(filled: Filled) -> None:
    got = ask(application(filled.url.replace("//", "//nobody:wrong@")), "/v1/profiles/ann")
    problem(got, 503, "store-refuses")


def test_more_than_it_takes(filled: Filled) -> None:
    app = application(filled.url, terms=Terms(concurrency=0))
    got = ask(app, "/v1/segments")
    problem(got, 503, "busy")
    assert got.headers["retry-after"] == "1"
    assert ask(application(filled.url, terms=Terms(concurrency=0)), "/health").status == 200


def test_a_fault_of_its_own_tells_nothing_of_itself(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("secret")

    app = application(filled.url)
    monkeypatch.setattr(type(app.parts.reader), "sizes", broken)
    got = ask(app, "/v1/segments")
    assert "secret" not in str(problem(got, 500, "fault"))


def test_requests_are_counted(filled: Filled) -> None:
    app = application(filled.url)
    assert ask(app, "/v1/profiles/nobody").status == 404
    assert ask(app, "/v1/segments").status == 200
    page = app.parts.metrics.page().decode()
    counted = 'afterglow_http_requests_total{route="/v1/profiles/{user_id}",status="404"} 1.0'
    assert counted in page
    assert 'afterglow_http_seconds_count{route="/v1/segments"} 1.0' in page


def test_every_metric_is_documented(filled: Filled) -> None:
    app = application(filled.url)
    app.parts.metrics.cut.labels("slow")
    ask(app, "/v1/segments")
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    told = {line.split("`")[1] for line in text.splitlines() if line.startswith("| `afterglow_")}
    page = app.parts.metrics.page().decode().splitlines()
    shown = {line.split()[2] for line in page if line.startswith("# TYPE ")}
    assert told == {name for name in shown if not name.endswith("_created")}


def test_every_kind_of_problem_is_documented() -> None:
    text = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    for file in (ROOT / "serving" / "api").glob("*.py"):
        for kind in re.findall(
            r'Problem\(\s*\d{3},\s*"([a-z-]+)"', file.read_text(encoding="utf-8")
        ):
            assert f"`{kind}`" in text or kind == "fault", kind
