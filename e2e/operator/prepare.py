"""Make what the tests on Kubernetes need, so that it is there when it is needed: programs from Go modules, images."""

from __future__ import annotations

import time

from e2e.gitops.programs import programs
from e2e.operator import apache_image, images
from e2e.operator.providers import CACHE, REPOSITORY, build_binaries


def main() -> None:
    print(build_binaries(), flush=True)
    began = time.monotonic()
    archives = images.build_all(REPOSITORY, CACHE / "archives")
    print(f"images of the broker and the operator: {time.monotonic() - began:.0f} s", flush=True)
    began = time.monotonic()
    archives[apache_image.reference(apache_image.VERSIONS[0])] = apache_image.build()
    print(f"image of Apache Kafka: {time.monotonic() - began:.0f} s", flush=True)
    for reference, archive in archives.items():
        print(f"{reference}: {archive.stat().st_size / 1e6:.0f} MB", flush=True)
    print(programs(), flush=True)


if __name__ == "__main__":
    main()
