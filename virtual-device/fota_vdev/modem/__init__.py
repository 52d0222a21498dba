"""The modem, and the network behind it."""
