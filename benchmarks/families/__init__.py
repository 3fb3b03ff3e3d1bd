"""Simulated series of many kinds: `training` to choose settings on, `disjoint` to test them on."""
