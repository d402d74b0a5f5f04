// SPDX-License-Identifier: MIT
// Several jobs: awaited, pivoted or given up together, and started as one.

package blockjob_test

import (
	"errors"
	"fmt"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// pairs is a qemu-storage-daemon with the full disks "one" and "two", and room for a copy of each.
func pairs(t testing.TB) *qemu.QEMU {
	t.Helper()
	q := qemu.Daemon(t)
	for _, name := range []string{"one", "two"} {
		q.AddDisk(name)
		q.AddEmpty(name + "-copy")
	}
	return q
}

// fakeMirrors starts mirrors with the ids "job0", "job1", ...
func fakeMirrors(t testing.TB, m *blockjob.Monitor, count int) []*blockjob.Job {
	t.Helper()
	var jobs []*blockjob.Job
	for i := 0; i < count; i++ {
		job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{
			Target: fmt.Sprint("copy", i), JobID: fmt.Sprint("job", i),
		})
		ok(t, err)
		jobs = append(jobs, job)
	}
	return jobs
}

// decides checks whose error it is.
func decides(t testing.TB, job *blockjob.Job, err error) {
	t.Helper()
	var e *blockjob.Error
	if !errors.As(err, &e) || e.Job != job {
		t.Errorf("%v was decided by %v, not by %v", err, e.Job, job)
	}
}

func TestB08AllArePivoted(t *testing.T) {
	m := dial(t, pairs(t).URI)
	ctx := patience(t)
	quick, err := m.Mirror(ctx, "one", blockjob.MirrorOptions{Target: "one-copy"})
	ok(t, err)
	slow, err := m.Mirror(ctx, "two", blockjob.MirrorOptions{Target: "two-copy", Speed: 1, BufSize: 65536})
	ok(t, err)
	group := blockjob.NewGroup(quick, slow)
	if jobs := group.Jobs(); len(jobs) != 2 || jobs[0] != quick || jobs[1] != slow {
		t.Errorf("jobs %v", jobs)
	}

	pivot := make(chan error, 1)
	go func() { pivot <- group.Pivot(ctx) }()
	<-quick.Ready()
	// Nothing is completed before all are ready.
	fails(t, group.WaitReady(briefly(t)), blockjob.ErrTimeout)
	if !quick.Timeline().CompleteSent.IsZero() {
		t.Error("complete was sent")
	}
	release(t, slow)
	ok(t, <-pivot)
	ok(t, group.WaitReleased(ctx))
	ok(t, group.WaitReady(ctx))
	ok(t, group.Pivot(ctx))
	for _, job := range group.Jobs() {
		if job.Outcome() != blockjob.Pivoted {
			t.Errorf("%s ended %v", job.ID(), job.Outcome())
		}
	}
}

func TestB08JobsOfTwoMonitors(t *testing.T) {
	q := pairs(t)
	ctx := patience(t)
	one, err := dial(t, q.URI).Mirror(ctx, "one", blockjob.MirrorOptions{Target: "one-copy"})
	ok(t, err)
	two, err := dial(t, q.Second).Mirror(ctx, "two", blockjob.MirrorOptions{Target: "two-copy"})
	ok(t, err)
	ok(t, blockjob.NewGroup(one, two).Pivot(ctx))
}

func TestB08NoneIsPivotedWhenOneFails(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 3)
	pivot := make(chan error, 1)
	go func() { pivot <- blockjob.NewGroup(jobs...).Pivot(patience(t)) }()
	for i := 0; i < 2; i++ {
		fake.Do("ready", fakeqemu.Fields{"job": jobs[i].ID()})
		<-jobs[i].Ready()
	}
	fake.Do("fail", fakeqemu.Fields{"job": "job2", "error": "No space left on device"})
	err := <-pivot
	fails(t, err, blockjob.ErrJobFailed, "No space left on device")
	decides(t, jobs[2], err)
	for i := 0; i < 2; i++ {
		if jobs[i].Outcome() == blockjob.Pivoted || jobs[i].Outcome() == blockjob.NoOutcome {
			t.Errorf("%s ended %v", jobs[i].ID(), jobs[i].Outcome())
		}
	}
}

func TestB08Any(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 2)
	ctx := patience(t)
	group := blockjob.NewGroup(jobs...)
	_, err := group.WaitAny(briefly(t))
	fails(t, err, blockjob.ErrTimeout)

	fake.Do("ready", fakeqemu.Fields{"job": "job1"})
	ends(t, blockjob.Pivoted)(jobs[1].Pivot(ctx))
	first, err := group.WaitAny(ctx)
	ok(t, err)
	if first != jobs[1] {
		t.Errorf("%s was the first", first.ID())
	}
	fake.Do("fail", fakeqemu.Fields{"job": "job0"})
	first, err = blockjob.NewGroup(jobs[0]).WaitAny(ctx)
	fails(t, err, blockjob.ErrJobFailed)
	decides(t, jobs[0], err)
	if first != jobs[0] {
		t.Errorf("%v was the first", first)
	}
}

func TestB08WaitTellsTheFirstThatFailed(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 2)
	waiting := make(chan error, 1)
	go func() { waiting <- blockjob.NewGroup(jobs...).Wait(patience(t)) }()
	fake.Do("fail", fakeqemu.Fields{"job": "job0", "error": "Input/output error"})
	<-jobs[0].Done()
	select {
	case err := <-waiting:
		t.Fatalf("the other goes on, and yet: %v", err)
	default:
	}
	fake.Do("ready", fakeqemu.Fields{"job": "job1"})
	ends(t, blockjob.Pivoted)(jobs[1].Pivot(patience(t)))
	err := <-waiting
	fails(t, err, blockjob.ErrJobFailed, "Input/output error")
	decides(t, jobs[0], err)
}

func TestB08ReadyTellsWhoWillNotBe(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 2)
	waiting := make(chan error, 1)
	go func() { waiting <- blockjob.NewGroup(jobs...).WaitReady(patience(t)) }()
	ends(t, blockjob.Cancelled)(jobs[1].Abort(patience(t)))
	err := <-waiting
	if e := fails(t, err, blockjob.ErrJobEnded); e.Outcome != blockjob.Cancelled {
		t.Errorf("ended %v", e.Outcome)
	}
	decides(t, jobs[1], err)
}

func TestB08KindWithoutAPivot(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	jobs := fakeMirrors(t, m, 1)
	backup, err := m.Backup(patience(t), "disk0", blockjob.BackupOptions{Target: "copy1"})
	ok(t, err)
	err = blockjob.NewGroup(jobs[0], backup).Pivot(patience(t))
	fails(t, err, blockjob.ErrState)
	decides(t, backup, err)
	if jobs[0].Outcome() != blockjob.NoOutcome || backup.Outcome() != blockjob.NoOutcome {
		t.Error("something was aborted")
	}
}

func TestB08Abort(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 2)
	ctx := patience(t)
	group := blockjob.NewGroup(jobs...)
	fails(t, group.Abort(ctx, blockjob.ForceAfter(1)), blockjob.ErrInvalid, "ForceAfter")
	fake.Do("ready", fakeqemu.Fields{"job": "job1"})
	<-jobs[1].Ready()
	for _, job := range jobs {
		fake.Do("hold-end", fakeqemu.Fields{"job": job.ID()})
	}
	ok(t, group.Abort(ctx, blockjob.Async()))
	for _, job := range jobs {
		fake.Do("finish", fakeqemu.Fields{"job": job.ID()})
	}
	ok(t, group.Abort(ctx))
	if jobs[0].Outcome() != blockjob.Cancelled || jobs[1].Outcome() != blockjob.Copied {
		t.Errorf("ended %v, %v", jobs[0].Outcome(), jobs[1].Outcome())
	}
}

// Such a QEMU has no event for it.
func TestC115AnotherClientsPauseRollsBack(t *testing.T) {
	for _, profile := range []string{"1.7", "2.12"} {
		fake := fakeqemu.Start(t, profile)
		m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitPollMS, 10))
		var jobs []*blockjob.Job
		for _, device := range []string{"drive-a", "drive-b"} {
			job, err := m.Start(patience(t), "drive-mirror", map[string]string{
				"device": device, "target": "copy", "sync": "full",
			})
			ok(t, err)
			jobs = append(jobs, job)
		}
		fake.Do("ready", fakeqemu.Fields{"job": jobs[0].ID()})
		<-jobs[0].Ready()
		pivot := make(chan error, 1)
		go func() { pivot <- blockjob.NewGroup(jobs...).Pivot(patience(t)) }()
		fake.Do("execute", fakeqemu.Fields{
			"command": "block-job-pause", "arguments": fakeqemu.Fields{"device": jobs[1].ID()},
		})
		err := <-pivot
		fails(t, err, blockjob.ErrStalled)
		decides(t, jobs[1], err)
		if jobs[0].Outcome() != blockjob.Copied || jobs[1].Outcome() != blockjob.NoOutcome {
			t.Errorf("outcomes %v, %v", jobs[0].Outcome(), jobs[1].Outcome())
		}
	}
}

func TestB07GroupsWaitLeavesTheJobsAlone(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	jobs := fakeMirrors(t, dial(t, fake.URI), 2)
	group := blockjob.NewGroup(jobs...)
	fails(t, group.Wait(briefly(t)), blockjob.ErrTimeout)
	fails(t, group.Pivot(briefly(t)), blockjob.ErrTimeout)
	for _, job := range jobs {
		fake.Do("ready", fakeqemu.Fields{"job": job.ID()})
		<-job.Ready()
	}
	// The pivot that nobody awaits any more was not begun.
	for _, job := range jobs {
		if !job.Timeline().CompleteSent.IsZero() {
			t.Error("complete was sent")
		}
	}
	ok(t, group.Pivot(patience(t)))
}

func TestWhatIsNoGroup(t *testing.T) {
	fails(t, blockjob.NewGroup().Wait(patience(t)), blockjob.ErrInvalid, "empty")

	fake, other := fakeqemu.Start(t, "7.2"), fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	stranger := dial(t, other.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 17))
	one, two := fakeMirrors(t, m, 1)[0], fakeMirrors(t, stranger, 1)[0]
	fails(t, blockjob.NewGroup(one, two).Wait(patience(t)), blockjob.ErrInvalid, "limits")

	stranger.Close()
	m.Close()
	fails(t, blockjob.NewGroup(one).Wait(patience(t)), blockjob.ErrClosed)
}

func backup(disk string, speed int) blockjob.Action {
	return blockjob.Action{Type: "blockdev-backup", Data: map[string]any{
		"device": disk, "target": disk + "-copy", "sync": "full", "speed": speed,
	}}
}

func bitmap(name string) blockjob.Action {
	return blockjob.Action{Type: "block-dirty-bitmap-add", Data: map[string]string{"node": "one", "name": name}}
}

func TestB43Transaction(t *testing.T) {
	m := dial(t, pairs(t).URI)
	ctx := patience(t)
	jobs, err := m.Transaction(ctx, []blockjob.Action{backup("one", 0), bitmap("first"), backup("two", 0)})
	ok(t, err)
	if len(jobs) != 2 {
		t.Fatalf("%d jobs", len(jobs))
	}
	for _, job := range jobs {
		ends(t, blockjob.Completed)(job.WaitReleased(ctx))
	}
	// What the library adds to a start it adds here.
	if left, err := m.Jobs(ctx); err != nil || len(left) != 0 {
		t.Errorf("left %+v, %v", left, err)
	}
	if jobs, err = m.Transaction(ctx, []blockjob.Action{bitmap("second")}); err != nil || len(jobs) != 0 {
		t.Errorf("%d jobs, %v", len(jobs), err)
	}
}

func TestB43FateOfAGroupIsToldForEach(t *testing.T) {
	q := pairs(t)
	q.AddDisk("bad")
	q.AddFailing("bad-copy")
	m := dial(t, q.URI)
	jobs, err := m.Transaction(patience(t), []blockjob.Action{backup("one", 1), backup("bad", 0)}, blockjob.Grouped())
	ok(t, err)
	_, err = jobs[1].Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed)
	ends(t, blockjob.Cancelled)(jobs[0].Wait(patience(t)))
}

func TestB43EachHasAFateOfItsOwn(t *testing.T) {
	q := pairs(t)
	q.AddDisk("bad")
	q.AddFailing("bad-copy")
	m := dial(t, q.URI)
	jobs, err := m.Transaction(patience(t), []blockjob.Action{backup("one", 0), backup("bad", 0)})
	ok(t, err)
	err = blockjob.NewGroup(jobs...).Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed)
	decides(t, jobs[1], err)
	ends(t, blockjob.Completed)(jobs[0].Wait(patience(t)))
}

func TestB41B43RefusedTransactionLeavesNoJob(t *testing.T) {
	m := dial(t, pairs(t).URI)
	ctx := patience(t)
	_, err := m.Transaction(ctx, []blockjob.Action{backup("one", 0), backup("nowhere", 0)})
	fails(t, err, blockjob.ErrRefused, "nowhere")
	_, err = m.Transaction(ctx, []blockjob.Action{{Type: "blockdev-backup", Data: func() {}}})
	fails(t, err, blockjob.ErrInvalid)
	if left, err := m.Jobs(ctx); err != nil || len(left) != 0 {
		t.Errorf("left %+v, %v", left, err)
	}
}
