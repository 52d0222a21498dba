"""Formats that travel or lie in flash: SPEC.md in code. Runs unchanged on CPython and MicroPython."""
