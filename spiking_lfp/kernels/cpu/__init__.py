"""Kernels for CPU, compiled by numba."""
