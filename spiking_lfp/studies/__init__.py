"""Many trainings at once: searches, comparisons with surrogate gradients, and the experiments of the papers."""
