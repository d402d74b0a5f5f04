// SPDX-License-Identifier: MIT
// Connections that end and are made again, and what becomes of jobs, waits and streams.

package blockjob_test

import (
	"context"
	"fmt"
	"net"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// awaitKind returns the next event of that kind.
func awaitKind(t testing.TB, events <-chan blockjob.Event, kind blockjob.EventKind) blockjob.Event {
	t.Helper()
	for event := range events {
		if event.Kind == kind {
			return event
		}
	}
	t.Fatal("the stream ended")
	return blockjob.Event{}
}

func goAway(t testing.TB, fake *fakeqemu.Fake, events <-chan blockjob.Event) {
	t.Helper()
	fake.Do("die", nil)
	event := awaitKind(t, events, blockjob.EventDisconnected)
	fails(t, event.Err, blockjob.ErrDisconnected)
	if event.Name != "" || event.Data != nil {
		t.Errorf("event %+v", event)
	}
}

func comeBack(t testing.TB, fake *fakeqemu.Fake, events <-chan blockjob.Event, jobs string) {
	t.Helper()
	fake.Do("start", fakeqemu.Fields{"jobs": jobs})
	event := awaitKind(t, events, blockjob.EventReconnected)
	if event.Name != "" || event.Data != nil || event.Err != nil {
		t.Errorf("event %+v", event)
	}
}

// reconnecting is a monitor that never gives up, and its events.
func reconnecting(t testing.TB, uri string) (*blockjob.Monitor, <-chan blockjob.Event) {
	t.Helper()
	m := dial(t, uri, blockjob.WithReconnect(blockjob.Forever))
	events, err := m.Events(patience(t))
	ok(t, err)
	return m, events
}

func TestB45StreamThatBeginsMeanwhileHearsOfBoth(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	goAway(t, fake, events)
	later, err := m.Events(patience(t))
	ok(t, err)
	fails(t, (<-later).Err, blockjob.ErrDisconnected)
	comeBack(t, fake, events, "keep")
	if event := <-later; event.Kind != blockjob.EventReconnected {
		t.Errorf("event %+v", event)
	}
}

func TestB45WaitsGoOnThroughANewConnection(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	updates, err := job.Watch(patience(t), 0)
	ok(t, err)
	ready := start(func() (blockjob.Outcome, error) { return blockjob.NoOutcome, job.WaitReady(patience(t)) })
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })

	goAway(t, fake, events)
	_, err = m.Jobs(patience(t))
	fails(t, err, blockjob.ErrDisconnected)
	if isClosed(m.Done()) || isClosed(job.Done()) {
		t.Error("over")
	}
	comeBack(t, fake, events, "keep")
	fake.Do("ready", nil)
	<-job.Ready()
	ok(t, (<-ready).err)
	a := <-pivot
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
	var last blockjob.Update
	for last = range updates {
	}
	if last.Outcome != blockjob.Pivoted {
		t.Errorf("the last update is %+v", last)
	}
	// And QEMU's own events are seen again, as they were.
	if event := awaitKind(t, events, blockjob.EventQEMU); event.Name == "" || event.Err != nil {
		t.Errorf("event %+v", event)
	}
}

func TestB46StillListedGoesOn(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	goAway(t, fake, events)
	fake.Do("ready", nil) // nobody sees its event
	comeBack(t, fake, events, "keep")
	<-job.Ready()
	ends(t, blockjob.Copied)(job.Abort(patience(t)))
}

func TestB46ConcludedWhileAwayHasItsOutcome(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	goAway(t, fake, events)
	fake.Do("fail", fakeqemu.Fields{"error": "No space left on device"})
	comeBack(t, fake, events, "keep")
	<-job.Done()
	fails(t, job.Err(), blockjob.ErrJobFailed, "No space left on device")
}

func TestC13AnActiveCommitThatAnotherClientEndedWhileAway(t *testing.T) {
	for command, outcome := range map[string]blockjob.Outcome{
		"block-job-complete": blockjob.Pivoted, "block-job-cancel": blockjob.Copied,
	} {
		fake := fakeqemu.Start(t, "7.2")
		m, events := reconnecting(t, fake.URI)
		job, err := m.Commit(patience(t), "drive0", blockjob.CommitOptions{JobID: "job0"})
		ok(t, err)
		sawGraph(t, m)
		goAway(t, fake, events)
		fake.Do("ready", nil)
		fake.Do("execute", fakeqemu.Fields{"command": command, "arguments": map[string]any{"device": "job0"}})
		comeBack(t, fake, events, "keep")
		ends(t, outcome)(job.Wait(patience(t)))
	}
}

func TestB46GoneIsLost(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })
	goAway(t, fake, events)
	comeBack(t, fake, events, "none")
	fails(t, (<-waiting).err, blockjob.ErrJobLost, "vanished")
	_, err := m.Attach(patience(t), "job0")
	fails(t, err, blockjob.ErrNoJob)
}

func TestB06DeadlinePassesWhileAway(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	goAway(t, fake, events)
	_, err := job.Wait(briefly(t))
	fails(t, err, blockjob.ErrTimeout)
	if job.Outcome() != blockjob.NoOutcome {
		t.Errorf("ended %v", job.Outcome())
	}
}

func TestB45GivenUpIsToldToAll(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ok(t, m.SetReconnect(50*time.Millisecond))
	events, err := m.Events(patience(t))
	ok(t, err)
	job := fakeMirror(t, m, "copy0")
	goAway(t, fake, events)
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected, "again")
	_, err = job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
	for event := range events {
		t.Errorf("event %+v", event)
	}
	fails(t, m.SetReconnect(time.Second), blockjob.ErrDisconnected)
}

func TestB45SwitchedOffItGivesUp(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	goAway(t, fake, events)
	ok(t, m.SetReconnect(0))
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
}

func TestB45ClosedWhileAway(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m, events := reconnecting(t, fake.URI)
	job := fakeMirror(t, m, "copy0")
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })
	goAway(t, fake, events)
	m.Close()
	fails(t, (<-waiting).err, blockjob.ErrClosed)
	for event := range events {
		t.Errorf("event %+v", event)
	}
	fails(t, m.SetReconnect(0), blockjob.ErrClosed)
}

func TestB61SlowObserverStillHearsOfTheGap(t *testing.T) {
	const limit, count = 16, 5000
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithReconnect(blockjob.Forever),
		blockjob.WithLimit(blockjob.LimitWatchRing, limit))
	slow, err := m.Events(patience(t))
	ok(t, err)
	quick, err := m.Events(patience(t))
	ok(t, err)
	goAway(t, fake, quick)
	comeBack(t, fake, quick, "keep")
	fake.Do("raw", fakeqemu.Fields{
		"text": `{"event": "TICK", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\r\n", "times": count,
	})
	fake.Do("emit", fakeqemu.Fields{"event": "LAST"})
	ok(t, m.Execute(patience(t), "query-version", nil, nil))

	awaitKind(t, slow, blockjob.EventDisconnected)
	awaitKind(t, slow, blockjob.EventReconnected)
	seen, lost := 0, uint64(0)
	for event := range slow {
		seen++
		lost += event.Dropped
		if event.Name == "LAST" {
			break
		}
	}
	if uint64(seen)+lost != count+1 || lost == 0 {
		t.Errorf("%d seen, %d lost", seen, lost)
	}
}

func TestNoTimeToReconnect(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	_, err := blockjob.Dial(patience(t), fake.URI, blockjob.WithReconnect(-1))
	fails(t, err, blockjob.ErrInvalid)
	fails(t, dial(t, fake.URI).SetReconnect(-1), blockjob.ErrInvalid)
}

func TestWhatCanNotBeMadeAgain(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	conn, err := net.Dial("unix", fake.URI[len("unix:"):])
	ok(t, err)
	defer conn.Close()
	file, err := conn.(*net.UnixConn).File()
	ok(t, err)
	defer file.Close()
	_, err = blockjob.Dial(patience(t), fmt.Sprint("fd:", file.Fd()), blockjob.WithReconnect(time.Second))
	fails(t, err, blockjob.ErrInvalid, "again")
	noGoroutines(t)
}

func TestB45B46RealQEMUIsKilledAndStartedAgain(t *testing.T) {
	q := disks(t)
	m, events := reconnecting(t, q.URI)
	job := mirror(t, m, halted)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(context.Background()) })
	q.Kill()
	fails(t, awaitKind(t, events, blockjob.EventDisconnected).Err, blockjob.ErrDisconnected)

	again := q.Again()
	awaitKind(t, events, blockjob.EventReconnected)
	// The other QEMU can't know how it ended.
	fails(t, (<-waiting).err, blockjob.ErrJobLost)
	for _, name := range []string{"drive", "copy"} {
		again.Do("blockdev-add", qemu.Args{"driver": "null-co", "node-name": name, "size": 65536})
	}
	ends(t, blockjob.Pivoted)(mirror(t, m, blockjob.MirrorOptions{Target: "copy"}).Pivot(patience(t)))
	if job.Outcome() != blockjob.Lost {
		t.Errorf("ended %v", job.Outcome())
	}
}
