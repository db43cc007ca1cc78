"""What ``afterglow recommend`` prints."""

from cli.recommend import _print


def test_ids_are_printed_as_they_are_and_are_no_markup(capsys):
    items = [
        {"item_id": "[/red]", "score": 1.5, "source": "reminders", "because": "[/red]"},
        {"item_id": "[bold]b", "score": 0.5, "source": "covisits", "because": "[/red]"},
        {"item_id": "商品", "score": 0.1, "source": "popular", "because": None},
    ]
    _print({"user_id": "[u]", "as_of": 0, "valid_to": 1_000, "items": items})
    said = capsys.readouterr().out
    for text in ("[u], as of 1970-01-01", "outlived", "[/red]", "[bold]b", "商品", "popular"):
        assert text in said
    assert "seen together with [/red]" in said
