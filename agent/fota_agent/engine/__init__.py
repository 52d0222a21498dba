"""Pure: what the agent makes of what it hears, and what it wants done. Knows no board and no network."""
