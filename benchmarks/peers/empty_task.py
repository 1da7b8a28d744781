"""Celery with a task that does nothing: the floor under any answer that comes by way of Celery.

CELERY_BROKER_URL and CELERY_RESULT_BACKEND are read by Celery itself.
"""

from celery import Celery

celery_app = Celery("empty_task")


@celery_app.task(name="empty_task.nothing")
def nothing() -> None:
    """Ends as soon as it begins."""
