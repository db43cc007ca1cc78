"""Definitions in force, written to a file that ``apply`` takes back; and the page's way."""

import re
import shlex
import tomllib

import pytest

from tests.cli.running import ROOT, afterglow, right, wrong

pytestmark = pytest.mark.servers
PAGE = (ROOT / "docs" / "segments.md").read_text("utf-8")
EVERYTHING = """
[segments.keen]
enter = 'session.device == "mobïle" and intent >= 8'
exit = "intent < 4"
min_dwell = "1m30s"
cooldown = "1d12h250ms"
max_flips = 3
version = 7
guard = { share = 0.25, within = "10m", least = 5 }

[segments.able]
enter = "lifetime.orders > 0"

[families.rfm]
guard = { share = 0.5, within = "1h" }

[families.rfm.labels]
loyal_customers = "rfm.r >= 3 and rfm.f >= 4"
champions = "rfm.r >= 1"
"""


@pytest.fixture
def env(begun_url):
    return {"REDIS_URL": begun_url}


def parts(text):
    """The tables of a file, with their order."""
    return {kind: list(tables.items()) for kind, tables in tomllib.loads(text).items() if tables}


def test_what_is_exported_is_applied_unchanged(env, tmp_path):
    file = tmp_path / "segments.toml"
    said = right("segments", "export", file, env=env)
    assert said.startswith(f"5 segments and 1 families written to {file}; ")
    assert right("segments", "apply", file, env=env) == "nothing differs from revision 1\n"
    assert next(iter(tomllib.loads(file.read_text())["segments"])) == "vip"


def test_every_key_survives(env, tmp_path):
    every = "[segments.cart_abandoned]\nenter = 'cart.items > 0'\n" + EVERYTHING
    (file := tmp_path / "mine.toml").write_text(every)
    right("segments", "apply", file, env=env)
    text = right("segments", "export", env=env)
    (file := tmp_path / "theirs.toml").write_text(text)
    assert right("segments", "apply", file, env=env) == "nothing differs from revision 2\n"
    found = parts(text)
    keen = dict(found["segments"])["keen"]
    assert keen == tomllib.loads(EVERYTHING)["segments"]["keen"]
    assert [name for name, _ in found["segments"]] == ["cart_abandoned", "keen", "able"]
    assert list(dict(found["families"])["rfm"]["labels"]) == ["loyal_customers", "champions"]
    assert text.startswith("# All segments and families of revision 2, ")


def test_a_file_that_cannot_be_written_is_said(env, tmp_path):
    (line,) = wrong("segments", "export", tmp_path / "none" / "file", env=env)
    assert line.startswith("afterglow: FILE must be a file that can be written")


def test_the_way_of_the_page_works_from_start_to_end(env, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    section = PAGE.partition("\n## Changing definitions\n")[2].partition("\n### ")[0]
    first, then = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    for line in first.splitlines():
        right(*shlex.split(line, comments=True)[1:], env=env)
    file = tmp_path / "segments.toml"
    edited = file.read_text().replace("age(last_order) >= 45d", "age(last_order) >= 60d")
    file.write_text(edited + '\n[segments.mine]\nenter = "lifetime.orders >= 4"\n')
    out = {}
    for line in then.splitlines():
        _, _, command, *rest = shlex.split(line, comments=True)
        done = afterglow("segments", command, *rest, env=env)
        assert done.code == 0, (line, done.err)
        out[command] = done.out
    assert "60d" in out["diff"]
    assert "mine: added: lifetime.orders >= 4" in out["apply"]
    assert "vip from 4 orders on" in out["history"]
    assert "mine" in out["list"]


def test_a_file_without_what_an_offer_asks_for_is_refused_as_the_page_says(env, tmp_path):
    file = tmp_path / "few.toml"
    file.write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    (line, *_) = wrong("segments", "preview", file, env=env)
    assert "offers.vip_discount.when" in line
    (line,) = wrong("segments", "apply", file, env=env)
    assert f"afterglow: {file}: must hold all segments and families" in line
    assert "leaves out the family 'rfm' (asked for by offers.vip_discount.when), in force" in line
    assert line.endswith("`afterglow segments export FILE`")
    file.write_text('[segments.keen]\nenter = "intent > 4"')
    (line,) = wrong("segments", "apply", file, env=env)
    assert "the segment 'cart_abandoned' (asked for by offers.vip_discount.when) and the" in line


def test_a_label_that_is_asked_for_is_missed_by_itself(env, tmp_path):
    file = tmp_path / "mine.toml"
    right("segments", "export", file, env=env)
    kept = [line for line in file.read_text().splitlines() if not line.startswith("champions")]
    file.write_text("\n".join([*kept, "[segments.best]", "enter = \"member('champions')\""]))
    (line,) = wrong("segments", "apply", file, env=env)
    askers = "segments.best.enter, offers.vip_discount.when"
    assert f"leaves out the label 'champions' of the family 'rfm' (asked for by {askers})" in line


def test_what_was_never_there_is_not_left_out(env, tmp_path):
    file = tmp_path / "mine.toml"
    right("segments", "export", file, env=env)
    file.write_text(file.read_text() + "[segments.best]\nenter = \"member('vop')\"")
    (line, *_) = wrong("segments", "preview", file, env=env)
    assert "segment 'best', enter: there is no segment 'vop'; did you mean 'vip'" in line


def test_a_misspelt_key_is_told_with_its_path_and_what_was_meant(env, tmp_path):
    (file := tmp_path / "mine.toml").write_text(
        "[segments.keen]\nentr = 'intent > 4'\n[families.size.labels]\nbig = 3"
    )
    lines = wrong("segments", "apply", file, env=env)
    where = f"settings: {file}: segments.keen"
    assert f"{where}.entr: there is no such setting; did you mean 'enter'?" in lines
    assert f"{where}.enter: is needed, but is not there" in lines
    file.write_text("[families.size]\nlabel = {}\n[families.size.labels]\nbig = 3")
    lines = wrong("segments", "diff", file, env=env)
    where = f"settings: {file}: families.size"
    assert f"{where}.label: there is no such setting; did you mean 'labels'?" in lines
    assert any(line.startswith(f"{where}.labels.big: ") for line in lines)
