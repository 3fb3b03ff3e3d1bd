"""The tests, a package: so no folder here hides an installed package of the same name."""
