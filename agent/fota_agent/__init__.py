"""The update agent and SDK on the device."""
