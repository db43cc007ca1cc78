"""The decisions: each is in the index, with its own title and status."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[1] / "docs/decisions"
RECORDS = sorted(path for path in FOLDER.glob("*.md") if path.name != "README.md")
ROW = re.compile(r"^\| \[(\d+)\]\(([^)]+)\) \| (.+) \| (.+) \|$", re.MULTILINE)


def test_the_index_lists_every_decision_once():
    listed = [name for _, name, _, _ in ROW.findall((FOLDER / "README.md").read_text())]
    assert listed == [path.name for path in RECORDS]


@pytest.mark.parametrize("path", RECORDS, ids=lambda path: path.stem)
def test_a_decision_says_what_the_index_says_of_it(path):
    rows = {
        name: rest for *rest, name in map(_row, ROW.findall((FOLDER / "README.md").read_text()))
    }
    number, title, status = rows[path.name]
    text = path.read_text()
    assert int(path.name[:4]) == int(number)
    assert text.startswith(f"# {number}. {title}\n")
    assert f"\nStatus: {status}" in text


def _row(found):
    number, name, title, status = found
    return number, title, status, name
