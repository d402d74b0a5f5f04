// SPDX-License-Identifier: MIT
// Pivots that return with QEMU's consent, verbs that wait for the nodes as well, finishing a job of any kind, and jobs that
// are lost with their connection.

package blockjob_test

import (
	"context"
	"errors"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestW09AsyncPivot(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	// A job that has accepted a complete stays pending until it is finalized.
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy", ManualFinalize: true})

	ends(t, blockjob.NoOutcome)(job.Pivot(ctx, blockjob.Async()))
	if job.Outcome() != blockjob.NoOutcome || job.Timeline().CompleteAccepted.IsZero() {
		t.Errorf("%v, %+v", job.Outcome(), job.Timeline())
	}
	q.WaitStatus(job.ID(), "pending")
	ends(t, blockjob.NoOutcome)(job.Pivot(ctx, blockjob.Async()))
	ends(t, blockjob.Pivoted)(job.Finalize(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx, blockjob.Async()))
}

func TestW09AsyncPivotSaysWhatIsInItsWay(t *testing.T) {
	m := dial(t, disks(t).URI)
	job := mirror(t, m, halted)
	_, err := job.Pivot(briefly(t), blockjob.Async())
	fails(t, err, blockjob.ErrTimeout)
	_, err = job.Pivot(patience(t), blockjob.Async(), blockjob.OnlyIfReady())
	fails(t, err, blockjob.ErrNotReady)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
	_, err = job.Pivot(patience(t), blockjob.Async())
	fails(t, err, blockjob.ErrJobEnded)
}

func TestW09VerbsUntilReleased(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ends(t, blockjob.Pivoted)(job.Pivot(ctx, blockjob.Released()))
	ok(t, m.Execute(ctx, "blockdev-del", qemu.Args{"node-name": "drive"}, nil))

	q.AddDisk("drive2")
	job, err := m.Mirror(ctx, "drive2", blockjob.MirrorOptions{Target: "copy"})
	ok(t, err)
	ok(t, job.WaitReady(ctx))
	ends(t, blockjob.Copied)(job.Abort(ctx, blockjob.Released()))
	ok(t, m.Execute(ctx, "blockdev-del", qemu.Args{"node-name": "copy"}, nil))
}

func TestW09NodesThatAreKept(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy", Speed: 1, ManualDismiss: true})
	ok(t, err)

	outcome, err := job.Abort(ctx, blockjob.Force(), blockjob.Released())
	fails(t, err, blockjob.ErrStalled, "dismiss")
	if outcome != blockjob.Cancelled {
		t.Error(outcome)
	}
	ok(t, job.Dismiss(ctx))
	ends(t, blockjob.Cancelled)(job.Abort(ctx, blockjob.Released()))
}

func TestW09GroupIsAbortedUntilReleased(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	group := blockjob.NewGroup(job)

	fails(t, group.Abort(ctx, blockjob.Async(), blockjob.Released()), blockjob.ErrInvalid)
	ok(t, group.Abort(ctx, blockjob.Released()))
	ok(t, m.Execute(ctx, "blockdev-del", qemu.Args{"node-name": "copy"}, nil))
}

func TestW09OptionsThatExcludeEachOther(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	for _, options := range [][]blockjob.PivotOption{
		{blockjob.Async(), blockjob.Released()},
		{nil},
	} {
		_, err := job.Pivot(ctx, options...)
		fails(t, err, blockjob.ErrInvalid)
	}
	for _, options := range [][]blockjob.AbortOption{
		{blockjob.Async(), blockjob.Released()},
		{blockjob.ForceAfter(1), blockjob.Released()},
		{nil},
	} {
		_, err := job.Abort(ctx, options...)
		fails(t, err, blockjob.ErrInvalid)
	}
	_, err := job.Finish(ctx, nil)
	fails(t, err, blockjob.ErrInvalid)
	if job.Outcome() != blockjob.NoOutcome {
		t.Error(job)
	}
}

func TestW09EitherKindOfCommitIsFinished(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddChain()
	m := dial(t, q.URI)
	ctx := patience(t)

	job, err := m.Commit(ctx, "active", blockjob.CommitOptions{TopNode: "middle", BaseNode: "base"})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Finish(ctx, blockjob.Released()))
	job, err = m.Commit(ctx, "active", blockjob.CommitOptions{})
	ok(t, err)
	ends(t, blockjob.Pivoted)(job.Finish(ctx, blockjob.Released()))
	ok(t, m.Execute(ctx, "blockdev-del", qemu.Args{"node-name": "active"}, nil))
}

func TestW09WhatIsNotFinished(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	backup, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy", Speed: 1})
	ok(t, err)
	ok(t, backup.Pause(ctx))
	_, err = backup.Finish(ctx)
	fails(t, err, blockjob.ErrStalled)
	ends(t, blockjob.Cancelled)(backup.Abort(ctx, blockjob.Force(), blockjob.Released()))
	_, err = backup.Finish(ctx)
	fails(t, err, blockjob.ErrJobEnded, "CANCELLED")

	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ok(t, job.WaitReady(ctx))
	q.Do("job-complete", qemu.Args{"id": job.ID()}) // another client's, of a disk that nobody uses
	ends(t, blockjob.Completed)(job.Wait(ctx))
	_, err = job.Finish(ctx)
	fails(t, err, blockjob.ErrJobEnded, "unknown")
}

// lostByCut checks that an error is of a job, and of the connection.
func lostByCut(t testing.TB, err error) {
	t.Helper()
	e := fails(t, err, blockjob.ErrJobLost)
	if e.Code != blockjob.ErrJobLost || !errors.Is(err, blockjob.ErrDisconnected) || errors.Is(err, blockjob.ErrProtocol) {
		t.Errorf("%+v", e)
	}
}

func TestW09JobIsLostWithItsConnection(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	q.Kill()

	_, err = job.Wait(ctx)
	lostByCut(t, err)
	_, err = job.Pivot(ctx)
	lostByCut(t, err)
	lostByCut(t, job.Err())
	for update := range updates {
		if update.Kind == blockjob.UpdateEnded {
			lostByCut(t, update.Err)
		}
	}
	for change := range changes {
		if change.Kind == blockjob.JobEnded {
			lostByCut(t, change.Err)
		}
	}
}

func TestW09JobThatVanishedIsOnlyLost(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	fake.Do("emit", fakeqemu.Fields{"event": "JOB_STATUS_CHANGE", "data": fakeqemu.Fields{
		"id": job.ID(), "status": "null",
	}})
	_, err = job.Wait(ctx)
	fails(t, err, blockjob.ErrJobLost)
	if errors.Is(err, blockjob.ErrDisconnected) || errors.Is(job.Err(), blockjob.ErrDisconnected) {
		t.Error(err)
	}
}

func TestW09SameRun(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	change := nextChange(t, changes, blockjob.JobAppeared)
	attached, err := m.Attach(ctx, job.ID())
	ok(t, err)
	if !job.Same(change.Job) || !change.Job.Same(job) || !attached.Same(job) || change.Job == job {
		t.Errorf("%v, %v, %v", job, change.Job, attached)
	}
	ends(t, blockjob.Pivoted)(job.Finish(ctx, blockjob.Released()))
	again, err := m.Mirror(ctx, "copy", blockjob.MirrorOptions{Target: "drive", JobID: job.ID()})
	ok(t, err)
	var none *blockjob.Job
	if again.Same(job) || job.Same(nil) || none.Same(nil) || none.Same(job) || new(blockjob.Job).Same(new(blockjob.Job)) {
		t.Error("another run is the same")
	}
}

func TestW09EventsByName(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	events, err := m.Events(ctx, "BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED", "NO_SUCH_EVENT")
	ok(t, err)
	ends(t, blockjob.Pivoted)(mirror(t, m, blockjob.MirrorOptions{Target: "copy"}).Finish(ctx, blockjob.Released()))
	for _, name := range []string{"BLOCK_JOB_READY", "BLOCK_JOB_COMPLETED"} {
		if event := <-events; event.Name != name || event.Dropped != 0 {
			t.Errorf("%+v", event)
		}
	}
	ok(t, m.Close())
	for event := range events {
		t.Errorf("%+v", event)
	}
}

func TestW09FloodOfOtherEventsCostsNothing(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 2))
	ctx := patience(t)
	events, err := m.Events(ctx, "WANTED")
	ok(t, err)
	fake.Do("emit", fakeqemu.Fields{"event": "WANTED"})
	for i := 0; i < 100; i++ {
		fake.Do("emit", fakeqemu.Fields{"event": "OTHER"})
	}
	fake.Do("emit", fakeqemu.Fields{"event": "WANTED"})
	for i := 0; i < 2; i++ {
		if event := <-events; event.Name != "WANTED" || event.Dropped != 0 {
			t.Errorf("%+v", event)
		}
	}
}

func TestW09NamesOfEventsThatAreNone(t *testing.T) {
	m := dial(t, fakeqemu.Start(t, "7.2").URI)
	for _, names := range [][]string{{""}, {"A", ""}, {"A\x00B"}, {"\xff"}, make([]string, 1025)} {
		_, err := m.Events(patience(t), names...)
		fails(t, err, blockjob.ErrInvalid)
	}
}

// QEMU owes a reply, and the last monitor's Close would wait for it.
func TestW09CloseAsync(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := context.Background()
	job := mirror(t, m, halted)
	q.Stop()
	pending := start(func() (blockjob.Outcome, error) {
		return blockjob.NoOutcome, m.Execute(ctx, "query-status", nil, nil)
	})
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })

	gone := m.CloseAsync()
	again := m.CloseAsync()
	fails(t, m.Execute(ctx, "query-status", nil, nil), blockjob.ErrClosed)
	fails(t, (<-pending).err, blockjob.ErrClosed)
	fails(t, (<-waiting).err, blockjob.ErrClosed)
	<-m.Done()
	q.GoOn()
	<-gone
	<-again
	ok(t, m.Close())
	noGoroutines(t)
	<-new(blockjob.Monitor).CloseAsync()
}
