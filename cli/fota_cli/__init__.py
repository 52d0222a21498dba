"""The fota command: a root that finds each package's commands lazily, and the operator's commands."""
