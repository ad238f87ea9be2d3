"""Celery as its guide to optimizing asks for short tasks: many prefetched, no events, no gossip, JSON, results in Redis."""

from celery import Celery

import shout

app = Celery("celery_app", broker=shout.URL, backend=shout.URL)
app.conf.update(
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    task_send_sent_event=False,
    task_track_started=False,
    task_serializer="json",
    result_serializer="json",
    accept_content=["json"],
    result_expires=600,
    broker_connection_retry_on_startup=True,
)


@app.task
def upper(text):
    return text.upper()
