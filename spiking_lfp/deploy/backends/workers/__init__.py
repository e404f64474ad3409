"""Scripts that run in the environments of other simulators; they import NumPy and that simulator, not this package."""
