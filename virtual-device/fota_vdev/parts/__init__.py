"""What any virtual chip is made of, whatever its core: register bus, virtual time, random streams, files."""
