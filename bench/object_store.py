"""
The object store of the end-to-end tests as a server of its own: object_store.py PORT [--delay S]
[--upload-rate BYTES]. It delays the head of each response, and reads each upload at this rate.
"""
import argparse
import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "e2e"))
from kit.object_store import ObjectStore  # pylint: disable=wrong-import-position


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--upload-rate", type=float)
    options = parser.parse_args()
    store = ObjectStore(port=options.port)
    if options.delay or options.upload_rate:
        store.fault(delay=options.delay, upload_bytes_per_second=options.upload_rate)
    threading.Event().wait()


main()
