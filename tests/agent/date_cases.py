"""DESIGN 6 on certificates and clocks, as a table for every TLS that the agent runs over.

The CA's own certificate ends with 2035. CASES: (name, the server's certificate begins, ends, the device's
clock, a time that it knows has passed, what it says: None = it connects). Times in s since 1970; the clock
NOW is that of the machine that runs the test.
"""

import datetime
import time


def at(year, month=1):
    return int(datetime.datetime(year, month, 1, tzinfo=datetime.UTC).timestamp())


NOW, NEVER_SET = int(time.time()), 0
ENDED, EARLY = "expired", "(not yet valid|not valid yet)"
RIGHT = r" \(is this device's clock right\?\)"

CASES = [
    ("set-and-valid", at(2026), at(2100), NOW, 0, None),
    ("set-and-ended", at(2025), at(2026), NOW, 0, ENDED + RIGHT),
    ("set-and-not-begun", at(2200), at(2201), NOW, 0, EARLY + RIGHT),
    ("never-set-and-begun-after-this-release", at(2090), at(2100), NEVER_SET, 0, None),
    ("never-set-and-ended-before-this-release", at(2025), at(2026), NEVER_SET, 0, ENDED),
    ("never-set-and-ended-before-what-was-told", at(2026), at(2028), NEVER_SET, at(2029), ENDED),
    ("never-set-and-good-after-what-was-told", at(2026), at(2030), NEVER_SET, at(2029), None),
    ("set-back-and-ended-before-what-was-told", at(2026), at(2030), at(2026, 2), at(2031), ENDED),
    ("set-back-and-begun-after-what-was-told", at(2032), at(2039), at(2026, 2), at(2031), None),
    ("never-set-and-the-ca-ended-before-what-was-told", at(2026), at(2090), NEVER_SET, at(2037), ENDED),
]
IDS = [case[0] for case in CASES]
