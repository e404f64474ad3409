"""Recordings of event sensors: reading them, converting them to sequences of frames, simulating them from images."""
