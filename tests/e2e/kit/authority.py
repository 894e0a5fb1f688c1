"""Issues certificates to tarn's clients."""

from kit.processes import run


class Authority:
    def __init__(self, directory, name):
        self.directory, self.name = directory, name
        self.certificate, self.key = directory / f"{name}.pem", directory / f"{name}.key"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-keyout", self.key, "-out", self.certificate, "-days", "2", "-subj",
             f"/CN={name}"])

    def issue(self, subject, days=2):
        """The files of a new certificate and its key."""
        stem = self.directory / f"{self.name}-{abs(hash(subject))}"
        request, certificate, key = (stem.with_suffix(s) for s in (".csr", ".crt", ".key"))
        run(["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
             "-keyout", key, "-out", request, "-subj", subject, "-multivalue-rdn"])
        run(["openssl", "x509", "-req", "-in", request, "-CA", self.certificate, "-CAkey",
             self.key, "-CAcreateserial", "-days", str(days), "-out", certificate])
        return certificate, key
