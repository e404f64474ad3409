"""The experiments of the mDFA paper, and one on mono readouts of spikes."""
