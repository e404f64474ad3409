"""Recordings of event sensors: reading them, turning them into sequences of frames, making them from images."""
