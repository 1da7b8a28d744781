"""Workers that let go of a bell a moment after it came: `celery -A tests.system.impatient`."""

from worker import messages

messages.HOLD_SECONDS = 0.5

from worker.app import app  # noqa: E402, F401  # what it is imported for
