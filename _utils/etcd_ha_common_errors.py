"""The one error of the logic that Salt shows as a sentence, without a traceback."""

from salt.exceptions import CommandExecutionError


class Failed(CommandExecutionError):  # type: ignore[misc]  # Salt has no types
    """Something failed, or cannot be known. The text gives the cause, and the cure where it can."""
