"""What a part of the benchmark says where this machine lacks something."""


class Missing(Exception):
    """The figure cannot be had here: the text says what is missing, and how to get it."""
