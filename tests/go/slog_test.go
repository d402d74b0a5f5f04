// SPDX-License-Identifier: MIT
// What log/slog writes of jobs, monitors and records.

//go:build go1.21

package blockjob_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
)

// logged is the line of JSON that slog writes of it.
func logged(value any) string {
	var line bytes.Buffer
	slog.New(slog.NewJSONHandler(&line, &slog.HandlerOptions{
		ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key != "x" {
				return slog.Attr{}
			}
			return a
		},
	})).Info("", "x", value)
	return strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(line.String()), `{"x":`), "}")
}

func TestC54Logged(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0", JobID: "copy"})
	ok(t, err)
	before := logged(job)
	fake.Do("fail", fakeqemu.Fields{"error": "No space left on device"})
	<-job.Done()

	noon := time.Date(2026, 1, 2, 12, 0, 0, 0, time.UTC)
	for _, try := range []struct{ got, want string }{
		{before, `{"id":"copy","type":"mirror","ready":false,"outcome":"NONE"}`},
		{logged(job), `{"id":"copy","type":"mirror","ready":false,"outcome":"FAILED","error":"No space left on device"}`},
		{logged(m), fmt.Sprintf(`{"uri":%q,"qemu":%q}`, m.URI(), m.QEMUVersion())},
		{logged(new(blockjob.Job)), `{"ready":false,"outcome":"NONE"}`},
		{logged(blockjob.NewGroup(job)), `"group [job copy (mirror, FAILED: No space left on device)]"`},
		{logged(blockjob.Copied), `"COPIED"`},
		{logged(blockjob.Progress{Current: 1, Total: -1}), `{"current":1}`},
		{logged(blockjob.Timeline{EndSeen: noon}), `{"end_seen":"2026-01-02T12:00:00Z"}`},
		{
			logged(blockjob.Event{Kind: blockjob.EventQEMU, Name: "NEWS", Data: []byte(`{"a":1}`), Time: noon, Dropped: 2}),
			`{"kind":"QEMU","name":"NEWS","data":{"a":1},"event_time":"2026-01-02T12:00:00Z","dropped":2}`,
		},
		{
			logged(blockjob.Event{Kind: blockjob.EventDisconnected, Err: blockjob.ErrDisconnected}),
			`{"kind":"DISCONNECTED","error":"the connection ended before the answer came"}`,
		},
		{logged(blockjob.Update{Kind: blockjob.UpdateEnded, Outcome: blockjob.Pivoted}), `{"kind":"ENDED","outcome":"PIVOTED"}`},
		{
			logged(blockjob.Update{Kind: blockjob.UpdateProgress, Progress: blockjob.Progress{Current: 1, Total: 2}}),
			`{"kind":"PROGRESS","current":1,"total":2}`,
		},
		{
			logged(blockjob.JobChange{Kind: blockjob.JobAppeared, Job: job, Type: "mirror", Time: noon}),
			`{"kind":"APPEARED","job":"copy","type":"mirror","event_time":"2026-01-02T12:00:00Z","started":false}`,
		},
		{
			logged(blockjob.JobChange{Kind: blockjob.JobProgress, Progress: blockjob.Progress{Current: 1, Total: 2}, Dropped: 3, DroppedEnds: 2}),
			`{"kind":"PROGRESS","dropped":3,"dropped_ends":2,"current":1,"total":2}`,
		},
		{
			logged(blockjob.JobChange{Kind: blockjob.JobEnded, Outcome: blockjob.Lost, Reason: "QEMU has gone"}),
			`{"kind":"ENDED","reason":"QEMU has gone","outcome":"LOST"}`,
		},
		{
			logged(blockjob.JobInfo{ID: "copy", Type: "mirror", Current: 0, Total: 2, Speed: -1}),
			`{"id":"copy","type":"mirror","current":0,"total":2,"ready":false,"paused":false}`,
		},
	} {
		if try.got != try.want {
			t.Errorf("logged as %s, want %s", try.got, try.want)
		}
	}
}
