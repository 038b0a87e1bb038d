"""Debian's docker-registry in a lab: fetched once into ``build/docker-registry``, no part of the lab's own file system.

One is on loopback and speaks plain HTTP. The other is as a site's own: at the lab's address by TLS, with a certificate
that the hosts must be told of, and it asks for a login.
"""

import fcntl
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from slurm_gpushare.lab.params import CONTROLLER
from tests import debian
from tests.lab.cluster import Cluster, until

CACHE = Path(__file__).resolve().parents[2] / "build" / "docker-registry"
SUITE = "bookworm"
FOLDER = "/tmp/registry"
HOST, GUARDED = "localhost:5000", f"{CONTROLLER}:5001"
AUTHORITY = "/usr/local/share/ca-certificates/registry.crt"
LOGIN = ("alice", "secret")

# For Perl, which takes bcrypt from the C library, the one form of password that the registry knows.
HASH = 'print "$ARGV[0]:", crypt($ARGV[1], q($2b$04$abcdefghijklmnopqrstuu)), "\\n"'

# What can print a file and name itself: a shell and cat with their libraries, and a file that says which image this is.
TINY = """\
set -e
rm -rf tiny && mkdir tiny && cd tiny
mkdir bin dev etc home proc root sys tmp usr var var/tmp
cp -L /bin/sh /bin/cat bin/
ldd /bin/sh /bin/cat | grep -o '/lib[^ ]*' | sort -u | xargs cp -L --parents -t .
: >etc/passwd; : >etc/group
echo "$1" >etc/mark
"""

CERTIFICATE = (
    "openssl req -x509 -newkey rsa:2048 -noenc -days 2 -keyout key.pem -out certificate.pem "
    f"-subj /CN={CONTROLLER} -addext subjectAltName=DNS:{CONTROLLER} 2>openssl.log"
)

# python3 push.py URL REPOSITORY TAG FOLDER [USER:PASSWORD]: one layer, by the registry's HTTP API; prints the digest of
# its manifest.
PUSH = r"""
import base64, gzip, hashlib, io, json, sys, tarfile, urllib.request
OCI = "application/vnd.oci.image."
base = f"{sys.argv[1]}/v2/{sys.argv[2]}"
login = {"Authorization": "Basic " + base64.b64encode(word.encode()).decode() for word in sys.argv[5:]}

def call(method, address, data, kind="application/octet-stream"):
    request = urllib.request.Request(address, data, {"Content-Type": kind, **login}, method=method)
    return urllib.request.urlopen(request).headers

def digest(data):
    return "sha256:" + hashlib.sha256(data).hexdigest()

def blob(data, kind):
    place = call("POST", base + "/blobs/uploads/", b"")["Location"]
    call("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest(data)}", data)
    return {"mediaType": OCI + kind, "digest": digest(data), "size": len(data)}

plain = io.BytesIO()
with tarfile.open(fileobj=plain, mode="w") as tar:
    tar.add(sys.argv[4], arcname=".")
layer = blob(gzip.compress(plain.getvalue(), 1), "layer.v1.tar+gzip")
config = {"architecture": "amd64", "os": "linux", "config": {"Env": ["PATH=/bin", "FROM_IMAGE=yes"]}}
config["rootfs"] = {"type": "layers", "diff_ids": [digest(plain.getvalue())]}
config = blob(json.dumps(config).encode(), "config.v1+json")
kind = OCI + "manifest.v1+json"
manifest = json.dumps({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]}).encode()
call("PUT", f"{base}/manifests/{sys.argv[3]}", manifest, kind)
print(digest(manifest))
"""


def fetch() -> Path:
    """Return the program ``docker-registry``."""
    CACHE.mkdir(parents=True, exist_ok=True)
    # Each process of pytest-xdist has fixtures of its own: the second waits for what the first fetches.
    with (CACHE / ".lock").open("w") as lock, tempfile.TemporaryDirectory(prefix=".new-", dir=CACHE) as folder:
        fcntl.flock(lock, fcntl.LOCK_EX)
        programs = CACHE / "bin"
        if not (programs / "docker-registry").is_file():
            debian.unpack("docker-registry", SUITE, Path(folder))
            shutil.rmtree(programs, ignore_errors=True)
            (Path(folder) / "tree" / "usr" / "bin").rename(programs)
        return programs / "docker-registry"


class Registry:
    """Two of them in a lab: at ``HOST`` for everybody, at ``GUARDED`` for who has ``LOGIN``."""

    def __init__(self, lab: Cluster):
        self._lab = lab
        lab.run("sh", "-c", f"rm -rf {FOLDER} && mkdir {FOLDER}")
        self._put("docker-registry", fetch().read_bytes())
        self._put("push.py", PUSH.encode())
        self._shell(f'chmod 755 docker-registry; {CERTIFICATE}; perl -e "$@" >users', HASH, *LOGIN)

    def _put(self, name: str, data: bytes) -> None:
        subprocess.run(self._lab.argv("sh", "-c", f"cat >{FOLDER}/{name}"), input=data, check=True)

    def _shell(self, script: str, *words: str) -> str:
        return self._lab.out("sh", "-c", f"cd {FOLDER} && {script}", "-", *words)

    def start(self) -> None:
        """Start both and wait until they answer."""
        http = {"addr": GUARDED, "tls": {"certificate": f"{FOLDER}/certificate.pem", "key": f"{FOLDER}/key.pem"}}
        guard = {"http": http, "auth": {"htpasswd": {"realm": "lab", "path": f"{FOLDER}/users"}}}
        for host, more in ((HOST, {"http": {"addr": HOST}}), (GUARDED, guard)):
            name = host.replace(":", "-")
            storage = {"filesystem": {"rootdirectory": f"{FOLDER}/data-{name}"}}
            config = {"version": 0.1, "storage": storage, **more}
            self._put(f"{name}.yml", json.dumps(config).encode())  # which is YAML, too
            self._shell(f"(setsid ./docker-registry serve {name}.yml </dev/null >{name}.log 2>&1 & echo $! >>pids)")
            until(f"registry at {host}", lambda log=f"{FOLDER}/{name}.log": "listening on" in self._lab.read(log))

    def trust(self, yes: bool) -> None:
        """Tell the lab's hosts of the certificate as Debian is told of a site's authority, or take that back."""
        self._shell(f"cp certificate.pem {AUTHORITY}" if yes else f"rm -f {AUTHORITY}")
        self._lab.run("update-ca-certificates", *([] if yes else ["--fresh"]))

    def stop(self) -> None:
        """End both and remove all that they left."""
        self.trust(False)
        self._lab.run("sh", "-c", f"kill -9 $(cat {FOLDER}/pids)", check=False)
        self._lab.run("rm", "-rf", FOLDER, check=False)

    def push_tiny(self, name: str, tag: str, mark: str) -> str:
        """Put an OCI image whose /etc/mark is ``mark`` into both, and return its manifest's digest."""
        self._shell(TINY, mark)
        self._shell('python3 push.py "$@"', f"https://{GUARDED}", name, tag, "tiny", ":".join(LOGIN))
        return self._shell('python3 push.py "$@"', f"http://{HOST}", name, tag, "tiny")

    def push_sif(self, sif: str, place: str, *variables: str) -> None:
        """Put an image file at ``place``, HOST/NAME:TAG, as Apptainer does it by ORAS."""
        self._lab.run("env", *variables, "apptainer", "push", sif, f"oras://{place}", timeout=120)
