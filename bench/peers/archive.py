"""The home-made pipeline: Celery's workers make an archive of a batch of files and upload it.

`archive.py FOLDER RUN COMPRESSION` lists the files, makes batches, and waits until all are uploaded. Prints one JSON
document: {"seconds": .., "stored_bytes": ..}, the latter of everything in the container.
"""

import json
import os
import sys
import tarfile
import tempfile
import time

import zstandard
from azure.core.exceptions import ResourceExistsError
from celery import group

from application import app
from stored import connect, stored_bytes

# As longshore's tasks in this benchmark.
BATCH_BYTES = 64 << 20
BATCH_FILES = 1000
CONTAINER = "archives"
ZSTD_LEVEL = 3


def container():
    return connect(CONTAINER)


def write_gzip(file, paths):
    with tarfile.open(fileobj=file, mode="w:gz") as archive:
        for path in paths:
            archive.add(path)


def write_zstd(file, paths):
    with zstandard.ZstdCompressor(level=ZSTD_LEVEL).stream_writer(file, closefd=False) as compressed:
        with tarfile.open(fileobj=compressed, mode="w|") as archive:
            for path in paths:
                archive.add(path)


WRITERS = {"gzip": write_gzip, "zstd": write_zstd}


@app.task(name="archive")
def archive(blob, paths, compression):
    with tempfile.TemporaryFile() as file:
        WRITERS[compression](file, paths)
        length = file.tell()
        file.seek(0)
        container().upload_blob(blob, file, length=length, overwrite=True)
    return length


@app.task(name="ready")
def ready():
    return True


def batches(folder):
    paths, total = [], 0
    for below, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(below, name)
            length = os.path.getsize(path)
            if paths and (total + length > BATCH_BYTES or len(paths) == BATCH_FILES):
                yield paths
                paths, total = [], 0
            paths.append(path)
            total += length
    if paths:
        yield paths


def run(folder, name, compression):
    try:
        container().create_container()
    except ResourceExistsError:
        pass
    ready.apply_async().get(timeout=60)
    started = time.perf_counter()
    signatures = [archive.s(f"{name}/{number}", paths, compression) for number, paths in enumerate(batches(folder))]
    group(signatures).apply_async().get(timeout=3600)
    return time.perf_counter() - started


if __name__ == "__main__":
    print(json.dumps({"seconds": run(*sys.argv[1:]), "stored_bytes": stored_bytes(container())}))
