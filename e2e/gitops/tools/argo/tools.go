//go:build tools

// Package tools names Argo CD and the programs that its repo server runs, so that go.mod pins them.
package tools

import (
	_ "github.com/argoproj/argo-cd/v3/cmd"
	_ "helm.sh/helm/v3/cmd/helm"
	_ "sigs.k8s.io/kustomize/kustomize/v5"
)
