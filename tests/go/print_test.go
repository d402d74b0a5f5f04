// SPDX-License-Identifier: MIT
// What is printed of jobs, monitors and records.

package blockjob_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
)

func prints(t *testing.T, value any, want string) {
	t.Helper()
	if got := fmt.Sprint(value); got != want {
		t.Errorf("printed as %s, want %s", got, want)
	}
}

func TestC54JobsAndMonitorsPrint(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0", JobID: "copy"})
	ok(t, err)
	group := blockjob.NewGroup(job)

	prints(t, m, "monitor "+fake.URI+" (QEMU "+m.QEMUVersion()+")")
	prints(t, job, "job copy (mirror)")
	prints(t, group, "group [job copy (mirror)]")
	fake.Do("ready", nil)
	ok(t, job.WaitReady(ctx))
	prints(t, job, "job copy (mirror, ready)")
	if text := fmt.Sprintf("%+v %#v %s", job, job, job); text != strings.Repeat(" job copy (mirror, ready)", 3)[1:] {
		t.Errorf("printed as %s", text)
	}
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	prints(t, job, "job copy (mirror, PIVOTED)")
	ok(t, m.Close())
	prints(t, m, "monitor "+fake.URI+" (QEMU "+m.QEMUVersion()+", "+strings.TrimPrefix(m.Err().Error(), "blockjob: ")+")")
	prints(t, m, fmt.Sprintf("%#v", m))

	prints(t, new(blockjob.Job), "no job")
	prints(t, new(blockjob.Monitor), "no monitor")
	prints(t, new(blockjob.Group), "group []")
}

func TestC54FailedJobPrintsItsReason(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0", JobID: "copy"})
	ok(t, err)
	fake.Do("fail", fakeqemu.Fields{"error": "No space left on device"})
	<-job.Done()
	prints(t, job, "job copy (mirror, FAILED: No space left on device)")
}

// What others do to a job meanwhile is theirs: see the race detector.
func TestC54PrintingDisturbsNobody(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	printed := start(func() (blockjob.Outcome, error) {
		for i := 0; i < 100; i++ {
			_ = fmt.Sprintf("%v %+v %#v", job, m, []any{job, m})
		}
		return blockjob.NoOutcome, nil
	})
	job.Ready()
	m.Done()
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
	ok(t, m.Close())
	<-printed
}

func TestC54RecordsPrint(t *testing.T) {
	lost := &blockjob.Error{Code: blockjob.ErrDisconnected, Text: "QEMU has gone"}
	noon := time.Date(2026, 1, 2, 12, 0, 0, 6000, time.UTC)
	for want, value := range map[string]any{
		"PIVOTED":                     blockjob.Pivoted,
		"QEMU":                        blockjob.EventQEMU,
		"EventKind(99)":               blockjob.EventKind(99),
		"UpdateKind(-1)":              blockjob.UpdateKind(-1),
		"512 of 1024":                 blockjob.Progress{Current: 512, Total: 1024},
		"? of ?":                      blockjob.Progress{Current: -1, Total: -1},
		"BARE":                        blockjob.Event{Kind: blockjob.EventQEMU, Name: "BARE"},
		`NEWS {"a": 1}`:               blockjob.Event{Kind: blockjob.EventQEMU, Name: "NEWS", Data: []byte(`{"a": 1}`)},
		"DISCONNECTED: QEMU has gone": blockjob.Event{Kind: blockjob.EventDisconnected, Err: lost},
		"RECONNECTED (after 3 that were dropped)": blockjob.Event{
			Kind: blockjob.EventReconnected, Dropped: 3,
		},
		"STATUS paused":                       blockjob.Update{Kind: blockjob.UpdateStatus, Status: "paused"},
		"READY":                               blockjob.Update{Kind: blockjob.UpdateReady},
		"STALLED: no space":                   blockjob.Update{Kind: blockjob.UpdateStalled, Text: "no space"},
		"RESUMED":                             blockjob.Update{Kind: blockjob.UpdateResumed},
		"PROGRESS 1 of 2":                     blockjob.Update{Kind: blockjob.UpdateProgress, Progress: blockjob.Progress{Current: 1, Total: 2}},
		"ENDED FAILED: broken":                blockjob.Update{Kind: blockjob.UpdateEnded, Outcome: blockjob.Failed, Text: "broken", Err: errors.New("broken")},
		"JobChangeKind(99)":                   blockjob.JobChangeKind(99),
		"APPEARED mirror":                     blockjob.JobChange{Kind: blockjob.JobAppeared, Type: "mirror"},
		"APPEARED":                            blockjob.JobChange{Kind: blockjob.JobAppeared},
		"STALLED: nospace":                    blockjob.JobChange{Kind: blockjob.JobStalled, Reason: "nospace"},
		"RESUMED (after 2 that were dropped)": blockjob.JobChange{Kind: blockjob.JobResumed, Dropped: 2, DroppedEnds: 1},
		"PROGRESS 3 of 4":                     blockjob.JobChange{Kind: blockjob.JobProgress, Progress: blockjob.Progress{Current: 3, Total: 4}},
		"ENDED FAILED: EIO":                   blockjob.JobChange{Kind: blockjob.JobEnded, Outcome: blockjob.Failed, Reason: "EIO"},
		"RELEASED":                            blockjob.JobChange{Kind: blockjob.JobReleased},
		"DISCONNECTED: it has gone":           blockjob.JobChange{Kind: blockjob.JobsDisconnected, Reason: "it has gone"},
		"RECONNECTED":                         blockjob.JobChange{Kind: blockjob.JobsReconnected},
		"job copy (mirror, running, 1 of 2)": blockjob.JobInfo{
			ID: "copy", Type: "mirror", Status: "running", Current: 1, Total: 2, IOStatus: "ok",
		},
		"job vda (commit, ? of ?, nospace)": blockjob.JobInfo{
			ID: "vda", Type: "commit", Current: -1, Total: -1, IOStatus: "nospace",
		},
		"": blockjob.Timeline{},
		"start_sent=2026-01-02T12:00:00.000006Z end_seen=2026-01-02T12:00:00.000006Z": blockjob.Timeline{
			StartSent: noon, EndSeen: noon,
		},
	} {
		prints(t, value, want)
	}
}
