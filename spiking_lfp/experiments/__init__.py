"""The papers' experiments, each from nothing to numbers, a figure in the paper's form, and what holds of its claims."""
