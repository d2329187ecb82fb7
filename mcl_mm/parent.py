"""A command that another one has started ends with it, however that ends."""

import os
import signal

# Set for such a command. The other one holds the end of a pipe, whose other end is its input.
END_WITH_INPUT = 'MCL_MM_END_WITH_INPUT'


def end_with_input() -> None:
    """Ask this process to stop, as a scheduler does, when its input ends."""
    while os.read(0, 1):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
