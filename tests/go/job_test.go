// SPDX-License-Identifier: MIT
// How jobs end, and that the truth is told about it.

package blockjob_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestB14Pivot(t *testing.T) {
	q := disks(t)
	q.AddGuest("drive")
	m := dial(t, q.URI)
	ctx := patience(t)

	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy", Sync: "full"})
	if job.ID() == "" || job.Type() != "mirror" || job.Outcome() != blockjob.NoOutcome || job.Err() != nil {
		t.Errorf("job %q of type %q: %v, %v", job.ID(), job.Type(), job.Outcome(), job.Err())
	}
	ok(t, job.WaitReady(ctx))
	if !job.IsReady() {
		t.Error("not ready")
	}
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	ends(t, blockjob.Pivoted)(job.WaitReleased(ctx))
	if job.Outcome() != blockjob.Pivoted || job.Err() != nil {
		t.Errorf("ended %v, %v", job.Outcome(), job.Err())
	}
	if q.DiskOfGuest() != "copy" {
		t.Errorf("the guest's disk is %s", q.DiskOfGuest())
	}
	if !q.SameData("drive", "copy") {
		t.Error("the copy is another")
	}
}

func TestB14PivotOnASystemEmulator(t *testing.T) {
	q := qemu.System(t)
	q.AddDisk("drive")
	q.AddEmpty("copy")
	m := dial(t, q.URI)

	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestTimeline(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)

	before := time.Now().Add(-time.Second)
	job := mirror(t, m, halted)
	line := job.Timeline()
	if line.StartSent.Before(before) || !line.ReadyEvent.IsZero() || !line.CompleteSent.IsZero() || !line.EndSeen.IsZero() {
		t.Errorf("at first %+v", line)
	}
	release(t, job)
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))

	line = job.Timeline()
	for _, pair := range [][2]time.Time{
		{line.StartSent, line.ReadySeen}, {line.ReadyEvent, line.ReadySeen}, {line.ReadySeen, line.CompleteSent},
		{line.CompleteSent, line.CompleteAccepted}, {line.CompleteSent, line.EndEvent}, {line.EndEvent, line.EndSeen},
	} {
		if pair[0].IsZero() || pair[1].Before(pair[0]) {
			t.Errorf("at last %+v", line)
		}
	}
}

func TestB14SoftAbortOfAReadyMirrorIsACopy(t *testing.T) {
	q := disks(t)
	q.AddGuest("drive")
	m := dial(t, q.URI)
	ctx := patience(t)

	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ok(t, job.WaitReady(ctx))
	ends(t, blockjob.Copied)(job.Abort(ctx))
	if q.DiskOfGuest() != "drive" {
		t.Errorf("the guest's disk is %s", q.DiskOfGuest())
	}
	if !q.SameData("drive", "copy") {
		t.Error("the copy is another")
	}

	// Which is not a pivot.
	_, err := job.Pivot(ctx)
	if e := fails(t, err, blockjob.ErrJobEnded); e.Outcome != blockjob.Copied {
		t.Errorf("ended %v", e.Outcome)
	}
}

func TestC10AFilterWhoseDiskAnotherClientReplaces(t *testing.T) {
	for _, c := range []struct {
		command, key string
		outcome      blockjob.Outcome
	}{
		{"job-complete", "id", blockjob.Pivoted},
		{"block-job-cancel", "device", blockjob.Copied},
	} {
		q := disks(t)
		q.Do("blockdev-add", qemu.Args{"driver": "copy-on-read", "node-name": "top", "file": "drive"})
		q.AddGuest("top")
		m := dial(t, q.URI)
		job, err := m.Mirror(patience(t), "top", blockjob.MirrorOptions{Target: "copy", Replaces: "drive"})
		ok(t, err)
		ok(t, job.WaitReady(patience(t)))
		sawGraph(t, m)
		q.Do(c.command, qemu.Args{c.key: job.ID()})
		ends(t, c.outcome)(job.Wait(patience(t)))
	}
}

func TestB14AbortBeforeReadyIsCancelled(t *testing.T) {
	m := dial(t, disks(t).URI)
	ends(t, blockjob.Cancelled)(mirror(t, m, halted).Abort(patience(t)))
}

func TestB14ForcedAbortOfAReadyMirrorIsCancelled(t *testing.T) {
	m := dial(t, disks(t).URI)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ok(t, job.WaitReady(patience(t)))
	ends(t, blockjob.Cancelled)(job.Abort(patience(t), blockjob.Force()))
}

func TestB36SoftAbortBecomesForced(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	for _, options := range [][]blockjob.AbortOption{
		{blockjob.Force(), blockjob.ForceAfter(0)}, {blockjob.ForceAfter(0), blockjob.Async()}, {blockjob.ForceAfter(-1)}, {blockjob.ForceAfter(0)},
	} {
		_, err := job.Abort(ctx, options...)
		fails(t, err, blockjob.ErrInvalid, "ForceAfter")
	}

	fake.Do("ready", nil)
	fake.Do("hold-end", nil)
	ok(t, job.WaitReady(ctx))
	aborted := start(func() (blockjob.Outcome, error) {
		return job.Abort(ctx, blockjob.ForceAfter(20*time.Millisecond))
	})
	fake.Wait("block-job-cancel") // softly
	fake.Wait("job-cancel")       // which always forces
	fake.Do("finish", nil)
	a := <-aborted
	ends(t, blockjob.Cancelled)(a.outcome, a.err)
}

func TestB37AsyncAbortIsHeardOfByAll(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })

	// Accepted, and not over yet.
	fake.Do("hold-end", nil)
	ends(t, blockjob.NoOutcome)(job.Abort(ctx, blockjob.Async()))
	fake.Do("finish", nil)
	a := <-waiting
	ends(t, blockjob.Cancelled)(a.outcome, a.err)
	<-job.Done()
	var last blockjob.Update
	for last = range updates {
	}
	if last.Kind != blockjob.UpdateEnded || last.Outcome != blockjob.Cancelled {
		t.Errorf("the last update is %+v", last)
	}
}

func TestB35AbortOfWhatIsOver(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	ends(t, blockjob.Pivoted)(job.Abort(ctx))
	ends(t, blockjob.Pivoted)(job.Abort(ctx, blockjob.Force()))
	ends(t, blockjob.Pivoted)(job.Abort(ctx, blockjob.Async()))
	ends(t, blockjob.Pivoted)(job.Abort(ctx, blockjob.ForceAfter(time.Minute)))
}

func TestB11FailureHasQEMUsText(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddFailing("copy")
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})

	const text = "Input/output error"
	outcome, err := job.Pivot(ctx)
	e := fails(t, err, blockjob.ErrJobFailed, text)
	if outcome != blockjob.Failed || e.Outcome != blockjob.Failed || e.Timeout() || e.Error() != "blockjob: "+e.Text {
		t.Errorf("%v, %+v", outcome, e)
	}
	_, err = job.Wait(ctx)
	fails(t, err, blockjob.ErrJobFailed, text)
	fails(t, job.WaitReady(ctx), blockjob.ErrJobFailed, text)
	fails(t, job.Err(), blockjob.ErrJobFailed, text)
	ends(t, blockjob.Failed)(job.Abort(ctx)) // the truth, not an error (B17)
	<-job.Done()
	if job.Outcome() != blockjob.Failed || isClosed(job.Ready()) {
		t.Errorf("ended %v", job.Outcome())
	}
}

func TestB13StalledJobIsTold(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddFailingOnce("copy")
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy", OnTargetError: "stop"})

	fails(t, job.WaitReady(ctx), blockjob.ErrStalled)
	_, err := job.Wait(ctx)
	fails(t, err, blockjob.ErrStalled)
	_, err = job.Pivot(ctx)
	fails(t, err, blockjob.ErrStalled)
	_, err = job.Abort(ctx)
	fails(t, err, blockjob.ErrStalled)

	// Who watches hears of it too; it is neither ready nor over.
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	if u := <-updates; u.Kind != blockjob.UpdateStalled || u.Text == "" {
		t.Errorf("the first update is %+v", u)
	}
	if isClosed(job.Ready()) || isClosed(job.Done()) {
		t.Error("ready or over")
	}

	ok(t, job.Resume(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	<-job.Ready()
	<-job.Done()
	var kinds []blockjob.UpdateKind
	for u := range updates {
		if u.Kind != blockjob.UpdateStatus {
			kinds = append(kinds, u.Kind)
		}
	}
	if len(kinds) != 3 || kinds[0] != blockjob.UpdateResumed || kinds[1] != blockjob.UpdateReady || kinds[2] != blockjob.UpdateEnded {
		t.Errorf("updates %v", kinds)
	}
}

func TestB13ForceEndsAStalledJob(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddFailing("copy")
	m := dial(t, q.URI)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy", OnTargetError: "stop"})
	fails(t, job.WaitReady(patience(t)), blockjob.ErrStalled)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t), blockjob.Force()))
}

func TestB31PivotBeforeReadyWaits(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(ctx) })
	fails(t, job.WaitReady(briefly(t)), blockjob.ErrTimeout)
	release(t, job)
	a := <-pivot
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
}

func TestB31PivotOnlyIfReady(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	_, err := job.Pivot(ctx, blockjob.OnlyIfReady())
	fails(t, err, blockjob.ErrNotReady, job.ID())
	if job.Outcome() != blockjob.NoOutcome || !job.Timeline().CompleteSent.IsZero() {
		t.Errorf("%v, %+v", job.Outcome(), job.Timeline())
	}
	release(t, job)
	<-job.Ready()
	ends(t, blockjob.Pivoted)(job.Pivot(ctx, blockjob.OnlyIfReady()))
}

func TestB32CallersShareOnePivot(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	var pivots []<-chan answer
	for i := 0; i < 50; i++ {
		pivots = append(pivots, start(func() (blockjob.Outcome, error) { return job.Pivot(ctx) }))
	}
	fake.Do("ready", nil)
	for _, pivot := range pivots {
		a := <-pivot
		ends(t, blockjob.Pivoted)(a.outcome, a.err)
	}
	if n := fake.Sent("job-complete") + fake.Sent("block-job-complete"); n != 1 {
		t.Errorf("complete was sent %d times", n)
	}
}

func TestStream(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddChain()
	m := dial(t, q.URI)
	job, err := m.Stream(patience(t), "active", blockjob.StreamOptions{})
	ok(t, err)
	ends(t, blockjob.Completed)(job.WaitReleased(patience(t)))
	if isClosed(job.Ready()) {
		t.Error("ready")
	}
}

func TestB09StreamIsNeverReady(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddChain()
	m := dial(t, q.URI)
	ctx := patience(t)
	job, err := m.Stream(ctx, "active", blockjob.StreamOptions{Speed: 1})
	ok(t, err)
	fails(t, job.WaitReady(ctx), blockjob.ErrState, job.ID())
	_, err = job.Pivot(ctx)
	fails(t, err, blockjob.ErrState, job.ID())
	ends(t, blockjob.Cancelled)(job.Abort(ctx))
}

func TestB09ReadyWaitEndsWithTheJob(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	waiting := start(func() (blockjob.Outcome, error) { return blockjob.NoOutcome, job.WaitReady(ctx) })
	ends(t, blockjob.Cancelled)(job.Abort(ctx))
	if e := fails(t, (<-waiting).err, blockjob.ErrJobEnded); e.Outcome != blockjob.Cancelled {
		t.Errorf("ended %v", e.Outcome)
	}
}

func TestCommitOfTheActiveLayer(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddChain()
	q.AddGuest("active")
	m := dial(t, q.URI)
	ctx := patience(t)
	job, err := m.Commit(ctx, "active", blockjob.CommitOptions{BaseNode: "middle"})
	ok(t, err)
	<-job.Ready()
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	if q.DiskOfGuest() != "middle" {
		t.Errorf("the guest's disk is %s", q.DiskOfGuest())
	}
}

func TestCommitOfAnIntermediateLayer(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddChain()
	m := dial(t, q.URI)
	job, err := m.Commit(patience(t), "active", blockjob.CommitOptions{TopNode: "middle", BaseNode: "base"})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestBackup(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	job, err := m.Backup(patience(t), "drive", blockjob.BackupOptions{Target: "copy"})
	ok(t, err)
	ends(t, blockjob.Completed)(job.WaitReleased(patience(t)))
	if !q.SameData("drive", "copy") {
		t.Error("the copy is another")
	}
}

func TestB52AnyCommandThatStartsAJob(t *testing.T) {
	q := qemu.Daemon(t)
	path := filepath.Join(qemu.TempDir(t), "new.raw")
	ok(t, os.WriteFile(path, nil, 0o600))
	q.Do("blockdev-add", qemu.Args{"driver": "file", "node-name": "new", "filename": path})
	m := dial(t, q.URI)

	job, err := m.Start(patience(t), "blockdev-create", map[string]any{
		"job-id": "making", "options": map[string]any{"driver": "file", "filename": path, "size": qemu.DiskBytes},
	})
	ok(t, err)
	if job.ID() != "making" {
		t.Errorf("id %q", job.ID())
	}
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	if info, err := os.Stat(path); err != nil || info.Size() != qemu.DiskBytes {
		t.Errorf("%v, %v", info, err)
	}
}

func TestB19TwoJobsInParallel(t *testing.T) {
	q := disks(t)
	q.AddDisk("other")
	q.AddEmpty("target")
	m := dial(t, q.URI)
	ctx := patience(t)

	one := mirror(t, m, halted)
	two, err := m.Mirror(ctx, "other", blockjob.MirrorOptions{Target: "target"})
	ok(t, err)
	if one.ID() == two.ID() {
		t.Errorf("both are %s", one.ID())
	}
	ends(t, blockjob.Pivoted)(two.Pivot(ctx))
	if isClosed(one.Ready()) || isClosed(one.Done()) || one.Outcome() != blockjob.NoOutcome {
		t.Errorf("the other has ended too: %v", one.Outcome())
	}
	ends(t, blockjob.Cancelled)(one.Abort(ctx))
	if two.Outcome() != blockjob.Pivoted {
		t.Errorf("ended %v", two.Outcome())
	}
}

func TestB51Attach(t *testing.T) {
	q := disks(t)
	q.Do("blockdev-mirror", qemu.Args{"job-id": "theirs", "device": "drive", "target": "copy", "sync": "full"})
	q.WaitStatus("theirs", "ready")
	m := dial(t, q.URI)
	ctx := patience(t)

	job, err := m.Attach(ctx, "theirs")
	ok(t, err)
	again, err := m.Attach(ctx, "theirs")
	ok(t, err)
	if job.ID() != "theirs" || job.Type() != "mirror" {
		t.Errorf("job %q of type %q", job.ID(), job.Type())
	}
	<-job.Ready()
	ok(t, job.WaitReady(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	<-again.Done()
	if again.Outcome() != blockjob.Pivoted {
		t.Errorf("the same run ended %v", again.Outcome())
	}
}

func TestC121ReleasedOfWhatAnotherClientKeeps(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	kept := func(command, id string) *blockjob.Job {
		q.Do(command, qemu.Args{
			"job-id": id, "device": "drive", "target": "copy", "sync": "full", "auto-dismiss": false,
		})
		job, err := m.Attach(ctx, id)
		ok(t, err)
		return job
	}

	backup := kept("blockdev-backup", "backup")
	_, err := backup.WaitReleased(ctx)
	fails(t, err, blockjob.ErrStalled, "dismiss")
	ok(t, backup.Dismiss(ctx))
	ends(t, blockjob.Completed)(backup.WaitReleased(ctx))

	mirror := kept("blockdev-mirror", "mirror")
	ends(t, blockjob.Pivoted)(mirror.Pivot(ctx))
	ends(t, blockjob.Pivoted)(mirror.WaitReleased(ctx))
	ok(t, mirror.Dismiss(ctx))
}

func TestB35AttachToNothing(t *testing.T) {
	m := dial(t, qemu.Daemon(t).URI)
	_, err := m.Attach(patience(t), "nowhere")
	fails(t, err, blockjob.ErrNoJob, "nowhere")
}

func TestB16CancelledByAnotherClient(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(ctx) })

	q.Do("job-cancel", qemu.Args{"id": job.ID()})
	a := <-waiting
	ends(t, blockjob.Cancelled)(a.outcome, a.err)
	if e := fails(t, (<-pivot).err, blockjob.ErrJobEnded); e.Outcome != blockjob.Cancelled {
		t.Errorf("ended %v", e.Outcome)
	}
}

func TestB20IDUsedAgainIsAnotherRun(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	options := blockjob.MirrorOptions{Target: "copy", JobID: "same"}

	first := mirror(t, m, blockjob.MirrorOptions{Target: "copy", JobID: "same", Speed: 1})
	ends(t, blockjob.Cancelled)(first.Abort(ctx, blockjob.Force()))
	ends(t, blockjob.Cancelled)(first.WaitReleased(ctx))
	second := mirror(t, m, options)
	ok(t, second.WaitReady(ctx))
	ends(t, blockjob.Copied)(second.Abort(ctx))
	ends(t, blockjob.Cancelled)(first.Wait(ctx))
}

func TestB40IDIsMadeUpAndJobIsDismissed(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	jobs, err := m.Jobs(ctx)
	ok(t, err)
	if len(jobs) != 1 || jobs[0].ID != job.ID() || jobs[0].Type != "mirror" || jobs[0].Status != "running" {
		t.Errorf("jobs %+v", jobs)
	}
	ends(t, blockjob.Cancelled)(job.Abort(ctx))
	ends(t, blockjob.Cancelled)(job.WaitReleased(ctx))
	if jobs, err = m.Jobs(ctx); err != nil || len(jobs) != 0 {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
}

func TestB40CloseLeavesNoFinishedJobBehind(t *testing.T) {
	q := disks(t)
	ctx := patience(t)
	for i := 0; i < 20; i++ {
		m, err := blockjob.Dial(ctx, q.URI)
		ok(t, err)
		job, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy"})
		ok(t, err)
		ends(t, blockjob.Completed)(job.Wait(ctx))
		ok(t, m.Close())
		q.WaitStatus(job.ID(), "null")
	}
	if jobs := q.Jobs(); len(jobs) != 0 {
		t.Errorf("jobs %v", jobs)
	}
}

func TestB41RefusedStartLeavesNoJob(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	_, err := m.Mirror(ctx, "drive", blockjob.MirrorOptions{Target: "nowhere"})
	if e := fails(t, err, blockjob.ErrRefused, "nowhere"); e.Class != "GenericError" {
		t.Errorf("class %q", e.Class)
	}
	_, err = m.Start(ctx, "blockdev-nothing", nil)
	fails(t, err, blockjob.ErrUnsupported, "blockdev-nothing")
	if jobs, err := m.Jobs(ctx); err != nil || len(jobs) != 0 {
		t.Errorf("jobs %+v, %v", jobs, err)
	}
}

func TestB42Finalize(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy", ManualFinalize: true})
	ok(t, err)
	q.WaitStatus(job.ID(), "pending")
	_, err = job.Wait(briefly(t))
	fails(t, err, blockjob.ErrTimeout)
	ends(t, blockjob.Completed)(job.Finalize(ctx))
}

func TestB44DismissOfAJobThatIsTheCallers(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy", ManualDismiss: true})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(ctx))
	q.WaitStatus(job.ID(), "concluded")
	// A dismiss of the library's would come between these two.
	for i := 0; i < 2; i++ {
		jobs, err := m.Jobs(ctx)
		ok(t, err)
		if len(jobs) != 1 || jobs[0].Status != "concluded" {
			t.Errorf("jobs %+v", jobs)
		}
	}
	ok(t, job.Dismiss(ctx))
	ok(t, job.Dismiss(ctx))
	if jobs := q.Jobs(); len(jobs) != 0 {
		t.Errorf("jobs %v", jobs)
	}
}

func TestB44PauseResumeAndSpeed(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	ok(t, job.SetSpeed(ctx, 2))
	info, err := job.Query(ctx)
	ok(t, err)
	if info.ID != job.ID() || info.Type != "mirror" || info.Speed != 2 || info.Ready || info.Paused ||
		info.Total != qemu.DiskBytes || info.Current >= info.Total {
		t.Errorf("info %+v", info)
	}
	ok(t, job.Pause(ctx))
	if info, err = job.Query(ctx); err != nil || !info.Paused {
		t.Errorf("info %+v, %v", info, err)
	}
	ok(t, job.Resume(ctx))
	if info, err = job.Query(ctx); err != nil || info.Paused {
		t.Errorf("info %+v, %v", info, err)
	}
	err = job.SetSpeed(ctx, -1)
	if !errors.Is(err, blockjob.ErrInvalid) && !errors.Is(err, blockjob.ErrRefused) {
		t.Errorf("a negative speed: %v", err)
	}

	ends(t, blockjob.Cancelled)(job.Abort(ctx))
	ends(t, blockjob.Cancelled)(job.WaitReleased(ctx))
	_, err = job.Query(ctx)
	fails(t, err, blockjob.ErrNoJob, job.ID())
	fails(t, job.Pause(ctx), blockjob.ErrState, job.ID())
	_, err = job.Finalize(ctx)
	fails(t, err, blockjob.ErrState, job.ID())
}

func TestB44VerbThatDoesNotFitTheState(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	fails(t, job.Dismiss(ctx), blockjob.ErrRefused, job.ID(), "dismiss")
	_, err := job.Finalize(ctx)
	fails(t, err, blockjob.ErrRefused, job.ID(), "finalize")
	fails(t, job.Resume(ctx), blockjob.ErrRefused, "resume")
	ok(t, job.Pause(ctx))
	fails(t, job.Pause(ctx), blockjob.ErrRefused, "paused")

	// QEMU would not answer these before someone resumes the job (B13).
	_, err = job.Pivot(ctx)
	fails(t, err, blockjob.ErrStalled, job.ID(), "paused")
	_, err = job.Abort(ctx)
	fails(t, err, blockjob.ErrStalled, job.ID(), "paused")
	ends(t, blockjob.Cancelled)(job.Abort(ctx, blockjob.Force()))
}

func TestB22NodesAreFreeWhenReleased(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	for i := 0; i < 20; i++ {
		job, err := m.Backup(ctx, "drive", blockjob.BackupOptions{Target: "copy"})
		ok(t, err)
		ends(t, blockjob.Completed)(job.WaitReleased(ctx))
	}
	ok(t, m.Execute(ctx, "blockdev-del", map[string]string{"node-name": "copy"}, nil))
}

func TestB53TwoMonitorsOnOneQEMU(t *testing.T) {
	q := disks(t)
	one, two := dial(t, q.URI), dial(t, q.Second)
	ctx := patience(t)

	job := mirror(t, one, halted)
	seen, err := two.Attach(ctx, job.ID())
	ok(t, err)
	release(t, job)
	<-seen.Ready()
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	outcome, err := seen.Wait(ctx)
	if err != nil || outcome != blockjob.Pivoted && outcome != blockjob.Completed {
		t.Errorf("the other saw %v, %v", outcome, err)
	}
}
