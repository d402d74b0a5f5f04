// SPDX-License-Identifier: MIT
// Why a context has ended, as the program gave it.

//go:build go1.21

package blockjob_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
)

var errShutdown = errors.New("the host shuts down")

// because checks that an error has the code, the context's error and the program's reason.
func because(t *testing.T, err error, code blockjob.Code, context error) {
	t.Helper()
	fails(t, err, code)
	if !errors.Is(err, context) || !errors.Is(err, errShutdown) || strings.Count(err.Error(), errShutdown.Error()) != 1 {
		t.Errorf("%v is not both %v and %v", err, context, errShutdown)
	}
}

func TestC108CauseOfACancelledContext(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	ctx, cancel := context.WithCancelCause(context.Background())
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })
	cancel(errShutdown)
	because(t, (<-waiting).err, blockjob.ErrCancelled, context.Canceled)
	because(t, m.Execute(ctx, "query-jobs", nil, nil), blockjob.ErrCancelled, context.Canceled)

	// One without a reason repeats nothing.
	plain, stop := context.WithCancel(context.Background())
	stop()
	err = m.Execute(plain, "query-jobs", nil, nil)
	if err.Error() != "blockjob: query-jobs: context canceled" {
		t.Errorf("%v", err)
	}
}

func TestC108CauseOfADeadline(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	// The library's timer and the context's run out at the same time, in either order.
	for i := 0; i < 20; i++ {
		ctx, cancel := context.WithTimeoutCause(context.Background(), time.Millisecond, errShutdown)
		_, err = job.Wait(ctx)
		because(t, err, blockjob.ErrTimeout, context.DeadlineExceeded)
		_, err = job.Pivot(ctx)
		because(t, err, blockjob.ErrTimeout, context.DeadlineExceeded)
		cancel()
	}
}
