// SPDX-License-Identifier: MIT
// A program that was away learns by its memos what became of its jobs.

package blockjob_test

import (
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// usedDisks are disks of which a guest uses "drive".
func usedDisks(t *testing.T) *qemu.QEMU {
	q := disks(t)
	q.AddGuest("drive")
	return q
}

func theirMirror(q *qemu.QEMU, options qemu.Args) {
	arguments := qemu.Args{"job-id": "theirs", "device": "drive", "target": "copy", "sync": "full"}
	for name, value := range options {
		arguments[name] = value
	}
	q.Do("blockdev-mirror", arguments)
}

// memoOf returns the first memo with the graph in it, of a job that is ready if it is to be.
func memoOf(t *testing.T, changes <-chan blockjob.JobChange, ready bool) string {
	t.Helper()
	isReady := false
	for change := range changes {
		isReady = isReady || change.Kind == blockjob.JobReady
		if change.Kind == blockjob.JobMemo && strings.Contains(change.Memo, `"graph"`) && (isReady || !ready) {
			return change.Memo
		}
	}
	t.Fatal("the stream ended")
	return ""
}

func TestC13OurMirrorGoesOn(t *testing.T) {
	q := usedDisks(t)
	m := dial(t, q.URI)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{Memos: true})
	job := mirror(t, m, halted)
	memo := memoOf(t, changes, false)
	if job.Memo() == "" {
		t.Error("a job that goes on has no memo")
	}
	ok(t, m.Close())

	changes = watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{Remembered: []string{memo}})
	appeared := nextChange(t, changes, blockjob.JobAppeared)
	if appeared.Memo != memo || !appeared.Resumed || !appeared.Started || appeared.Inferred || appeared.Reason != "" {
		t.Errorf("%+v", appeared)
	}
	ok(t, appeared.Job.SetSpeed(patience(t), 0))
	ends(t, blockjob.Pivoted)(appeared.Job.Pivot(patience(t)))
	nextChange(t, changes, blockjob.JobReady)
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Outcome != blockjob.Pivoted || ended.Inferred {
		t.Errorf("%+v", ended)
	}
	nextChange(t, changes, blockjob.JobReleased)
	if memo := appeared.Job.Memo(); memo != "" || len(q.Jobs()) != 0 {
		t.Errorf("%q, %v", memo, q.Jobs())
	}
}

func TestC13AnotherClientCompletedIt(t *testing.T) {
	q := usedDisks(t)
	m := dial(t, q.URI)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{Memos: true})
	theirMirror(q, nil)
	memo := memoOf(t, changes, true)
	ok(t, m.Close())
	q.Do("job-complete", qemu.Args{"id": "theirs"})
	q.WaitStatus("theirs", "null")

	changes = watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{Remembered: []string{memo}})
	if appeared := nextChange(t, changes, blockjob.JobAppeared); appeared.Memo != memo || appeared.Resumed {
		t.Errorf("%+v", appeared)
	}
	nextChange(t, changes, blockjob.JobReady)
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Outcome != blockjob.Pivoted || !ended.Inferred {
		t.Errorf("%+v", ended)
	}
}

func TestC13AnotherRunHasItsID(t *testing.T) {
	q := usedDisks(t)
	m := dial(t, q.URI)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{Memos: true})
	theirMirror(q, nil)
	memo := memoOf(t, changes, true)
	ok(t, m.Close())
	q.Do("job-cancel", qemu.Args{"id": "theirs"})
	q.WaitStatus("theirs", "null")
	theirMirror(q, qemu.Args{"speed": 1, "buf-size": 65536})

	changes = watchJobs(t, dial(t, q.URI), blockjob.WatchJobsOptions{Remembered: []string{memo}})
	before := nextChange(t, changes, blockjob.JobAppeared)
	nextChange(t, changes, blockjob.JobReady)
	ended := nextChange(t, changes, blockjob.JobEnded)
	if ended.Outcome != blockjob.Lost || !strings.Contains(ended.Reason, "a job that is not ready") {
		t.Errorf("%+v", ended)
	}
	nextChange(t, changes, blockjob.JobReleased)
	now := nextChange(t, changes, blockjob.JobAppeared)
	if before.Job == now.Job || now.Memo != "" || now.Resumed {
		t.Errorf("%+v", now)
	}
	ends(t, blockjob.Cancelled)(now.Job.Abort(patience(t), blockjob.Force()))
}

func TestC13BadMemos(t *testing.T) {
	q := usedDisks(t)
	m := dial(t, q.URI)
	job := mirror(t, m, halted)
	good := job.Memo()

	for want, memos := range map[string][]string{
		"Remembered[1]: it was cut or changed": {good, good[:len(good)-1]},
		"Remembered[0]: it is not a memo":      {""},
		"Remembered[0]: it has a zero byte":    {good + "\x00"},
	} {
		_, err := m.WatchJobs(patience(t), blockjob.WatchJobsOptions{Remembered: memos})
		fails(t, err, blockjob.ErrInvalid)
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
