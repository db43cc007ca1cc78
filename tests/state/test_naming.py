"""Names of memberships by place."""

import msgspec

from state.naming import MOST_LISTED, Naming


def test_lists_of_names_are_right_and_only_so_many_are_kept():
    """There are as many masks as ways to be in some segments and not in others."""
    naming, most = Naming([f"tag_{n}" for n in range(18)], {"size": ["big", "small"]}), 0
    for mask in range(2 * MOST_LISTED):
        assert msgspec.json.decode(naming.listed(mask)) == naming.named(mask)
        most = max(most, len(naming._listed))
    assert most == MOST_LISTED
    raw = naming.listed(5)
    assert naming.listed(5) is raw
