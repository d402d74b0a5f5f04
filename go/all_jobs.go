// SPDX-License-Identifier: MIT
// All jobs of a monitor in a loop.

//go:build go1.23

package blockjob

import (
	"context"
	"iter"
)

// AllJobs is [Monitor.WatchJobs] for a loop, whose end is that of the stream:
//
//	for change := range monitor.AllJobs(ctx, blockjob.WatchJobsOptions{}) {
//		if change.Kind == blockjob.JobEnded {
//			return change.Outcome
//		}
//	}
//
// The stream is opened by the loop. Where WatchJobs would return an error there are no changes.
func (m *Monitor) AllJobs(ctx context.Context, options WatchJobsOptions) iter.Seq[JobChange] {
	return func(yield func(JobChange) bool) {
		if ctx == nil {
			return
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()

		changes, err := m.WatchJobs(ctx, options)
		if err != nil {
			return
		}
		for change := range changes {
			if !yield(change) {
				return
			}
		}
	}
}
