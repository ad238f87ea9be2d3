"""Dramatiq with results in Redis, which it waits for without polling; otherwise as it comes."""

import dramatiq
from dramatiq.brokers.redis import RedisBroker
from dramatiq.results import Results
from dramatiq.results.backends import RedisBackend

import shout

broker = RedisBroker(url=shout.URL)
broker.add_middleware(Results(backend=RedisBackend(url=shout.URL), result_ttl=600_000))
dramatiq.set_broker(broker)


@dramatiq.actor(store_results=True)
def upper(text):
    return text.upper()
