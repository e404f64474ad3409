"""The experiments of the mDFA paper, and mono-nets on spikes."""
