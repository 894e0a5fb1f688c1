"""Accounting: what a foreign answer can make tarn keep, count or believe of its disk."""

import pytest

from kit.cache_files import is_held
from kit.content import OCI_INDEX, OCI_MANIFEST, index, manifest
from kit.processes import wait_until


# ---- what cannot be written is no failure of the disk

WEIRD_TYPES = ["application/vnd.oci.image.\xe9+json", "\xe9", "application/json; v=\xff",
               "application/" + "x" * 300, "not a type", "application/a\tb+json", ""]


@pytest.mark.parametrize("make,usual", [(lambda: manifest(b"{}", []), OCI_MANIFEST),
                                        (lambda: index([]), OCI_INDEX)],
                         ids=["manifest", "index"])
@pytest.mark.parametrize("media_type", WEIRD_TYPES)
def test_a_weird_media_type_is_no_failure_of_the_disk(tarn, upstream, media_type, make, usual):
    content = make()
    digest = upstream.repository("org/app").add_manifest(content, media_type, tag="1")
    for reference in ("1", digest):
        reply = tarn.manifest("org/app", reference)
        assert (reply.status, reply.body, reply["Content-Type"]) == (200, content, usual)
    wait_until(lambda: is_held(tarn.root, digest), "the manifest to be stored")
    metrics = tarn.metrics()
    assert metrics["tarn_store_degraded"] == 0
    assert metrics['tarn_passed_through_blobs_total{reason="failing"}'] == 0
    assert "the disk" not in tarn.log()
    tarn.restart()
    upstream.fault(".", status=503)
    reply = tarn.manifest("org/app", digest)
    assert (reply.status, reply.body, reply["Content-Type"]) == (200, content, usual)
