#!/usr/bin/env bash
# Builds Argo CD, what its repo server runs, and Flux's controllers from pinned Go modules (the folders under tools/) into
# a cache outside the tree, keyed by the pins, with the definitions and the configuration that come with them.
# Seconds when nothing changed, about ten minutes on two cores from cold. Prints the folder.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cache=${BROADSHEET_CACHE:-$HOME/.cache/broadsheet}
command -v go >/dev/null || { echo "build.sh: Go is needed to build Argo CD and Flux; install it" >&2; exit 1; }
key=$(cat "$here"/tools/*/go.mod "$here"/tools/*/go.sum "$here"/tools/*/tools.go "$0" | sha256sum | cut -c1-12)
out=$cache/gitops-$key
if [ ! -e "$out/complete" ]; then
  mkdir -p "$out/argocd-manifests" "$out/flux-manifests"
  module() { (cd "$here/tools/$1" && GOFLAGS=-mod=readonly go list -m -f '{{.Dir}}' "$2"); } # folder, module: where it is
  build() { # folder, package, program, flags of the linker
    [ -x "$out/$3" ] && return
    local began=$SECONDS
    (cd "$here/tools/$1" && CGO_ENABLED=0 GOFLAGS=-mod=readonly go build -trimpath -ldflags "-s -w ${4:-}" -o "$out/$3.part" "$2")
    mv "$out/$3.part" "$out/$3"
    echo "built $3 in $((SECONDS - began)) s" >&2
  }
  argocd=github.com/argoproj/argo-cd/v3
  build argo $argocd/cmd argocd "-X $argocd/common.version=$(sed -n "s|.*$argocd v||p" "$here/tools/argo/go.mod")"
  build argo helm.sh/helm/v3/cmd/helm helm
  build argo sigs.k8s.io/kustomize/kustomize/v5 kustomize
  for controller in source-controller kustomize-controller; do
    build flux github.com/fluxcd/$controller $controller
    install -m 644 "$(module flux github.com/fluxcd/$controller)"/config/crd/bases/*.yaml "$out/flux-manifests"
  done
  from=$(module argo $argocd)/manifests
  install -m 644 "$from"/crds/*-crd.yaml "$from/base/config/argocd-cm.yaml" "$out/argocd-manifests"
  touch "$out/complete"
fi
echo "$out"
