"""An object store that speaks Amazon's S3, on a port of its own or the one it is told; ends with its standard input.

Prints its port. Then, for each line it reads, one line of JSON: every object of the bucket of that name, text by key;
null without such a bucket. A line that begins with "+" makes the bucket first."""

import json
import logging
import sys

from moto.backends import get_backend
from moto.core import DEFAULT_ACCOUNT_ID
from moto.server import ThreadedMotoServer


def objects(bucket):
    backend = get_backend("s3")[DEFAULT_ACCOUNT_ID]["aws"]
    if bucket.startswith("+"):
        bucket = bucket[1:]
        backend.create_bucket(bucket, "us-east-1")
    if bucket not in backend.buckets:
        return None
    return {key: held.value.decode() for key, held in backend.buckets[bucket].keys.items()}


def main():
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
    server.start()
    print(server.get_host_and_port()[1], flush=True)
    for line in sys.stdin:
        print(json.dumps(objects(line.strip())), flush=True)
    server.stop()


if __name__ == "__main__":
    main()
