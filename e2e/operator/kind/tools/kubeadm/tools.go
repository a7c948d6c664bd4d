//go:build tools

// Package tools names what a node image of kind needs besides the programs of ../../../tools, so that go.mod pins it.
package tools

import (
	_ "k8s.io/kubernetes/cmd/kubeadm"
)
