"""The table of chips: a module is a row. `fota_wire.host_chips` says what a row has, and finds it by name.

What is the same for all chips (slots by number, record formats) is in `fota_wire.layout`. A firmware imports
the row of its own chip and no other.
"""
