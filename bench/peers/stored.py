"""`stored.py CONTAINER` prints how many bytes are stored in a container of BENCH_AZURE, a connection string."""

import os
import sys

from azure.storage.blob import ContainerClient


# The newest that the emulator knows is older than the SDK's.
API_VERSION = "2025-05-05"


def connect(name):
    return ContainerClient.from_connection_string(os.environ["BENCH_AZURE"], name, api_version=API_VERSION)


def stored_bytes(container):
    return sum(blob.size for blob in container.list_blobs())


if __name__ == "__main__":
    print(stored_bytes(connect(sys.argv[1])))
