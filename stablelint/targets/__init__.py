"""Targets: what the user typed, the models that it means, their inputs, and the process that they run in."""
