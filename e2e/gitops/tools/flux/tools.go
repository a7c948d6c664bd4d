//go:build tools

// Package tools names Flux's controllers, so that go.mod pins them.
package tools

import (
	_ "github.com/fluxcd/kustomize-controller"
	_ "github.com/fluxcd/source-controller"
)
