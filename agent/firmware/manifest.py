"""What is frozen: all that shrink.py has left. Run by MicroPython's makemanifest.py."""

# 3: no assertions, no line numbers
freeze("$(FOTA_PYTHON)", opt=3)  # noqa: F821
