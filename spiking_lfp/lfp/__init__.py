"""How a reward travels: synapses, how feedback crosses them, autograd as its tape, and the rewards themselves."""
