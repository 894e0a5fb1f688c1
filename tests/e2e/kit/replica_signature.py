"""Signs requests as a replica does (RFC 9421, hmac-sha256), rightly and wrongly."""

import base64
import hashlib
import hmac
import secrets
import time

COVERED = ("@method", "@path", "@query", "tarn-ask")


def new_secret():
    return secrets.token_hex(32)


def write_secrets(path, *lines, mode=0o600):
    """Replaces the file at once, as Kubernetes does."""
    other = path.with_name(path.name + ".new")
    other.write_text("".join(f"{line}\n" for line in lines))
    other.chmod(mode)
    other.rename(path)
    return path


def key_id(secret):
    return hashlib.sha256(secret.encode()).hexdigest()[:8]


def signed(secret, target, ask="fetch", method="GET", **wrong):
    """
    The fields of a signed request. `wrong` makes a signature that is right for what it says, and
    says something else: created, keyid, alg, covered (names), label, parameters (all of them).
    """
    path, _, query = target.partition("?")
    values = {"@method": method, "@path": path, "@query": f"?{query}", "tarn-ask": ask,
              "@authority": "x", "host": "x"}
    covered = wrong.get("covered", COVERED)
    names = " ".join(f'"{name}"' for name in covered)
    parameters = wrong.get("parameters") or (
        f'({names});created={wrong.get("created", int(time.time()))}'
        f';keyid="{wrong.get("keyid", key_id(secret))}";alg="{wrong.get("alg", "hmac-sha256")}"')
    base = "".join(f'"{name}": {values[name]}\n' for name in covered)
    base += f'"@signature-params": {parameters}'
    mac = base64.b64encode(hmac.digest(secret.encode(), base.encode(), "sha256")).decode()
    label = wrong.get("label", "tarn")
    return {"Tarn-Ask": ask, "Signature-Input": f"{label}={parameters}",
            "Signature": f"{label}=:{mac}:"}
