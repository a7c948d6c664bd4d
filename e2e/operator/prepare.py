"""Make what the tests on Kubernetes need, so that it is there when it is needed: programs from Go modules, images."""

from __future__ import annotations

from e2e.gitops.programs import programs
from e2e.operator import images
from e2e.operator.providers import CACHE, REPOSITORY, build_binaries


def main() -> None:
    print(build_binaries(), flush=True)
    for reference, archive in images.build_all(REPOSITORY, CACHE / "archives").items():
        print(f"{reference}: {archive.stat().st_size / 1e6:.0f} MB", flush=True)
    print(programs(), flush=True)


if __name__ == "__main__":
    main()
