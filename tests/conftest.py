"""What all tests share."""

import signal

from hypothesis import HealthCheck, settings

# A shell that starts a job in the background has it ignore SIGINT, and programs started by it ignore it too: Ctrl-C in
# a test would reach nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)

# An example that takes long says something about the machine, not about what is tested: hypothesis would fail a test
# after 200 ms, and complain of slow inputs, whenever something else keeps the cores busy.
settings.register_profile("any-machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any-machine")
