"""A tarn whose configuration is changed and taken again while it serves."""

import http.client
import re
import signal
import threading

from kit.processes import run, wait_until
from kit.tarn import bare_environment
from kit.yaml_text import yaml_text


class Reloadable:
    """A tarn whose file is changed and taken again."""

    def __init__(self, tarn, upstream):
        self.tarn, self.upstream = tarn, upstream

    def write(self, **changes):
        self.tarn.settings = {**self.tarn.settings, **changes}
        self.tarn.config_path.write_text(
            yaml_text({key: value for key, value in self.tarn.settings.items() if value is not None}))

    def command(self, *more):
        return run([self.tarn.program, "reload", "--config", str(self.tarn.config_path), *more],
                   environment=bare_environment(self.tarn.directory / "home"), check=False)

    def reload(self, **changes):
        self.write(**changes)
        done = self.command()
        assert done.returncode == 0, done
        assert (done.stdout, done.stderr) == ("", "")

    def refused(self, **changes):
        """Reloads what must be refused; gives the reasons."""
        self.write(**changes)
        done = self.command()
        assert done.returncode == 1, done
        assert done.stdout == ""
        return done.stderr

    def hang_up(self, times=1):
        """SIGHUP; waits for the outcome in the log."""
        pattern = r"the configuration was (not )?reloaded"
        before = len(re.findall(pattern, self.tarn.log()))
        self.tarn.process.send_signal(signal.SIGHUP)
        wait_until(lambda: len(re.findall(pattern, self.tarn.log())) >= before + times,
                   "the outcome of SIGHUP", 60)


def entry(upstream, host="fake.test", **more):
    return {"host": host, "url": upstream.url, "credentials": "anonymous", **more}


class Load:
    """Clients that ask all the time, on connections that stay open."""

    def __init__(self, tarn, paths, clients=3, headers=None):
        self.paths, self.headers = paths, {"Accept": "*/*", **(headers or {})}
        self.tarn, self.ends, self.failed, self.count = tarn, threading.Event(), [], 0
        self.threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def _ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.tarn.port, timeout=60)
        while not self.ends.is_set():
            for path in self.paths:
                try:
                    connection.request("GET", path, headers=self.headers)
                    answer = connection.getresponse()
                    answer.read()
                    if answer.status != 200:
                        self.failed.append((path, answer.status))
                except OSError as failure:
                    self.failed.append((path, failure))
                    return
                self.count += 1
        connection.close()

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        wait_until(lambda: self.count > 10, "the load")
        return self

    def __exit__(self, *_):
        self.ends.set()
        for thread in self.threads:
            thread.join()
