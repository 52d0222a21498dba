"""The wires between chip and element: the bus, who listens and changes on it, and what was said."""
