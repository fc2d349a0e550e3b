"""What all tests share: pytest's own ``pytester`` fixture, for the tests of the plugin."""

from __future__ import annotations

pytest_plugins = ["pytester"]
