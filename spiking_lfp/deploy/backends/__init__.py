"""Backends, which run networks outside this package: C, Verilog, and external simulators."""
