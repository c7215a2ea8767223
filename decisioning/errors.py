"""The one error that is a person's to mend."""


class UserError(Exception):
    """What is wrong, where, and what to do about it, in words for the person who caused it.

    The command line prints the message alone and exits with 2; nothing is half-done when it is raised.
    """
