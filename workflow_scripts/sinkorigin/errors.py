"""The one exception type for everything that a user can cause and mend."""


class SinkoriginError(Exception):
    """A mistake or a lack outside the program.

    The message is one sentence for the user: what is wrong, where (file, key, model, value), and what to do.
    Scripts print it without a traceback and exit with status 1.
    """


class DivergedError(SinkoriginError):
    """A training whose loss is no number any more: a sweep of learning rates records it and goes on."""
