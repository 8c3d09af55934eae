from __future__ import annotations

import signal

pytest_plugins = ["pytester"]

# A shell's background jobs ignore Ctrl-C, and so does all that they start: here it is pressed.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
