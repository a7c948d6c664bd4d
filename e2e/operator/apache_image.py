"""Apache Kafka's image for tests on a Kubernetes that reaches no registry: `e2e/apache/image`, kept by version.

It has the name of the official image, so that a Cluster finds it without `spec.image`. On a Kubernetes that pulls
images (the provider `existing`) the official one runs.
"""

from __future__ import annotations

import pathlib

from e2e.apache.apache import release
from e2e.operator.images import REMOVED, bake, base_image, fingerprint
from e2e.operator.providers import CACHE, REPOSITORY

CONTEXT = REPOSITORY / "e2e/apache/image"
VERSIONS = ("4.3.0", "4.4.0")
"""One of each minor version that `spec.engine.version` allows; most tests run the first."""
BASE = "localhost/broadsheet-java:2"
BASE_PACKAGES = "openjdk-17-jre-headless,bash,coreutils,grep,sed,procps,hostname,dash"
UNUSED = " usr/bin/perl* usr/share/perl* usr/lib/*/perl* usr/lib/*/libperl* usr/share/fonts usr/lib/*/gconv" + (
    " usr/lib/jvm/*/lib/ct.sym usr/lib/jvm/*/lib/server/classes_nocoops.jsa"
)
"""Comes with Debian's packages and is for other programs, or for heaps of more than 32 GiB."""
ALONE = ("unshare", "--net", "--", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")
"""Runs a command in a network of its own: the build starts a broker, and its port may be in use here."""


def reference(version: str) -> str:
    return f"docker.io/apache/kafka:{version}"


def build(version: str = VERSIONS[0], cache: pathlib.Path = CACHE / "archives") -> pathlib.Path:
    """The archive of the image of a version, built if what goes into it has changed."""
    cache.mkdir(parents=True, exist_ok=True)
    libraries = release(version)
    content = fingerprint(CONTEXT, BASE, libraries.name)
    archive = cache / f"apache-kafka-{version}-{content}.tar"
    if not archive.exists():
        base_image(BASE, BASE_PACKAGES, REMOVED + UNUSED)
        options = [f"--build-arg=BASE={BASE}", f"--build-context=libs={libraries}", "--network=host"]
        bake(CONTEXT, CONTEXT / "Dockerfile", reference(version), archive, options, ALONE)
    return archive


def main() -> None:
    """Build the images of all versions, for those tests that upgrade."""
    for version in VERSIONS:
        print(f"{reference(version)}: {build(version).stat().st_size / 1e6:.0f} MB", flush=True)


if __name__ == "__main__":
    main()
