"""The Cortex-M core: instructions, exceptions, system control space, MPU."""
