"""A small Hub on loopback: as much of the protocol of huggingface.co as its client speaks to push and load a model.

Repositories of three kinds with branches and commits, who may do what by token, large files by LFS (whole or in parts,
verified by their hash), downloads by redirect with ETags. Every request is written down, and any can be made to fail.
"""

import base64
import hashlib
import json
import re
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

LARGE = (".safetensors", ".parquet", ".faiss", ".bin", ".png")
KINDS = {"models": "model", "datasets": "dataset", "spaces": "space"}


@dataclass
class Repo:
    """A repository; a commit is a dict from path to (bytes, hash of a large file or None)."""

    kind: str
    name: str
    private: bool = False
    commits: dict = field(default_factory=dict)
    branches: dict = field(default_factory=dict)
    variables: dict = field(default_factory=dict)
    sdk: str | None = None

    def commit(self, branch, files):
        content = sorted((path, git_hash(content)) for path, (content, _) in files.items())
        sha = hashlib.sha1(f"{self.name} {branch} {len(self.commits)} {content}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        return sha

    def resolve(self, revision):
        """The hash of a branch or commit; `None` if there is none."""
        return self.branches.get(revision) or (revision if revision in self.commits else None)


class HubServer(ThreadingHTTPServer):
    """The Hub; `with running_hub() as hub` starts one.

    Attributes:
        tokens: from token to the names of user and organisations that it may write to; the first is the user.
        readers: tokens that may read everything and write nothing.
        requests: (method, path, bytes sent) of everything that was asked.
        objects: large files by hash.
        fail: called with method, path and body before a request is answered; a status that it returns is the answer,
            and "hang up" closes the connection.
        part_size: large files above this size come in parts; `None`: whole.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.tokens, self.readers = {}, {}
        self.repos, self.objects, self.parts, self.requests = {}, {}, {}, []
        self.fail = lambda method, path, body: None
        self.part_size = None
        self.lock = threading.RLock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"

    def repo(self, name, kind="model"):
        return self.repos.get((kind, name))

    def files(self, name, revision="main", kind="model"):
        """Content by path."""
        repo = self.repo(name, kind)
        return {path: content for path, (content, _) in repo.commits[repo.resolve(revision)].items()}

    def sent(self, method, pattern):
        """Bodies' sizes of the requests of this method whose path matches."""
        return [size for m, path, size in self.requests if m == method and re.search(pattern, path)]

    def handle_error(self, request, client_address):
        """Clients that leave in the middle are what some tests are about."""


@contextmanager
def running_hub():
    hub = HubServer()
    thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()


class Refused(Exception):
    def __init__(self, status, message, code=None, **headers):
        super().__init__(message)
        self.status, self.headers = status, {**headers, **({"X-Error-Code": code} if code else {})}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        self.answer()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def answer(self):
        hub = self.server
        body = self.read_body()
        self.where = urlsplit(self.path)
        with hub.lock:
            hub.requests.append((self.command, self.path, len(body)))
            failure = hub.fail(self.command, self.path, body)
            if failure == "hang up":
                self.close_connection = True
                self.connection.close()
                return
            try:
                if failure:
                    raise Refused(failure, "made to fail")
                for pattern, method in ROUTES:
                    match = re.fullmatch(pattern, self.where.path)
                    if match:
                        method(self, body, **{k: unquote(v) for k, v in match.groupdict(default="").items()})
                        return
                raise Refused(404, f"no such page: {self.path}")
            except Refused as error:
                self.send({"error": str(error)}, error.status, **{"X-Error-Message": str(error), **error.headers})

    def read_body(self):
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            parts = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                parts.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(parts)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def send(self, content, status=200, **headers):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    # --- Who asks ---------------------------------------------------------------------------------------------------

    @property
    def token(self):
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if token and token not in self.server.tokens and token not in self.server.readers:
            raise Refused(401, "Invalid credentials in Authorization header")
        return token

    def readable(self, kind, name):
        repo = self.server.repo(name, kind)
        names = {**self.server.tokens, **self.server.readers}.get(self.token, ())
        if repo is None or (repo.private and name.split("/")[0] not in names):
            if self.token:
                raise Refused(404, "Repository not found", "RepoNotFound")
            raise Refused(401, "Invalid username or password.", "RepoNotFound")
        return repo

    def writable(self, kind, name):
        repo = self.readable(kind, name)
        self.check_may_write(name.split("/")[0])
        return repo

    def check_may_write(self, owner):
        if not self.token:
            raise Refused(401, "Invalid username or password.")
        if owner not in self.server.tokens.get(self.token, ()):
            raise Refused(403, f"You don't have the rights to write to {owner}")

    def revision_of(self, repo, revision):
        sha = repo.resolve(revision)
        if sha is None:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return sha

    # --- Pages ------------------------------------------------------------------------------------------------------

    def whoami(self, body):
        if not self.token:
            raise Refused(401, "Invalid username or password.")
        user, *orgs = self.server.tokens.get(self.token) or self.server.readers[self.token]
        self.send({"type": "user", "name": user, "orgs": [{"name": org} for org in orgs]})

    def create(self, body):
        asked = json.loads(body)
        user = self.server.tokens.get(self.token, ("",))[0]
        owner, kind = asked.get("organization") or user, asked.get("type") or "model"
        self.check_may_write(owner)
        name = f"{owner}/{asked['name']}"
        url = f"{self.server.url}/{'' if kind == 'model' else f'{kind}s/'}{name}"
        if self.server.repo(name, kind):
            self.send({"error": f"You already created this {kind} repo", "url": url}, 409)
            return
        repo = Repo(kind, name, asked.get("visibility") == "private", sdk=asked.get("sdk"))
        repo.commit("main", {".gitattributes": (b"*.safetensors filter=lfs\n", None)})
        self.server.repos[kind, name] = repo
        self.send({"url": url})

    def info(self, body, kinds, name, revision):
        repo = self.readable(KINDS[kinds], name)
        sha = self.revision_of(repo, revision or "main")
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        self.send({"id": name, "sha": sha, "private": repo.private, "siblings": siblings, "tags": []})

    def tree(self, body, kinds, name, revision, path):
        repo = self.readable(KINDS[kinds], name)
        files = repo.commits[self.revision_of(repo, revision)]
        inside = {p: files[p] for p in files if not path or p.startswith(f"{path}/")}
        if path and not inside:
            raise Refused(404, f"{path} does not exist", "EntryNotFound")
        self.send([self.entry(p, *file) for p, file in inside.items()])

    def paths_info(self, body, kinds, name, revision):
        repo = self.readable(KINDS[kinds], name)
        files = repo.commits[self.revision_of(repo, revision)]
        asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
        self.send([self.entry(path, *files[path]) for path in asked if path in files])

    @staticmethod
    def entry(path, content, large):
        lfs = {"lfs": {"oid": large, "size": len(content), "pointerSize": 134}} if large else {}
        return {"type": "file", "path": path, "size": len(content), "oid": git_hash(content), **lfs}

    def validate(self, body):
        if re.search(r"^license: \[", json.loads(body)["content"], flags=re.MULTILINE):
            self.send({"errors": [{"message": '"license" must be a string'}], "warnings": []}, 400)
        else:
            self.send({"errors": [], "warnings": []})

    def branch(self, body, kinds, name, branch):
        repo = self.writable(KINDS[kinds], name)
        if branch in repo.branches:
            raise Refused(409, f"Reference already exists: {branch}")
        repo.branches[branch] = self.revision_of(repo, json.loads(body or b"{}").get("startingPoint") or "main")
        self.send({})

    def variable(self, body, name):
        repo = self.writable("space", name)
        asked = json.loads(body)
        repo.variables[asked["key"]] = asked["value"]
        self.send({key: {"key": key, "value": value} for key, value in repo.variables.items()})

    # --- Uploads ----------------------------------------------------------------------------------------------------

    def preupload(self, body, kinds, name, revision):
        repo = self.writable(KINDS[kinds], name)
        files = repo.commits[self.revision_of(repo, revision)]
        answers = []
        for file in json.loads(body)["files"]:
            path = file["path"]
            content, large = files.get(path, (None, None))
            mode = "lfs" if path.endswith(LARGE) or file["size"] > 10_000_000 else "regular"
            there = None if content is None else large or git_hash(content)
            answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": there})
        self.send({"files": answers})

    def batch(self, body, prefix, name):
        self.writable(KINDS.get(prefix.strip("/"), "model"), name)
        answers = []
        for wanted in json.loads(body)["objects"]:
            oid, size, url = wanted["oid"], wanted["size"], f"{self.server.url}/lfs/{wanted['oid']}"
            answer = {"oid": oid, "size": size}
            if oid not in self.server.objects:
                upload, step = {"href": url, "header": {}}, self.server.part_size
                if step is not None and size > step:
                    numbers = range(1, -(-size // step) + 1)
                    upload["header"] = {"chunk_size": str(step)} | {str(n): f"{url}/part/{n}" for n in numbers}
                answer["actions"] = {"upload": upload, "verify": {"href": f"{url}/verify"}}
            answers.append(answer)
        self.send({"transfer": "basic", "objects": answers})

    def put_object(self, body, oid):
        if self.command == "POST":  # the parts are there
            parts = json.loads(body)["parts"]
            body = b"".join(self.server.parts[oid][part["partNumber"]] for part in parts)
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refused(400, "the content does not have this hash")
        self.server.objects[oid] = body
        self.send({})

    def put_part(self, body, oid, number):
        self.server.parts.setdefault(oid, {})[int(number)] = body
        self.send(b"", ETag=f'"{hashlib.md5(body).hexdigest()}"')

    def verify(self, body, oid):
        if oid not in self.server.objects:
            raise Refused(404, "no such object")
        self.send({})

    def commit(self, body, kinds, name, revision):
        repo = self.writable(KINDS[kinds], name)
        if revision not in repo.branches:
            raise Refused(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        files = dict(repo.commits[repo.branches[revision]])
        for line in body.splitlines():
            step, value = (entry := json.loads(line))["key"], entry["value"]
            if step == "file":
                files[value["path"]] = (base64.b64decode(value["content"]), None)
            elif step == "lfsFile":
                if value["oid"] not in self.server.objects:
                    raise Refused(400, f"the content of {value['path']} was never uploaded")
                files[value["path"]] = (self.server.objects[value["oid"]], value["oid"])
            elif step == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(revision, files)
        self.send({"success": True, "commitOid": sha, "commitUrl": f"{self.server.url}/{name}/commit/{sha}"})

    # --- Downloads --------------------------------------------------------------------------------------------------

    def resolve(self, body, prefix, name, revision, path):
        repo = self.readable(KINDS.get(prefix.strip("/"), "model"), name)
        sha = self.revision_of(repo, revision)
        if path not in repo.commits[sha]:
            raise Refused(404, f"{path} does not exist", "EntryNotFound", **{"X-Repo-Commit": sha})
        content, large = repo.commits[sha][path]
        if large:
            headers = {"X-Linked-Etag": f'"{large}"', "X-Linked-Size": len(content)}
            # Of another host, as the real one: the client neither follows it for metadata nor shows it the token.
            location = f"{self.server.url.replace('127.0.0.1', 'localhost')}/cdn/{large}"
            self.send(b"", 302, Location=location, **{"X-Repo-Commit": sha}, **headers)
        else:
            self.send(content, ETag=f'"{git_hash(content)}"', **{"X-Repo-Commit": sha})

    def download(self, body, oid):
        if self.headers.get("Authorization"):
            raise Refused(400, "the token was sent to the store of large files")
        content = self.server.objects[oid]
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted:
            first = int(wanted[1])
            last = int(wanted[2]) if wanted[2] else len(content) - 1
            whole = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
            self.send(content[first : last + 1], 206, ETag=f'"{oid}"', **whole)
        else:
            self.send(content, ETag=f'"{oid}"')


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
API = rf"/api/(?P<kinds>models|datasets|spaces)/{NAME}"
PREFIX = r"/(?P<prefix>datasets/|spaces/|)"
ROUTES = [
    (r"/api/whoami-v2", Handler.whoami),
    (r"/api/repos/create", Handler.create),
    (r"/api/validate-yaml", Handler.validate),
    (rf"/api/spaces/{NAME}/variables", Handler.variable),
    (rf"{API}(?:/revision/(?P<revision>[^/]+))?", Handler.info),
    (rf"{API}/tree/(?P<revision>[^/]+)(?:/(?P<path>.+))?", Handler.tree),
    (rf"{API}/paths-info/(?P<revision>[^/]+)", Handler.paths_info),
    (rf"{API}/branch/(?P<branch>[^/]+)", Handler.branch),
    (rf"{API}/preupload/(?P<revision>[^/]+)", Handler.preupload),
    (rf"{API}/commit/(?P<revision>[^/]+)", Handler.commit),
    (rf"{PREFIX}{NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (r"/lfs/(?P<oid>\w+)", Handler.put_object),
    (r"/lfs/(?P<oid>\w+)/part/(?P<number>\d+)", Handler.put_part),
    (r"/lfs/(?P<oid>\w+)/verify", Handler.verify),
    (rf"{PREFIX}{NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", Handler.resolve),
    (r"/cdn/(?P<oid>\w+)", Handler.download),
]
