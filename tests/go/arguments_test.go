// SPDX-License-Identifier: MIT
// Arguments that make no sense are errors, never panics, and never reach QEMU as something else.

package blockjob_test

import (
	"context"
	"encoding/json"
	"math"
	"net"
	"path/filepath"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// failure drops what a call returns beside its error.
func failure[T any](_ T, err error) error {
	return err
}

func TestC108TextThatIsNotUTF8(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	const bad = "x\xff"
	for what, err := range map[string]error{
		"a command":         m.Execute(ctx, bad, nil, nil),
		"a start":           failure(m.Start(ctx, bad, nil)),
		"HasCommand":        failure(m.HasCommand(bad)),
		"an id":             failure(m.Attach(ctx, "\xff")),
		"a device":          failure(m.Mirror(ctx, bad, blockjob.MirrorOptions{Target: "copy1"})),
		"a target":          failure(m.Mirror(ctx, "disk0", blockjob.MirrorOptions{Target: bad})),
		"a backup's target": failure(m.Backup(ctx, "disk0", blockjob.BackupOptions{Target: bad})),
		"a new id":          failure(m.Mirror(ctx, "disk0", blockjob.MirrorOptions{Target: "copy1", JobID: bad})),
		"further arguments": failure(m.Commit(ctx, "disk0", blockjob.CommitOptions{Extra: map[string]any{"top": bad}})),
		"a name of one":     failure(m.Stream(ctx, "disk0", blockjob.StreamOptions{Extra: map[string]any{bad: 1}})),
		"arguments":         m.Execute(ctx, "job-cancel", map[string]any{"id": "\xff"}, nil),
		"JSON":              m.Execute(ctx, "job-cancel", json.RawMessage("{\"id\": \"\xff\"}"), nil),
		"a transaction":     failure(m.Transaction(ctx, []blockjob.Action{{Type: bad}})),
		"a change":          job.Change(ctx, blockjob.ChangeOptions{CopyMode: bad}),
	} {
		t.Log(what)
		fails(t, err, blockjob.ErrInvalid, "UTF-8")
	}
	if sent := fake.Sent("blockdev-mirror"); sent != 1 || job.Outcome() != blockjob.NoOutcome {
		t.Errorf("%d starts, %v", sent, job.Outcome())
	}

	// What only looks like it is sent.
	for _, id := range []any{"\ufffd", `\ufffd`, json.RawMessage(`"\ufffd"`)} {
		fails(t, m.Execute(ctx, "no-such-command", id, nil), blockjob.ErrInvalid, "object")
	}
	for _, arguments := range []any{map[string]any{"id": "\ufffd"}, json.RawMessage(`{"id": "\ufffd"}`)} {
		fails(t, m.Execute(ctx, "job-pause", arguments, nil), blockjob.ErrRefused)
	}
}

func TestC108PathOfASocketIsBytes(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(qemu.TempDir(t), "\xff"))
	ok(t, err)
	defer listener.Close()
	_, err = blockjob.Dial(briefly(t), "unix:"+listener.Addr().String())
	fails(t, err, blockjob.ErrTimeout)
}

func TestC108MonitorThatNobodyDialledFails(t *testing.T) {
	ctx := patience(t)
	for _, m := range []*blockjob.Monitor{nil, new(blockjob.Monitor)} {
		for what, err := range map[string]error{
			"Execute":      m.Execute(ctx, "query-jobs", nil, nil),
			"Start":        failure(m.Start(ctx, "block-stream", nil)),
			"Attach":       failure(m.Attach(ctx, "job")),
			"Jobs":         failure(m.Jobs(ctx)),
			"Transaction":  failure(m.Transaction(ctx, nil)),
			"Events":       failure(m.Events(ctx)),
			"HasCommand":   failure(m.HasCommand("query-jobs")),
			"SetReconnect": m.SetReconnect(time.Second),
			"Close":        m.Close(),
			"Err":          m.Err(),
		} {
			t.Log(what)
			fails(t, err, blockjob.ErrInvalid, "Dial")
		}
		if <-m.Done(); m.URI() != "" || m.QEMUVersion() != "" {
			t.Error("a monitor of nothing")
		}
	}
}

func TestC108JobThatNobodyStartedFails(t *testing.T) {
	ctx := patience(t)
	for _, job := range []*blockjob.Job{nil, new(blockjob.Job)} {
		group := blockjob.NewGroup(job)
		for what, err := range map[string]error{
			"WaitReady":    job.WaitReady(ctx),
			"Wait":         failure(job.Wait(ctx)),
			"WaitReleased": failure(job.WaitReleased(ctx)),
			"Pivot":        failure(job.Pivot(ctx)),
			"Abort":        failure(job.Abort(ctx, blockjob.ForceAfter(time.Second))),
			"Pause":        job.Pause(ctx),
			"Finalize":     failure(job.Finalize(ctx)),
			"Change":       job.Change(ctx, blockjob.ChangeOptions{}),
			"Query":        failure(job.Query(ctx)),
			"Watch":        failure(job.Watch(ctx, 0)),
			"a group":      group.Pivot(ctx),
			"any of one":   failure(group.WaitAny(ctx)),
		} {
			t.Log(what)
			fails(t, err, blockjob.ErrInvalid, "Job")
		}
		for range job.Progress(ctx, 0) {
			t.Error("progress")
		}
		<-job.Done()
		if job.ID() != "" || job.Type() != "" || job.Outcome() != blockjob.NoOutcome || job.Err() != nil ||
			job.IsReady() || isClosed(job.Ready()) || job.Timeline() != (blockjob.Timeline{}) {
			t.Error("a job of nothing")
		}
	}
}

func TestC108GroupOfNothingFails(t *testing.T) {
	ctx := patience(t)
	var none *blockjob.Group
	for _, group := range []*blockjob.Group{none, new(blockjob.Group), blockjob.NewGroup()} {
		fails(t, group.Wait(ctx), blockjob.ErrInvalid, "empty")
		if len(group.Jobs()) != 0 {
			t.Error("jobs")
		}
	}
}

func TestC108NilOptionsAndContextsFail(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job, err := m.Mirror(patience(t), "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	group := blockjob.NewGroup(job)

	fails(t, failure(blockjob.Dial(patience(t), fake.URI, nil)), blockjob.ErrInvalid, "DialOption")
	fails(t, failure(blockjob.DialDomain(patience(t), nil)), blockjob.ErrInvalid, "nil")
	var none context.Context
	for what, err := range map[string]error{
		"Dial":    failure(blockjob.Dial(none, fake.URI)),
		"Execute": m.Execute(none, "query-jobs", nil, nil),
		"Attach":  failure(m.Attach(none, "job")),
		"Events":  failure(m.Events(none)),
		"Wait":    failure(job.Wait(none)),
		"Pivot":   failure(job.Pivot(none)),
		"Pause":   job.Pause(none),
		"Watch":   failure(job.Watch(none, 0)),
		"a group": group.Wait(none),
		"all":     group.Pivot(none),
	} {
		t.Log(what)
		fails(t, err, blockjob.ErrInvalid, "context is nil")
	}
}

func TestC108LimitsThatNoIntHolds(t *testing.T) {
	for _, value := range []uint64{0, math.MaxInt + 1, math.MaxUint64} {
		for limit := blockjob.LimitMessageBytes; limit <= blockjob.LimitConvergeMS; limit++ {
			_, err := blockjob.Dial(patience(t), "unix:/nowhere", blockjob.WithLimit(limit, value))
			fails(t, err, blockjob.ErrInvalid, "limit")
		}
	}
	_, err := blockjob.Dial(patience(t), "unix:/nowhere", blockjob.WithLimit(-1, 1))
	fails(t, err, blockjob.ErrInvalid, "limit")
}
