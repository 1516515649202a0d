"""Helpers of the tests: builders of inputs, faults, networks, and oracles."""
