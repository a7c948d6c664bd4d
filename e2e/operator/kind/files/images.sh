#!/bin/sh
# The images that kubeadm's pods run, before the kubelet asks for them.
set -eu
for archive in /kind/images/*.tar; do
  ctr -n k8s.io images import "$archive"
done
