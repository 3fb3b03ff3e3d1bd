"""Scripts that measure mixlin; not installed with it."""
