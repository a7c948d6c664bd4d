// Package kgo pins franz-go, whose own test suite is run against a broker.
package kgo

import _ "github.com/twmb/franz-go/pkg/kgo"
