"""Modules for users: layers, networks and composites, encoders, optimisers, long sequences, explanations."""
