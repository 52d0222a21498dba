/* Of MicroPython's module `machine` this port has mem8, mem16 and mem32 only; extmod/modmachine.c
 * includes this file and asks for one function. */
static void mp_machine_idle(void) {}
