// SPDX-License-Identifier: MIT

//go:build go1.20

package blockjob

import "context"

// cause returns why a context has ended: what the program said, or else the context's error.
func cause(ctx context.Context) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return ctx.Err() // a Context of another package, before Go 1.23
}
