// SPDX-License-Identifier: MIT
// All jobs of a monitor in a loop.

//go:build go1.23

package blockjob_test

import (
	"context"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
)

func TestB60AllJobsInALoop(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	fakeBackup(fake, "theirs")

	var kinds []string
	for change := range m.AllJobs(context.Background(), blockjob.WatchJobsOptions{}) {
		kinds = append(kinds, change.String())
		if change.Kind == blockjob.JobEnded {
			break
		}
		fake.Do("finish", nil)
	}
	if len(kinds) != 2 || kinds[0] != "job theirs: APPEARED backup" || kinds[1] != "job theirs: ENDED COMPLETED" {
		t.Errorf("saw %v", kinds)
	}
	gone(t, "libblockjob/go.open[") // with its loop

	ok(t, m.Close())
	for change := range m.AllJobs(patience(t), blockjob.WatchJobsOptions{}) {
		t.Errorf("%v", change)
	}
	//lint:ignore SA1012 that is the test
	for change := range m.AllJobs(nil, blockjob.WatchJobsOptions{}) {
		t.Errorf("%v", change)
	}
}
