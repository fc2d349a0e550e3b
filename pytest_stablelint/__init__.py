"""The pytest plugin of stablelint: a fixture, a marker and signals for pytest-benchmark."""
