// SPDX-License-Identifier: MIT

//go:build !go1.20

package blockjob

import "context"

// cause returns the context's error: contexts have no causes yet.
func cause(ctx context.Context) error {
	return ctx.Err()
}
