// SPDX-License-Identifier: MIT
// What fakeqemu makes go wrong, and that nothing but the truth is told about it.

package blockjob_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

const diskBytes = 64 << 20

// fakeMirror starts a mirror of "drive0" with the id "job0".
func fakeMirror(t testing.TB, m *blockjob.Monitor, target string) *blockjob.Job {
	t.Helper()
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: target, JobID: "job0"})
	ok(t, err)
	return job
}

func fakeReadyMirror(t testing.TB, fake *fakeqemu.Fake, m *blockjob.Monitor, target string) *blockjob.Job {
	t.Helper()
	job := fakeMirror(t, m, target)
	fake.Do("ready", fakeqemu.Fields{"job": "job0"})
	ok(t, job.WaitReady(patience(t)))
	return job
}

// allSeen returns when the library has read what QEMU has said so far.
func allSeen(t testing.TB, m *blockjob.Monitor) {
	t.Helper()
	ok(t, m.Execute(patience(t), "query-version", nil, nil))
}

// finishOn has the job end at the moment that QEMU hears of a cancel.
func finishOn(fake *fakeqemu.Fake) {
	for _, command := range []string{"job-cancel", "block-job-cancel"} {
		fake.Do("when", fakeqemu.Fields{
			"command": command, "at": "received", "steps": []any{map[string]any{"do": "finish", "job": "job0"}},
		})
	}
}

func refusal(text string) map[string]any {
	return map[string]any{"class": "GenericError", "desc": text}
}

func TestB01WhatACommandLeadsToComesBeforeItsReply(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	for _, command := range []string{"blockdev-mirror", "job-complete", "block-job-cancel"} {
		fake.Do("order", fakeqemu.Fields{"command": command, "events": "before", "count": 0})
	}
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	ends(t, blockjob.Pivoted)(job.WaitReleased(patience(t))) // its id is free
	ends(t, blockjob.Copied)(fakeReadyMirror(t, fake, m, "copy1").Abort(patience(t)))
}

func TestB12ErrorsThatAreReportedEndNothing(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	for _, action := range []string{"report", "ignore"} {
		fake.Do("io-error", fakeqemu.Fields{"action": action, "operation": "write"})
	}
	allSeen(t, m)
	if job.Outcome() != blockjob.NoOutcome || isClosed(job.Done()) {
		t.Errorf("ended %v", job.Outcome())
	}
	fake.Do("ready", nil)
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	for u := range updates {
		if u.Kind == blockjob.UpdateStalled {
			t.Error("stalled: ", u.Text)
		}
	}
}

func TestB15AnotherClientsVerbIsLookedUp(t *testing.T) {
	for command, outcome := range map[string]blockjob.Outcome{
		"block-job-complete": blockjob.Pivoted, "block-job-cancel": blockjob.Copied,
	} {
		fake := fakeqemu.Start(t, "7.2")
		job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
		fake.Do("execute", fakeqemu.Fields{"command": command, "arguments": map[string]any{"device": "job0"}})
		ends(t, outcome)(job.Wait(patience(t)))
	}
}

func TestB15WhereNothingCanTellNothingIsTold(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	fake.Do("answer", fakeqemu.Fields{
		"command": "x-debug-query-block-graph", "error": refusal("no graph today"), "count": 0,
	})
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	fake.Do("execute", fakeqemu.Fields{
		"command": "block-job-complete", "arguments": map[string]any{"device": "job0"},
	})
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	var last blockjob.Update
	for last = range updates {
	}
	if !strings.Contains(last.Text, "switch") {
		t.Errorf("it says %q", last.Text)
	}
}

func TestB17CancelThatComesTooLateTellsTheTruth(t *testing.T) {
	for _, options := range [][]blockjob.AbortOption{nil, {blockjob.Force()}} {
		fake := fakeqemu.Start(t, "7.2")
		m := dial(t, fake.URI)
		job, err := m.Backup(patience(t), "drive0", blockjob.BackupOptions{Target: "copy0", JobID: "job0"})
		ok(t, err)
		finishOn(fake)
		ends(t, blockjob.Completed)(job.Abort(patience(t), options...))
		ends(t, blockjob.Completed)(job.WaitReleased(patience(t)))
	}
}

func TestB18FirstEndWins(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	// So that the run is still known.
	fake.Do("answer", fakeqemu.Fields{"command": "job-dismiss", "return": map[string]any{}})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))

	device := map[string]any{"device": "job0", "type": "mirror"}
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_CANCELLED", "data": device})
	failed := map[string]any{"device": "job0", "type": "mirror", "error": "late"}
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_COMPLETED", "data": failed})
	status := map[string]any{"id": "job0", "status": "null"}
	fake.Do("emit", fakeqemu.Fields{"event": "JOB_STATUS_CHANGE", "data": status})
	allSeen(t, m)
	ends(t, blockjob.Pivoted)(job.Wait(patience(t)))
	if job.Err() != nil {
		t.Error(job.Err())
	}
	count := 0
	for u := range updates {
		if u.Kind == blockjob.UpdateEnded {
			count++
		}
	}
	if count != 1 {
		t.Errorf("ended %d times", count)
	}
}

func TestB21ConcludedRowSaysHowItEnded(t *testing.T) {
	for _, c := range []struct {
		outcome blockjob.Outcome
		verb    string
		fields  fakeqemu.Fields
	}{
		{blockjob.Completed, "finish", nil},
		{blockjob.Failed, "fail", fakeqemu.Fields{"error": "Input/output error"}},
		{blockjob.Cancelled, "execute", fakeqemu.Fields{
			"command": "job-cancel", "arguments": map[string]any{"id": "j"},
		}},
	} {
		fake := fakeqemu.Start(t, "7.2")
		fake.Do("execute", fakeqemu.Fields{"command": "blockdev-backup", "arguments": map[string]any{
			"device": "drive0", "target": "copy0", "sync": "full", "job-id": "j", "auto-dismiss": false,
		}})
		fake.Do(c.verb, c.fields)
		m := dial(t, fake.URI)
		job, err := m.Attach(patience(t), "j")
		ok(t, err)
		if job.Outcome() != c.outcome {
			t.Errorf("ended %v, want %v", job.Outcome(), c.outcome)
		}
		ok(t, job.Dismiss(patience(t)))
		if left, err := m.Jobs(patience(t)); err != nil || len(left) != 0 {
			t.Errorf("left %+v, %v", left, err)
		}
	}
}

func TestB23EqualIsNotReady(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	for _, length := range []int{diskBytes, 0} {
		fake.Do("progress", fakeqemu.Fields{"offset": length, "len": length})
		info, err := job.Query(patience(t))
		ok(t, err)
		if info.Ready || job.IsReady() || isClosed(job.Ready()) {
			t.Errorf("ready with %d of %d", length, length)
		}
		_, err = job.Pivot(patience(t), blockjob.OnlyIfReady())
		fails(t, err, blockjob.ErrNotReady)
	}
	if n := fake.Sent("job-complete") + fake.Sent("block-job-complete"); n != 0 {
		t.Errorf("complete was sent %d times", n)
	}
}

func TestB24EmptyDiskIsReadyWhenQEMUSaysSo(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	job := fakeMirror(t, dial(t, fake.URI), "copy0")
	fake.Do("progress", fakeqemu.Fields{"offset": 0, "len": 0})
	fake.Do("ready", nil)
	<-job.Ready()
	info, err := job.Query(patience(t))
	ok(t, err)
	if !info.Ready || info.Current != 0 || info.Total != 0 {
		t.Errorf("info %+v", info)
	}
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestB26QEMUThatKnowsNoReady(t *testing.T) {
	fake := fakeqemu.Start(t, "2.0")
	fake.Do("execute", fakeqemu.Fields{"command": "drive-mirror", "arguments": map[string]any{
		"device": "drive0", "target": "copy0", "sync": "full",
	}})
	fake.Do("ready", nil)
	job, err := dial(t, fake.URI).Attach(patience(t), "drive0")
	ok(t, err)
	<-job.Ready()
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestB27BounceIsNoSecondReady(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	fake.Do("bounce", fakeqemu.Fields{"times": 5})
	allSeen(t, m)
	ok(t, job.WaitReady(patience(t)))
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	ready := 0
	for u := range updates {
		switch u.Kind {
		case blockjob.UpdateReady:
			ready++
		case blockjob.UpdateStalled:
			t.Error("stalled: ", u.Text)
		}
	}
	if ready != 1 {
		t.Errorf("ready %d times", ready)
	}
}

func TestB29FloodOfBouncesDisturbsNobody(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")
	fake.Do("bounce", fakeqemu.Fields{"times": 500})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	if times := fake.Sent("job-complete"); times != 1 {
		t.Errorf("complete was sent %d times", times)
	}
}

func TestB28StaleRowOverrulesNothing(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	// What QEMU has computed says "running"; READY overtakes it.
	fake.Do("when", fakeqemu.Fields{
		"command": "query-jobs", "at": "done", "steps": []any{map[string]any{"do": "ready"}},
	})
	again, err := m.Attach(patience(t), "job0")
	ok(t, err)
	if !job.IsReady() || !again.IsReady() {
		t.Error("not ready")
	}
	<-job.Ready()
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestB30MirrorThatDoesNotConvergeIsTold(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitConvergeMS, 50))
	job := fakeMirror(t, m, "copy0")
	ready := start(func() (blockjob.Outcome, error) { return blockjob.NoOutcome, job.WaitReady(patience(t)) })
	updates, err := job.Watch(patience(t), time.Millisecond)
	ok(t, err)
	fake.Do("progress", fakeqemu.Fields{"offset": diskBytes / 2})
	for u := range updates {
		if u.Kind == blockjob.UpdateStalled {
			if u.Text == "" {
				t.Error("it doesn't say why")
			}
			break
		}
	}
	select {
	case a := <-ready:
		t.Errorf("the wait ended: %v", a.err)
	default:
	}
	fake.Do("ready", nil)
	a := <-ready
	ok(t, a.err)
}

func TestB30B44Change(t *testing.T) {
	fake := fakeqemu.Start(t, "10.0")
	job := fakeMirror(t, dial(t, fake.URI), "copy0")
	ok(t, job.Change(patience(t), blockjob.ChangeOptions{CopyMode: "write-blocking"}))
	if fake.Sent("block-job-change") != 1 {
		t.Error("QEMU was not told")
	}
	fails(t, job.Change(patience(t), blockjob.ChangeOptions{}), blockjob.ErrInvalid)
	unknown := blockjob.ChangeOptions{Extra: map[string]any{"no-such-option": true}}
	fails(t, job.Change(patience(t), unknown), blockjob.ErrRefused)

	fake = fakeqemu.Start(t, "7.2")
	job = fakeMirror(t, dial(t, fake.URI), "copy0")
	fails(t, job.Change(patience(t), blockjob.ChangeOptions{CopyMode: "write-blocking"}), blockjob.ErrUnsupported)
}

func TestB33CompleteRefusedInStandbyIsSentAgain(t *testing.T) {
	fake := fakeqemu.Start(t, "5.2")
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	// As when the graph changes at that moment: standby, the refusal, ready.
	fake.Do("answer", fakeqemu.Fields{"command": "job-complete", "error": refusal("cannot be completed")})
	fake.Do("when", fakeqemu.Fields{
		"command": "job-complete", "at": "received", "steps": []any{map[string]any{"do": "bounce"}},
	})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	if n := fake.Sent("job-complete"); n != 2 {
		t.Errorf("complete was sent %d times", n)
	}
}

func TestB33RefusalIsToldWithQEMUsText(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	fake.Do("answer", fakeqemu.Fields{"command": "job-complete", "error": refusal("not on a Sunday")})
	_, err := job.Pivot(patience(t))
	if e := fails(t, err, blockjob.ErrRefused, "not on a Sunday"); e.Class != "GenericError" {
		t.Errorf("class %q", e.Class)
	}
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestC31PivotLearnsHowAnotherClientsAbortEndsIt(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitStallMS, 600000))
	job := fakeReadyMirror(t, fake, m, "copy0")
	fake.Do("hold-end", nil)
	fake.Do("execute", fakeqemu.Fields{"command": "block-job-cancel", "arguments": map[string]any{"device": "job0"}})
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
	fake.Wait("job-complete")
	allSeen(t, m)
	select {
	case a := <-pivot:
		t.Fatalf("answered before the end: %v", a.err)
	default:
	}
	fake.Do("finish", nil)
	fails(t, (<-pivot).err, blockjob.ErrJobEnded)
	ends(t, blockjob.Copied)(job.Wait(patience(t)))
}

func TestC32AsyncAbortIsDoneWhenItIsAccepted(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	fake.Do("hold-end", nil)
	stop := map[string]any{"do": "io-error", "action": "stop"}
	fake.Do("when", fakeqemu.Fields{"command": "block-job-cancel", "at": "done", "steps": []any{stop}})
	_, err := job.Abort(patience(t), blockjob.Async())
	ok(t, err)
	_, err = job.Wait(patience(t))
	fails(t, err, blockjob.ErrStalled)
}

func TestC116PauseThatAnotherClientHasEndedStallsNobody(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	fake.Do("hold-pause", nil)
	ok(t, job.Pause(patience(t)))
	_, err := job.Pivot(patience(t))
	fails(t, err, blockjob.ErrStalled)
	fake.Do("execute", fakeqemu.Fields{"command": "job-resume", "arguments": map[string]any{"id": "job0"}})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestB34PivotAfterASoftAbortIsRefused(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	job := fakeReadyMirror(t, fake, dial(t, fake.URI), "copy0")
	fake.Do("hold-end", nil)
	ends(t, blockjob.NoOutcome)(job.Abort(patience(t), blockjob.Async()))
	_, err := job.Pivot(patience(t))
	fails(t, err, blockjob.ErrState)
	fake.Do("finish", nil)
	ends(t, blockjob.Copied)(job.Wait(patience(t)))
	if n := fake.Sent("job-complete") + fake.Sent("block-job-complete"); n != 0 {
		t.Errorf("complete was sent %d times", n)
	}
}

func TestB34OfPivotAndAbortOneWins(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	for _, target := range []string{"copy0", "copy1", "copy2", "copy3"} {
		job := fakeReadyMirror(t, fake, m, target)
		pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
		abort := start(func() (blockjob.Outcome, error) { return job.Abort(patience(t)) })
		pivoted, aborted := <-pivot, <-abort
		// Both learn how it ended, whichever it was.
		ends(t, job.Outcome())(aborted.outcome, aborted.err)
		switch job.Outcome() {
		case blockjob.Pivoted:
			ok(t, pivoted.err)
		case blockjob.Copied:
			if !errors.Is(pivoted.err, blockjob.ErrJobEnded) && !errors.Is(pivoted.err, blockjob.ErrState) {
				t.Errorf("the pivot: %v", pivoted.err)
			}
		default:
			t.Errorf("ended %v", job.Outcome())
		}
		ends(t, job.Outcome())(job.WaitReleased(patience(t)))
	}
}

func TestB38WordsThatThisQEMUHas(t *testing.T) {
	for profile, prefix := range map[string]string{"2.8": "block-job-", "7.2": "job-"} {
		fake := fakeqemu.Start(t, profile)
		m := dial(t, fake.URI)
		job := fakeReadyMirror(t, fake, m, "copy0")
		ok(t, job.Pause(patience(t)))
		ok(t, job.Resume(patience(t)))
		ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
		ends(t, blockjob.Pivoted)(job.WaitReleased(patience(t))) // its id is free
		job = fakeReadyMirror(t, fake, m, "copy1")
		// Softly by the old word, whatever there is: the new one always forces.
		ends(t, blockjob.Copied)(job.Abort(patience(t)))
		for _, command := range []string{prefix + "pause", prefix + "resume", prefix + "complete", "block-job-cancel"} {
			if n := fake.Sent(command); n != 1 {
				t.Errorf("%s: %s was sent %d times", profile, command, n)
			}
		}
	}
}

func TestB39RefusalAfterTheEndIsJudgedByIt(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Backup(patience(t), "drive0", blockjob.BackupOptions{
		Target: "copy0", JobID: "job0", Extra: map[string]any{"auto-dismiss": true},
	})
	ok(t, err)
	finishOn(fake)
	// QEMU says "not found", or whatever words it has: it is over.
	ends(t, blockjob.Completed)(job.Abort(patience(t)))
	fails(t, job.Pause(patience(t)), blockjob.ErrState)
	fails(t, job.Resume(patience(t)), blockjob.ErrState)
	_, err = m.Attach(patience(t), "job0")
	fails(t, err, blockjob.ErrNoJob)
}

func TestB50EndWithoutItsFieldsIsAnEnd(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	other, err := m.Mirror(patience(t), "disk0", blockjob.MirrorOptions{Target: "copy1", JobID: "job1"})
	ok(t, err)

	device := map[string]any{"device": "job0"}
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_READY", "data": device})
	ok(t, job.WaitReady(patience(t)))
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_CANCELLED", "data": device})
	ends(t, blockjob.Cancelled)(job.Wait(patience(t)))
	// And one that says of nobody what it says is nobody's.
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_CANCELLED", "data": map[string]any{"type": "mirror"}})
	fake.Do("emit", fakeqemu.Fields{"event": "BLOCK_JOB_COMPLETED"})
	allSeen(t, m)
	if other.Outcome() != blockjob.NoOutcome {
		t.Errorf("the other ended %v", other.Outcome())
	}
}

func TestB54B56HostilePeerCostsItsConnection(t *testing.T) {
	for verb, fields := range map[string]fakeqemu.Fields{
		"raw": {"text": "garbage\n"}, "deep": {"depth": 500}, "huge": {"bytes": 100000},
	} {
		fake := fakeqemu.Start(t, "7.2")
		m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitMessageBytes, 50000))
		job := fakeMirror(t, m, "copy0")
		events, err := m.Events(patience(t))
		ok(t, err)
		fake.Do(verb, fields)
		<-m.Done()
		fails(t, m.Err(), blockjob.ErrProtocol)
		_, err = job.Wait(patience(t))
		fails(t, err, blockjob.ErrJobLost)
		for range events {
		}
	}
}

func TestB56RepliesTwiceAndForNobodyAreDropped(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	fake.Do("duplicate", fakeqemu.Fields{"command": "*", "count": 0})
	fake.Do("raw", fakeqemu.Fields{"text": `{"return": 7, "id": 12345678}` + "\n" + `{"return": 8, "id": "nobody"}` + "\n"})
	job := fakeReadyMirror(t, fake, m, "copy0")
	jobs, err := m.Jobs(patience(t))
	ok(t, err)
	if len(jobs) != 1 || jobs[0].ID != "job0" {
		t.Errorf("jobs %+v", jobs)
	}
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestB57SynchronousCancel(t *testing.T) {
	fake := fakeqemu.Start(t, "rhel6.2")
	m := dial(t, fake.URI)
	events, err := m.Events(patience(t))
	ok(t, err)
	job, err := m.Stream(patience(t), "drive0", blockjob.StreamOptions{})
	ok(t, err)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
	// QEMU sends none: this one is made up, for all observers alike.
	for event := range events {
		if event.Name == "BLOCK_JOB_CANCELLED" {
			return
		}
	}
	t.Error("no event")
}

func TestB58WhereThereIsNoEventATimerAsks(t *testing.T) {
	second := filepath.Join(qemu.TempDir(t), "second")
	fake := fakeqemu.Start(t, "rhel6.2", "--socket", second)
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitPollMS, 10))
	another := dial(t, second)
	job, err := m.Stream(patience(t), "drive0", blockjob.StreamOptions{})
	ok(t, err)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })
	// For which QEMU sends no event.
	go another.Execute(patience(t), "block_job_cancel", map[string]string{"device": "drive0"}, nil)
	a := <-waiting
	ends(t, blockjob.Cancelled)(a.outcome, a.err)
}

func TestB59OldQEMUsGiveTheSameAnswers(t *testing.T) {
	for _, profile := range []string{"1.3", "2.0", "2.2", "2.8", "2.12"} {
		fake := fakeqemu.Start(t, profile)
		m := dial(t, fake.URI)
		mirror := func(target string) *blockjob.Job {
			job, err := m.Start(patience(t), "drive-mirror", map[string]string{
				"device": "drive0", "target": target, "sync": "full",
			})
			ok(t, err)
			return job
		}
		job := mirror("copy0")
		pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
		fake.Do("ready", fakeqemu.Fields{"job": job.ID()})
		a := <-pivot
		ends(t, blockjob.Pivoted)(a.outcome, a.err)
		ends(t, blockjob.Pivoted)(job.WaitReleased(patience(t)))

		job = mirror("copy1")
		fake.Do("ready", fakeqemu.Fields{"job": job.ID()})
		<-job.Ready()
		ends(t, blockjob.Copied)(job.Abort(patience(t)))

		job = mirror("copy2")
		fake.Do("fail", fakeqemu.Fields{"job": job.ID(), "error": "No space left on device"})
		fails(t, job.WaitReady(patience(t)), blockjob.ErrJobFailed)
	}
}

func TestC114FinishedRunHasNotTheRowOfTheNextOne(t *testing.T) {
	m := dial(t, fakeqemu.Start(t, "1.7").URI)
	mirror := func() *blockjob.Job {
		job, err := m.Start(patience(t), "drive-mirror", map[string]string{
			"device": "drive0", "target": "copy0", "sync": "full",
		})
		ok(t, err)
		return job
	}
	first := mirror()
	ends(t, blockjob.Cancelled)(first.Abort(patience(t)))
	second := mirror()
	info, err := second.Query(patience(t))
	ok(t, err)
	if info.ID != first.ID() {
		t.Errorf("ids %q and %q", first.ID(), info.ID)
	}
	_, err = first.Query(patience(t))
	fails(t, err, blockjob.ErrNoJob)
}

func TestC89LongReasonsAreText(t *testing.T) {
	reason := strings.Repeat("é", 4000)
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	for _, begin := range []string{"", "x"} { // what is cut is cut at an even byte, and at an odd one
		fake.Do("answer", fakeqemu.Fields{"command": "query-status", "error": refusal(begin + reason)})
		refused := m.Execute(patience(t), "query-status", nil, nil)
		fails(t, refused, blockjob.ErrRefused)
		job := fakeMirror(t, m, "copy0")
		fake.Do("fail", fakeqemu.Fields{"job": "job0", "error": begin + reason})
		_, failed := job.WaitReleased(patience(t))
		fails(t, failed, blockjob.ErrJobFailed)
		for _, err := range []error{refused, failed, job.Err()} {
			if !utf8.ValidString(err.Error()) || strings.Count(err.Error(), "é") < 400 {
				t.Errorf("not text: ...%q", err.Error()[len(err.Error())-20:])
			}
		}
	}
}

func TestB59ErrorRepliesWithoutAnID(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	fake.Do("answer", fakeqemu.Fields{"command": "query-status", "error": refusal("no")})
	fake.Do("change-id", fakeqemu.Fields{"command": "query-status"})
	fails(t, m.Execute(patience(t), "query-status", nil, nil), blockjob.ErrRefused, "no")
	_, err := m.Jobs(patience(t))
	ok(t, err)
}

func TestB71EachWaitIsAnsweredOnce(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")

	const count = 50
	var waiting, all sync.WaitGroup
	answers := make(chan error, 2*count)
	waiting.Add(count)
	all.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			defer all.Done()
			waiting.Done()
			_, err := job.Wait(patience(t))
			answers <- err
		}()
	}
	waiting.Wait()
	// The end and the close race; each hears of one of them.
	fake.Do("fail", fakeqemu.Fields{"error": "Input/output error"})
	m.Close()
	all.Wait()
	if len(answers) != count {
		t.Errorf("%d answers", len(answers))
	}
	for i := 0; i < count; i++ {
		if err := <-answers; !errors.Is(err, blockjob.ErrJobFailed) && !errors.Is(err, blockjob.ErrClosed) {
			t.Errorf("answered %v", err)
		}
	}
}
