"""
Cloud Build, the buckets of Cloud Storage and Cloud Logging, as far as a build needs them.

It is strict: a field that the API does not have, an upload that is no multiple of 256 KiB, a token
that nobody gave out, or a source that is not there is refused as Google refuses it. A build goes
through its states one at a time, and its log grows meanwhile.
"""

import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

STOP_POLL = 0.05
QUARTER = 256 << 10
STEP = {"name", "args", "env", "entrypoint", "dir", "id", "waitFor", "secretEnv", "volumes",
        "timeout", "script", "allowFailure", "allowExitCodes", "automapSubstitutions"}
OPTIONS = {"machineType", "diskSizeGb", "substitutionOption", "dynamicSubstitutions", "logging",
           "logStreamingOption", "pool", "env", "secretEnv", "volumes", "automapSubstitutions",
           "defaultLogsBucketBehavior", "requestedVerifyOption", "sourceProvenanceHash"}
BUILD = {"source", "steps", "images", "tags", "substitutions", "timeout", "queueTtl", "logsBucket",
         "serviceAccount", "options", "artifacts", "secrets", "availableSecrets"}


class Refused(Exception):
    def __init__(self, status, message="", name="", headers=None):
        super().__init__(message)
        self.status, self.headers = status, headers or {}
        self.body = {"error": {"code": status, "message": message, "status": name}}


class Cut(Exception):
    """The connection is closed without a response."""


class Upload:
    def __init__(self, bucket, name):
        self.bucket, self.name = bucket, name
        self.bytes = bytearray()


class CloudBuild:
    """The state of the services. Tests set its attributes."""

    def __init__(self, tokens):
        """`tokens`: called for the access tokens that are good now."""
        self.lock = threading.RLock()
        self.tokens = tokens
        self.requests = []           # (kind, method, path, headers, length of the body)
        self.buckets = {}            # name -> project
        self.objects = {}            # (bucket, name) -> (bytes, generation)
        self.uploads = {}            # session -> Upload
        self.generation = 1700000000000000
        self.builds = {}             # (project, region, id) -> Build
        self.plans = {}              # id -> what is still to come: [(changes, more log)]
        self.plan = self.success
        self.triggers = []
        self.fail = {}               # kind -> list of Refused or Cut
        self.hooks = {}              # kind -> called with the request before it is answered
        self.keeps = None            # bytes that an upload's request keeps before it is cut
        self.session_url = None      # of uploads, in place of one of this server
        self.whole_log = False       # a range of the log is ignored
        self.digest = "sha256:" + hashlib.sha256(b"an image").hexdigest()
        handler = type("Handler", (Handler,), {"service": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.port = self.server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, args=(STOP_POLL,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    @property
    def environment(self):
        return {f"CLOUDSDK_API_ENDPOINT_OVERRIDES_{name}": self.url
                for name in ("CLOUDBUILD", "STORAGE", "LOGGING")}

    # ---- for tests

    def kinds(self):
        with self.lock:
            return [request[0] for request in self.requests]

    def forget(self):
        with self.lock:
            self.requests.clear()

    def the_build(self):
        with self.lock:
            (build,) = self.builds.values()
            return build

    def success(self, build):
        """What becomes of a build: (changes of the Build, what its log gets)."""
        done = [{"name": image, "digest": self.digest} for image in build.get("images", [])]
        steps = [dict(step, status="SUCCESS", timing={"startTime": "2026-11-26T10:00:01.5Z",
                                                      "endTime": "2026-11-26T10:01:13.2Z"})
                 for step in build["steps"]]
        return [({"status": "QUEUED"}, b""),
                ({"status": "WORKING", "steps": [dict(step, status="WORKING")
                                                 for step in build["steps"]]},
                 b"starting build\n"),
                ({}, b"Step #0: hello\nStep #0: half a li"),
                ({}, b"ne\n"),
                ({"status": "SUCCESS", "steps": steps, "results": {"images": done}},
                 b"DONE\n")]

    def failure(self, status="FAILURE", **more):
        def plan(build):
            steps = [dict(step, status="FAILURE") for step in build["steps"]]
            return [({"status": "WORKING"}, b"starting build\n"),
                    (dict({"status": status, "steps": steps}, **more), b"no such file: x.c\n")]
        return plan

    def put(self, bucket, name, content):
        with self.lock:
            self.generation += 1
            self.objects[bucket, name] = (content, str(self.generation))
            return str(self.generation)

    # ---- buckets and objects

    def list_buckets(self, request):
        project, prefix = request.query["project"][0], request.query.get("prefix", [""])[0]
        return {"items": [{"name": name} for name, owner in self.buckets.items()
                          if owner == project and name.startswith(prefix)]}

    def make_bucket(self, request):
        name = request.json["name"]
        if name in self.buckets:
            raise Refused(409, "Your previous request to create the named bucket succeeded and you "
                               "already own it, or it is taken.")
        if set(request.json) - {"name", "location"}:
            raise Refused(400, "unknown field")
        self.buckets[name] = request.query["project"][0]
        return {"name": name}

    def find_object(self, request, bucket, name):
        if (bucket, name) not in self.objects:
            raise Refused(404, f"No such object: {bucket}/{name}")
        content, generation = self.objects[bucket, name]
        return {"generation": generation, "size": str(len(content))}

    def begin_upload(self, request, bucket):
        name = request.query["name"][0]
        if bucket not in self.buckets:
            raise Refused(404, "The specified bucket does not exist.")
        if request.query.get("ifGenerationMatch") == ["0"] and (bucket, name) in self.objects:
            raise Refused(412, "At least one of the pre-conditions you specified did not hold.")
        session = f"s{len(self.uploads)}"
        self.uploads[session] = Upload(bucket, name)
        return {}, {"Location": self.session_url or f"{self.url}/upload/storage/v1/b/{bucket}/o?uploadType=resumable&"
                                f"upload_id={session}"}

    def go_on(self, request):
        """One PUT of a session."""
        session = request.query["upload_id"][0]
        upload = self.uploads.get(session)
        if not upload:
            raise Refused(410, "gone")
        if request.command == "DELETE":
            del self.uploads[session]
            raise Refused(499)
        match = re.fullmatch(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)",
                             request.headers["Content-Range"])
        first, last, total = match.groups()
        if first is not None:
            if int(last) - int(first) + 1 != len(request.body) or int(first) != len(upload.bytes):
                raise Refused(503, f"{first} does not follow {len(upload.bytes)}")
            if total == "*" and len(request.body) % QUARTER:
                raise Refused(400, "no multiple of 256 KiB")
            kept = self.keeps
            if kept is not None:
                self.keeps = None
                upload.bytes += request.body[:kept // QUARTER * QUARTER]
                raise Cut
            upload.bytes += request.body
        if total != "*" and int(total) == len(upload.bytes):
            del self.uploads[session]
            return {"generation": self.put(upload.bucket, upload.name, bytes(upload.bytes))}
        raise Refused(308, headers={"Range": f"bytes=0-{len(upload.bytes) - 1}"}
                      if upload.bytes else {})

    def read_log(self, request, bucket, name):
        if (bucket, name) not in self.objects:
            raise Refused(404, "NoSuchKey")
        content = self.objects[bucket, name][0]
        first, last = re.fullmatch(r"bytes=(\d+)-(\d*)", request.headers["Range"]).groups()
        if self.whole_log:
            return content
        if int(first) >= len(content):
            raise Refused(416, "InvalidRange")
        return 206, content[int(first):int(last or len(content)) + 1]

    # ---- builds

    def check(self, build):
        def known(what, fields, allowed):
            for field in set(fields) - allowed:
                raise Refused(400, f'Invalid JSON payload received. Unknown name "{field}" at '
                                   f"'{what}': Cannot find field.", "INVALID_ARGUMENT")
        known("build", build, BUILD)
        known("build.options", build.get("options", {}), OPTIONS)
        for index, step in enumerate(build["steps"]):
            known(f"build.steps[{index}]", step, STEP)
        source = build.get("source", {}).get("storageSource")
        if source:
            found = self.objects.get((source["bucket"], source["object"]))
            if not found or found[1] != source["generation"]:
                raise Refused(400, "the source is not there", "INVALID_ARGUMENT")

    def operation(self, build):
        return {"name": f"operations/build/{build['projectId']}/x",
                "metadata": {"@type": "type.googleapis.com/google.devtools.cloudbuild.v1."
                                      "BuildOperationMetadata", "build": build}}

    def start(self, project, region, build):
        number = f"00000000-0000-4000-8000-{len(self.builds):012}"
        build = dict(build, id=number, projectId=project, status="PENDING",
                     createTime="2026-11-26T10:00:00Z",
                     logUrl=f"https://console.example/builds/{number}?project={project}")
        build.setdefault("logsBucket", "gs://default-logs")
        self.builds[project, region, number] = build
        self.plans[number] = self.plan(build)
        return self.operation(build)

    def submit(self, request, project, region):
        self.check(request.json)
        return self.start(project, region, request.json)

    def grow_log(self, build, more):
        if not more:
            return
        bucket = build["logsBucket"].removeprefix("gs://")
        bucket, _, folder = bucket.partition("/")
        name = f"{folder + '/' if folder else ''}log-{build['id']}.txt"
        self.put(bucket, name, self.objects.get((bucket, name), (b"",))[0] + more)

    def get(self, request, project, region, number):
        build = self.builds.get((project, region, number))
        if not build:
            raise Refused(404, "Requested entity was not found.", "NOT_FOUND")
        plan = self.plans[number]
        if plan:
            changes, more = plan.pop(0)
            build.update(changes)
            self.grow_log(build, more)
        return build

    def cancel(self, request, project, region, number):
        self.plans[number] = []
        self.builds[project, region, number]["status"] = "CANCELLED"
        return self.builds[project, region, number]

    def retry(self, request, project, region, number):
        old = self.builds[project, region, number]
        return self.start(project, region, {key: old[key] for key in BUILD & set(old)})

    def list_builds(self, request, project, region):
        wanted = request.query.get("filter", [""])[0]
        status = re.fullmatch(r'status="(\w+)"', wanted)
        return {"builds": [build for (owner, where, _), build in self.builds.items()
                           if (owner, where) == (project, region)
                           and (not status or build["status"] == status[1])]}

    def list_triggers(self, request, project, region):
        """A page of one."""
        at = int(request.query.get("pageToken", ["0"])[0])
        page = {"triggers": self.triggers[at:at + 1]}
        if at + 1 < len(self.triggers):
            page["nextPageToken"] = str(at + 1)
        return page

    def run_trigger(self, request, project, region, trigger):
        if trigger not in [one["id"] for one in self.triggers]:
            raise Refused(404, "no such trigger", "NOT_FOUND")
        self.ran = (trigger, request.json)
        return self.start(project, region, {"steps": [{"name": "docker"}],
                                            "images": ["gcr.io/p/by-trigger"]})

    def list_entries(self, request):
        project = re.fullmatch(r"projects/(\S+)", request.json["resourceNames"][0])[1]
        wanted = re.search(r'build_id="([^"]+)"', request.json["filter"])[1]
        since = re.search(r'timestamp>="([^"]+)"', request.json["filter"])
        (build,) = [build for (owner, _, number), build in self.builds.items()
                    if (owner, number) == (project, wanted)]
        bucket = build["logsBucket"].removeprefix("gs://")
        log = self.objects.get((bucket, f"log-{wanted}.txt"), (b"",))[0].decode()
        lines = log.split("\n")[:-1]        # an entry is a whole line
        entries = [{"insertId": f"i{index}", "timestamp": f"2026-11-26T10:00:{index // 2:02}Z",
                    "textPayload": line} for index, line in enumerate(lines)]
        return {"entries": [entry for entry in entries
                            if not since or entry["timestamp"] >= since[1]]}


PLACE = r"/v1/projects/([^/]+)(?:/locations/([^/]+))?"
ROUTES = [
    ("buckets", "GET", r"/storage/v1/b", CloudBuild.list_buckets),
    ("make bucket", "POST", r"/storage/v1/b", CloudBuild.make_bucket),
    ("object", "GET", r"/storage/v1/b/([^/]+)/o/([^/]+)", CloudBuild.find_object),
    ("begin", "POST", r"/upload/storage/v1/b/([^/]+)/o", CloudBuild.begin_upload),
    ("piece", "PUT", r"/upload/storage/v1/b/[^/]+/o", CloudBuild.go_on),
    ("give up", "DELETE", r"/upload/storage/v1/b/[^/]+/o", CloudBuild.go_on),
    ("submit", "POST", PLACE + "/builds", CloudBuild.submit),
    ("build", "GET", PLACE + "/builds/([^/:]+)", CloudBuild.get),
    ("cancel", "POST", PLACE + "/builds/([^/:]+):cancel", CloudBuild.cancel),
    ("retry", "POST", PLACE + "/builds/([^/:]+):retry", CloudBuild.retry),
    ("builds", "GET", PLACE + "/builds", CloudBuild.list_builds),
    ("triggers", "GET", PLACE + "/triggers", CloudBuild.list_triggers),
    ("trigger", "POST", PLACE + "/triggers/([^/:]+):run", CloudBuild.run_trigger),
    ("entries", "POST", r"/v2/entries:list", CloudBuild.list_entries),
    ("log", "GET", r"/([a-z0-9_.-]+)/(\S*log-\S+\.txt)", CloudBuild.read_log),
]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    service = None

    def log_message(self, *arguments):
        pass

    def find(self):
        for kind, method, pattern, answer in ROUTES:
            match = re.fullmatch(pattern, self.parts.path)
            if match and method == self.command:
                groups = [unquote(group) if group else "global" for group in match.groups()]
                return kind, lambda: answer(self.service, self, *groups)
        raise Refused(404, "no such path")

    def reply(self):
        service = self.service
        kind, answer = self.find()
        with service.lock:
            service.requests.append((kind, self.command, self.path, dict(self.headers),
                                     len(self.body)))
            hook = service.hooks.get(kind)
            if hook:
                hook(self)
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
            if token not in service.tokens():
                raise Refused(401, "Request had invalid authentication credentials.",
                              "UNAUTHENTICATED")
            waiting = service.fail.get(kind)
            if waiting:
                raise waiting.pop(0)
            return answer()

    def handle_request(self):
        self.parts = urlsplit(self.path)
        self.query = parse_qs(self.parts.query)
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        is_json = self.headers.get("Content-Type", "").startswith("application/json")
        self.json = json.loads(self.body) if is_json and self.body else {}
        status, headers = 200, {}
        try:
            body = self.reply()
            if isinstance(body, tuple) and isinstance(body[0], int):
                status, body = body
            elif isinstance(body, tuple):
                body, headers = body
        except Refused as refused:
            status, body, headers = refused.status, refused.body, refused.headers
        except Cut:
            self.close_connection = True
            return
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = handle_request
