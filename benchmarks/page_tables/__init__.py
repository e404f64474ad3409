"""Tables of the documentation, by what they are about."""
