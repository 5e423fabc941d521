"""The one error for a state, or a file of one, that cannot be used."""


class StateError(ValueError):
    """A state that does not fit a network, or a file that holds none: one line that names the cure."""

    exit_status = 1
