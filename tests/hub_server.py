"""A stand-in for the Hugging Face Hub on loopback: what pulling and pushing needs.

Files arrive in the body of a commit, as small ones do at the Hub.
"""

import base64
import contextlib
import hashlib
import http.server
import json
import threading
from collections.abc import Iterator

EMPTY_SHA = hashlib.sha1(b"").hexdigest()


class Hub(http.server.ThreadingHTTPServer):
    """A server whose repositories are ``{name: {commit: {path: bytes}}}``."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos: dict[str, dict[str, dict[str, bytes]]] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def commit(self, repo: str, files: dict[str, bytes]) -> str:
        commits = self.repos[repo]
        now = {**next(reversed(commits.values()), {}), **files}
        sha = hashlib.sha1(repr((len(commits), sorted(now))).encode()).hexdigest()
        commits[sha] = now
        return sha


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass

    def _reply(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _json(self, value):
        self._reply(200, json.dumps(value).encode(), Content_Type="application/json")

    def _find(self, repo, revision):
        """Return commit and files, or reply as the Hub does."""
        commits = self.server.repos.get(repo)
        if commits is None:
            self._reply(401, X_Error_Code="RepoNotFound")
            return None
        sha = next(reversed(commits)) if revision == "main" else revision
        if sha not in commits:
            self._reply(404, X_Error_Code="RevisionNotFound")
            return None
        return sha, commits[sha]

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.requests.append(f"{self.command} {self.path}")
        path = self.path.partition("?")[0].strip("/").split("/")
        if path[:2] == ["api", "models"]:
            repo = "/".join(path[2:4])
            found = self._find(repo, path[5] if len(path) > 5 else "main")
            if found is not None:
                sha, files = found
                names = [
                    {"type": "file", "path": x, "size": len(files[x]), "oid": sha}
                    for x in files
                ]
                siblings = [{"rfilename": name} for name in files]
                info = {"id": repo, "sha": sha, "siblings": siblings, "tags": []}
                self._json(names if path[4:5] == ["tree"] else info)
            return
        if path[2:3] != ["resolve"]:
            self._reply(404)
            return
        org, name, _, revision, *rest = path
        found = self._find(f"{org}/{name}", revision)
        if found is None:
            return
        sha, files = found
        data = files.get("/".join(rest))
        if data is None:
            self._reply(404, X_Error_Code="EntryNotFound", X_Repo_Commit=sha)
            return
        etag = hashlib.sha1(data).hexdigest()
        self._reply(200, data, ETag=f'"{etag}"', X_Repo_Commit=sha)

    def do_POST(self):
        self.server.requests.append(f"POST {self.path}")
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = self.path.partition("?")[0].strip("/").split("/")
        if path == ["api", "repos", "create"]:
            fields = json.loads(body)
            repo = f"{fields['organization']}/{fields['name']}"
            self.server.repos.setdefault(repo, {EMPTY_SHA: {}})
            self._json({"url": f"{self.server.url}/{repo}"})
        elif path == ["api", "validate-yaml"]:
            self._json({"errors": [], "warnings": []})
        elif path[4] == "preupload":
            self._json(
                {
                    "files": [
                        {**file, "uploadMode": "regular", "shouldIgnore": False}
                        for file in json.loads(body)["files"]
                    ]
                }
            )
        else:
            assert path[4] == "commit", self.path
            lines = [json.loads(line) for line in body.splitlines()]
            files = {
                line["value"]["path"]: base64.b64decode(line["value"]["content"])
                for line in lines
                if line["key"] == "file"
            }
            repo = "/".join(path[2:4])
            sha = self.server.commit(repo, files)
            url = f"{self.server.url}/{repo}/commit/{sha}"
            self._json({"commitUrl": url, "commitOid": sha, "success": True})


@contextlib.contextmanager
def serve() -> Iterator[Hub]:
    """Run the server until the end of the ``with``."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
