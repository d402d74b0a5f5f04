// SPDX-License-Identifier: MIT
// What crosses on the wire, as in tests/core/test_crossing.c: a verb, a list or a start, and the end of
// a job.

package blockjob_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// settle returns when all that was read and asked before has had its effect.
func settle(t testing.TB, m *blockjob.Monitor) {
	t.Helper()
	for i := 0; i < 20; i++ {
		allSeen(t, m)
	}
}

func TestC01VerbWhoseJobEndsIsAnsweredByClose(t *testing.T) {
	second := filepath.Join(qemu.TempDir(t), "second")
	fake := fakeqemu.Start(t, "7.2", "--socket", second)
	dial(t, second) // of the last monitor Close would wait for the dismissal
	m := dial(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	fake.Do("hold", fakeqemu.Fields{"command": "block-job-set-speed"})
	verb := start(func() (blockjob.Outcome, error) { return blockjob.NoOutcome, job.SetSpeed(patience(t), 0) })
	fake.Wait("block-job-set-speed")
	// The job is over and awaits its dismissal when the monitor is closed.
	fake.Do("stop", fakeqemu.Fields{"what": "reading"})
	fake.Do("fail", fakeqemu.Fields{"error": "Input/output error"})
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed)
	ok(t, m.Close())
	fake.Do("go", fakeqemu.Fields{"what": "reading"})
	fake.Wait("job-dismiss")
	fake.Do("release", nil)
	fake.Do("wait", fakeqemu.Fields{"what": "disconnect"})
	if a := <-verb; a.err == nil || errors.Is(a.err, blockjob.ErrTimeout) {
		t.Errorf("answered %v", a.err)
	}
}

var backupOfJ = map[string]any{"device": "drive0", "target": "copy", "sync": "full", "job-id": "j"}

// startJ starts a job that QEMU forgets when it is over.
func startJ(t testing.TB, m *blockjob.Monitor) *blockjob.Job {
	t.Helper()
	job, err := m.Start(patience(t), "blockdev-backup", map[string]any{
		"device": "drive0", "target": "copy", "sync": "full", "job-id": "j", "auto-dismiss": true,
	})
	ok(t, err)
	return job
}

// An attachment is what Attach returned.
type attachment struct {
	job *blockjob.Job
	err error
}

// attachLate attaches to "j"; the lists are made, and the replies are still in QEMU.
func attachLate(t testing.TB, fake *fakeqemu.Fake, m *blockjob.Monitor) <-chan attachment {
	t.Helper()
	fake.Do("hold", fakeqemu.Fields{"command": "query-block-jobs"})
	fake.Do("hold", fakeqemu.Fields{"command": "query-jobs"})
	answers := make(chan attachment, 1)
	go func() {
		job, err := m.Attach(patience(t), "j")
		answers <- attachment{job, err}
	}()
	fake.Do("wait", fakeqemu.Fields{"what": "held", "command": "query-jobs"})
	return answers
}

// isNoGhost checks that an attachment to what is gone by now failed, or is to a job that is over.
func isNoGhost(t testing.TB, m *blockjob.Monitor, a attachment) {
	t.Helper()
	if a.err != nil {
		fails(t, a.err, blockjob.ErrNoJob)
		return
	}
	settle(t, m)
	if a.job.Outcome() == blockjob.NoOutcome {
		t.Error("attached to a ghost, which runs for ever")
	}
}

func nothingIsLeft(t testing.TB, m *blockjob.Monitor) {
	t.Helper()
	if jobs, err := m.Jobs(patience(t)); err != nil || len(jobs) != 0 {
		t.Errorf("left %+v, %v", jobs, err)
	}
	job, err := m.Attach(patience(t), "j")
	isNoGhost(t, m, attachment{job, err})
}

func TestC03AttachWhileAJobEnds(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	fake.Do("execute", fakeqemu.Fields{"command": "blockdev-backup", "arguments": backupOfJ})
	attached := attachLate(t, fake, m)
	fake.Do("finish", nil)
	fake.Do("release", nil)
	isNoGhost(t, m, <-attached)
	nothingIsLeft(t, m)
}

func TestC03AttachWhileAJobOfTheLibraryEnds(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := startJ(t, m)
	attached := attachLate(t, fake, m)
	fake.Do("finish", nil)
	fake.Do("release", nil)
	isNoGhost(t, m, <-attached)
	ends(t, blockjob.Completed)(job.WaitReleased(patience(t)))
	nothingIsLeft(t, m)
}

func TestC03AttachWhileAnIDIsUsedAgain(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	first := startJ(t, m)
	attached := attachLate(t, fake, m)
	fake.Do("finish", nil)
	fake.Do("execute", fakeqemu.Fields{"command": "blockdev-backup", "arguments": backupOfJ})
	fake.Do("release", nil)
	ends(t, blockjob.Completed)(first.WaitReleased(patience(t)))
	a := <-attached

	second, err := m.Attach(patience(t), "j")
	ok(t, err)
	if second == first || second.Outcome() != blockjob.NoOutcome {
		t.Errorf("attached to %v", second)
	}
	fake.Do("fail", fakeqemu.Fields{"error": "Input/output error"})
	_, err = second.Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed)
	isNoGhost(t, m, a)
	nothingIsLeft(t, m)
}

func TestC18RawVerbRightBehindItsStart(t *testing.T) {
	for _, c := range []struct {
		command, key string
		outcome      blockjob.Outcome
	}{
		{"block-job-cancel", "device", blockjob.Copied},
		{"job-complete", "id", blockjob.Pivoted},
	} {
		fake := fakeqemu.Start(t, "7.2")
		m := dial(t, fake.URI)
		fakeMirror(t, m, "copy0") // what the start takes is known by now
		fake.Do("when", fakeqemu.Fields{
			"command": "blockdev-mirror", "at": "done", "steps": []any{map[string]any{"do": "ready"}},
		})
		// Both are written before QEMU says anything about the job.
		fake.Do("stop", fakeqemu.Fields{"what": "writing"})
		ended := start(func() (blockjob.Outcome, error) {
			job, err := m.Start(patience(t), "blockdev-mirror", map[string]any{
				"device": "drive1", "target": "copy1", "sync": "full", "job-id": "x", "auto-dismiss": true,
			})
			if err != nil {
				return blockjob.NoOutcome, err
			}
			return job.Wait(patience(t))
		})
		fake.Do("wait", fakeqemu.Fields{"command": "blockdev-mirror", "count": 2})
		executed := start(func() (blockjob.Outcome, error) {
			return blockjob.NoOutcome, m.Execute(patience(t), c.command, map[string]string{c.key: "x"}, nil)
		})
		fake.Wait(c.command)
		fake.Do("go", fakeqemu.Fields{"what": "writing"})
		ok(t, (<-executed).err)
		a := <-ended
		ends(t, c.outcome)(a.outcome, a.err)
	}
}

// whenReceived says what another client does before QEMU carries out the next start of a mirror.
func whenReceived(fake *fakeqemu.Fake, step map[string]any) {
	fake.Do("when", fakeqemu.Fields{
		"command": "blockdev-mirror", "at": "received", "steps": []any{step},
	})
}

func theirs(more map[string]any) map[string]any {
	arguments := map[string]any{"device": "drive0", "target": "copy", "sync": "full", "job-id": "x"}
	for name, value := range more {
		arguments[name] = value
	}
	return arguments
}

func mirrorX(t testing.TB, m *blockjob.Monitor) (*blockjob.Job, error) {
	return m.Mirror(patience(t), "drive1", blockjob.MirrorOptions{Target: "copy1", JobID: "x"})
}

func TestC111OldRunEndsWhileItsIDIsStartedAgain(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	fake.Do("execute", fakeqemu.Fields{"command": "blockdev-backup", "arguments": theirs(nil)})
	m := dial(t, fake.URI) // and knows nothing of it
	whenReceived(fake, map[string]any{"do": "finish", "job": "x"})
	job, err := mirrorX(t, m)
	ok(t, err)
	settle(t, m)
	if job.Outcome() != blockjob.NoOutcome {
		t.Errorf("told %v", job.Outcome())
	}
	fake.Do("ready", fakeqemu.Fields{"job": "x"})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestC92RefusedStartEndsNoJobOfAnotherClient(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	kept := theirs(map[string]any{"auto-dismiss": false})
	whenReceived(fake, map[string]any{"do": "execute", "command": "blockdev-backup", "arguments": kept})
	fake.Do("hold", fakeqemu.Fields{"command": "blockdev-mirror"})
	started := start(func() (blockjob.Outcome, error) {
		_, err := mirrorX(t, m)
		return blockjob.NoOutcome, err
	})
	fake.Do("wait", fakeqemu.Fields{"what": "held", "command": "blockdev-mirror"})
	job, err := m.Attach(patience(t), "x")
	ok(t, err)
	fake.Do("release", nil)
	fails(t, (<-started).err, blockjob.ErrRefused)
	settle(t, m)
	if job.Outcome() != blockjob.NoOutcome {
		t.Errorf("told %v", job.Outcome())
	}
	fake.Do("finish", fakeqemu.Fields{"job": "x"})
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestC118StartWhoseReplyIsLostNamesItsJob(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithReconnect(time.Minute))
	fakeMirror(t, m, "copy0") // what the start takes is known by now
	fake.Do("stop", fakeqemu.Fields{"what": "writing"})
	started := start(func() (blockjob.Outcome, error) {
		_, err := m.Mirror(patience(t), "drive1", blockjob.MirrorOptions{Target: "copy1"})
		return blockjob.NoOutcome, err
	})
	fake.Do("wait", fakeqemu.Fields{"command": "blockdev-mirror", "count": 2})
	fake.Do("hang-up", nil)
	fake.Do("go", fakeqemu.Fields{"what": "writing"})
	err := (<-started).err
	fails(t, err, blockjob.ErrDisconnected)

	jobs, listed := m.Jobs(patience(t))
	for errors.Is(listed, blockjob.ErrDisconnected) {
		jobs, listed = m.Jobs(patience(t))
	}
	ok(t, listed)
	for _, info := range jobs {
		if info.ID == "job0" {
			continue
		}
		if !strings.Contains(err.Error(), info.ID) {
			t.Errorf("%v does not name %s", err, info.ID)
		}
		job, err := m.Attach(patience(t), info.ID)
		ok(t, err)
		fake.Do("fail", fakeqemu.Fields{"job": info.ID, "error": "Input/output error"})
		_, err = job.WaitReleased(patience(t)) // it is ours, and is dismissed
		fails(t, err, blockjob.ErrJobFailed)
	}
	if len(jobs) != 2 {
		t.Errorf("listed %+v", jobs)
	}
}
