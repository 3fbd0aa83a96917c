"""A task that does nothing, and who publishes it: `flood N` as fast as it goes, `paced N RATE` so many a second.

Prints one JSON document: {"seconds": .., "cpu_seconds": .., "latencies_ms": [..]}.
"""

import json
import resource
import sys
import time

import redis

from application import app

BACKEND = redis.Redis.from_url(app.conf.result_backend)
LIMIT_SECONDS = 300


@app.task(name="noop")
def noop():
    """Its result is when it began."""
    return time.time()


def wait_for(count):
    """Until so many results are in the backend: counted there, so that nobody fetches them meanwhile."""
    give_up_at = time.monotonic() + LIMIT_SECONDS
    while BACKEND.dbsize() < count:
        if time.monotonic() > give_up_at:
            raise SystemExit(f"{BACKEND.dbsize()} of {count} results after {LIMIT_SECONDS} s")
        time.sleep(0.005)


def warm_up(count):
    BACKEND.flushdb()
    for _ in range(count):
        noop.apply_async()
    wait_for(count)
    BACKEND.flushdb()


def flood(count):
    started = time.perf_counter()
    for _ in range(count):
        noop.apply_async()
    wait_for(count)
    return {"seconds": time.perf_counter() - started, "latencies_ms": []}


def paced(count, rate):
    published = {}
    started = time.perf_counter()
    for number in range(count):
        time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        now = time.time()
        published[noop.apply_async().id] = now
    wait_for(count)
    seconds = time.perf_counter() - started
    documents = BACKEND.mget([f"celery-task-meta-{task}" for task in published])
    began = {task["task_id"]: task["result"] for task in map(json.loads, documents)}
    return {"seconds": seconds, "latencies_ms": [1000 * (began[task] - at) for task, at in published.items()]}


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main():
    what, numbers = sys.argv[1], [int(word) for word in sys.argv[2:]]
    warm_up(50)
    before = cpu_seconds()
    done = {"flood": flood, "paced": paced}[what](*numbers)
    print(json.dumps({**done, "cpu_seconds": cpu_seconds() - before}))


if __name__ == "__main__":
    main()
