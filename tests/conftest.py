"""What all tests share."""

import signal

# A shell that starts a job in the background has it ignore SIGINT, and programs started by it ignore it too: Ctrl-C in
# a test would reach nobody.
signal.signal(signal.SIGINT, signal.default_int_handler)
