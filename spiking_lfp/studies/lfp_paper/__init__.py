"""The experiments of the LFP paper."""
