"""The Celery application of the peers, as a settings variable wants it.

BENCH_SETTINGS:
  defaults  nothing is set but the addresses
  late      what a backup needs at least: acknowledged after the task, kept when a worker dies, one task ahead
  durable   the same on quorum queues with publisher confirms, which is what longshore has
"""

import os

from celery import Celery

app = Celery("bench", broker=os.environ["BENCH_BROKER"], backend=os.environ["BENCH_BACKEND"])

settings = os.environ["BENCH_SETTINGS"]
if settings not in ("defaults", "late", "durable"):
    raise SystemExit(f"BENCH_SETTINGS: {settings!r} is not known")
if settings in ("late", "durable"):
    app.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
    )
if settings == "durable":
    app.conf.update(
        task_default_queue_type="quorum",
        broker_transport_options={"confirm_publish": True},
    )
