"""Does what the engine wants, a step at a time: asks the server, fetches, writes, hears the application."""
