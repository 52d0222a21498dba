"""The update agent and SDK on the device: ``from fota_agent import board, Agent``.

Light: what it takes is imported when an ``Agent`` is made.
"""

from fota_agent.hooks import Hooks as Hooks

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fota_agent.agent import Agent as Agent
else:

    def Agent(*args, **kwargs):  # noqa: ANN002, ANN003, ANN201  typed above; a class to its callers
        """Make a :class:`fota_agent.agent.Agent`."""
        from fota_agent.agent import Agent as made

        return made(*args, **kwargs)
