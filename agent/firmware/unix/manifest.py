"""What is frozen into the MicroPython of this machine: the agent as on the chip, and its board of files."""

freeze("$(FOTA_PYTHON)", opt=3)  # noqa: F821
