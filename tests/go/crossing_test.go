// SPDX-License-Identifier: MIT
// What crosses on the wire, as in tests/core/test_crossing.c: a verb, a list or a start, and the end of
// a job.

package blockjob_test

import (
	"errors"
	"path/filepath"
	"testing"

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
