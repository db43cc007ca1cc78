"""The file of addresses: what is not a demo's stays, and so does that of a demo which runs."""

import pytest

from cli import demo_addresses
from cli.common import UserError
from dataflows.embedded import EmbeddedStore


def test_what_no_demo_has_written_stays(tmp_path):
    file = tmp_path / ".env"
    for text in ("SECRET=1\n", "", "export REDIS_URL=redis://127.0.0.1:1/0\nSECRET=1\n"):
        file.write_text(text)
        with pytest.raises(UserError, match="holds something else, which would be lost"):
            demo_addresses.cleared(file)
        assert file.read_text() == text


@pytest.mark.servers
def test_the_file_of_a_demo_that_runs_stays_and_that_of_another_goes(tmp_path):
    file = tmp_path / "demo.env"
    with EmbeddedStore() as store:
        told = demo_addresses.lines({"KAFKA_BOOTSTRAP": "127.0.0.1:1", "REDIS_URL": store.url})
        file.write_text(told)
        with pytest.raises(UserError, match="still answer"):
            demo_addresses.cleared(file)
        assert file.read_text() == told
    assert demo_addresses.cleared(file) == file
    assert not file.exists()
    assert demo_addresses.cleared(file) == file
