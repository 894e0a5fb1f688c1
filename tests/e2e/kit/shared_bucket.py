"""What tarns keep in a bucket that they share: the names of its objects, and waiting for them."""

from kit.processes import wait_until

PREFIX = "tarn/docker/registry/v2"
USED = "tarn/tarn/v1/used"


def starter(start_tarn, upstream, store):
    """start(bucket=…, upstream_settings=…, **settings): a tarn on the bucket."""
    def start(bucket=None, upstream_settings=None, **settings):
        return start_tarn([{"host": "fake.test", "url": upstream.url, "default": True,
                            "tag_ttl": "0", **(upstream_settings or {})}],
                          environment=store.environment,
                          bucket=store.settings(**(bucket or {})), **settings)
    return start


def _hex(digest):
    return digest.partition(":")[2]


def data_key(digest):
    return f"{PREFIX}/blobs/sha256/{_hex(digest)[:2]}/{_hex(digest)}/data"


def layer_key(repository, digest):
    return f"{PREFIX}/repositories/{repository}/_layers/sha256/{_hex(digest)}/link"


def revision_key(repository, digest):
    return f"{PREFIX}/repositories/{repository}/_manifests/revisions/sha256/{_hex(digest)}/link"


def tag_key(repository, tag):
    return f"{PREFIX}/repositories/{repository}/_manifests/tags/{tag}/current/link"


def used_key(digest):
    return f"{USED}/sha256/{_hex(digest)[:2]}/{_hex(digest)}"


def wait_stored(store, *keys, seconds=30):
    """Waits until the store has all these objects."""
    wait_until(lambda: all(store.get(key) is not None for key in keys),
               f"{keys} among {store.keys()}", seconds)


def put_blob(store, content, digest, repository=None):
    """What a tarn writes for a blob."""
    store.put(data_key(digest), content)
    if repository:
        store.put(layer_key(repository, digest), digest.encode())


def put_manifest(store, content, digest, repository, media_type, tag=None):
    store.put(data_key(digest), content)
    store.put(revision_key(repository, digest), digest.encode(), **{"Content-Type": media_type})
    if tag:
        store.put(tag_key(repository, tag), digest.encode())


def pending(tarn):
    """The names of what a tarn has still to write."""
    folder = tarn.root / "pending"
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def wait_settled(tarn, seconds=30):
    wait_until(lambda: not pending(tarn), f"an empty {tarn.root}/pending", seconds)
