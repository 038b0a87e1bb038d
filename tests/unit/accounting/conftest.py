"""What the tests of the accounting share: empty databases on real servers."""

from tests.databases import database_url, server, servers

__all__ = ["database_url", "server", "servers"]
