// SPDX-License-Identifier: MIT
// Waiting: any number of waits on one thing, and that leaving one disturbs nothing.

package blockjob_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestB02EventsBeforeTheReply(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)

	fake.Do("when", fakeqemu.Fields{"command": "blockdev-mirror", "at": "received", "steps": []any{}})
	fake.Do("when", fakeqemu.Fields{"command": "blockdev-mirror", "at": "done", "steps": []any{
		map[string]any{"do": "ready"},
	}})
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	ok(t, job.WaitReady(ctx))
	if !job.IsReady() {
		t.Error("not ready")
	}
	<-job.Ready()
}

func TestB03OverBeforeTheFirstWait(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)

	fake.Do("when", fakeqemu.Fields{"command": "blockdev-mirror", "at": "done", "steps": []any{
		map[string]any{"do": "fail", "error": "No space left on device"},
	}})
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	fails(t, job.WaitReady(ctx), blockjob.ErrJobFailed, "No space left on device")
	_, err = job.Wait(ctx)
	fails(t, err, blockjob.ErrJobFailed, "No space left on device")
	<-job.Done()
}

func TestB04WhatHasHappenedIsAnsweredAtOnce(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	<-job.Ready()

	// Also to a context that has ended: what is true needs no waiting.
	late, cancel := context.WithDeadline(context.Background(), job.Timeline().StartSent)
	defer cancel()
	ok(t, job.WaitReady(late))
	ok(t, job.WaitReady(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	ends(t, blockjob.Pivoted)(job.Wait(late))
	ends(t, blockjob.Pivoted)(job.Wait(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	<-job.Done()
	<-job.Done()

	// Channels that are first asked for when all is over; and when the monitor is closed.
	again, err := m.Attach(ctx, job.ID())
	if err == nil {
		<-again.Ready()
		<-again.Done()
	}
	m.Close()
	<-job.Ready()
	<-job.Done()
}

func TestB04ChannelsOfAClosedMonitor(t *testing.T) {
	m := dial(t, disks(t).URI)
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy"})
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	m.Close()
	<-job.Ready()
	<-job.Done()
	if job.Outcome() != blockjob.Pivoted || job.Err() != nil {
		t.Errorf("ended %v, %v", job.Outcome(), job.Err())
	}
}

func TestB05ThousandsOfWaitsOnOneJob(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	const count = 3000
	leaving, cancel := context.WithCancel(ctx)
	var ready, done, left []<-chan answer
	var closed sync.WaitGroup
	for i := 0; i < count; i++ {
		ready = append(ready, start(func() (blockjob.Outcome, error) { return blockjob.NoOutcome, job.WaitReady(ctx) }))
		done = append(done, start(func() (blockjob.Outcome, error) { return job.Wait(ctx) }))
		left = append(left, start(func() (blockjob.Outcome, error) { return job.Wait(leaving) }))
		closed.Add(1)
		go func() {
			<-job.Ready()
			<-job.Done()
			closed.Done()
		}()
	}
	cancel()
	for _, answers := range left {
		a := <-answers
		fails(t, a.err, blockjob.ErrCancelled)
	}
	release(t, job)
	for _, answers := range ready {
		a := <-answers
		ok(t, a.err)
	}
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	for _, answers := range done {
		a := <-answers
		ends(t, blockjob.Pivoted)(a.outcome, a.err)
	}
	closed.Wait()
}

func TestB06DeadlinePassesAndTheJobGoesOn(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	patient := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })

	for what, wait := range waits(job) {
		outcome, err := wait(briefly(t))
		e := fails(t, err, blockjob.ErrTimeout)
		if !errors.Is(err, context.DeadlineExceeded) || !e.Timeout() || outcome != blockjob.NoOutcome {
			t.Errorf("%s: %v, %v", what, outcome, err)
		}
	}
	if status := q.Jobs()[job.ID()]; status != "running" {
		t.Errorf("status %q", status)
	}

	// The pivot that nobody waits for any more was not started.
	release(t, job)
	ok(t, job.WaitReady(ctx))
	if !job.Timeline().CompleteSent.IsZero() {
		t.Error("complete was sent")
	}
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	a := <-patient
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
}

func waits(job *blockjob.Job) map[string]func(context.Context) (blockjob.Outcome, error) {
	return map[string]func(context.Context) (blockjob.Outcome, error){
		"WaitReady":    func(ctx context.Context) (blockjob.Outcome, error) { return job.Outcome(), job.WaitReady(ctx) },
		"Wait":         job.Wait,
		"WaitReleased": job.WaitReleased,
		"Pivot":        func(ctx context.Context) (blockjob.Outcome, error) { return job.Pivot(ctx) },
	}
}

func TestB06DeadlineOfAnAbort(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	fake.Do("hold-end", nil)

	_, err = job.Abort(briefly(t))
	fails(t, err, blockjob.ErrTimeout)
	if job.Outcome() != blockjob.NoOutcome {
		t.Errorf("ended %v", job.Outcome())
	}
	fake.Do("finish", nil)
	ends(t, blockjob.Cancelled)(job.Wait(ctx))
}

func TestB07CancelledWaitLeavesTheJobAlone(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	job := mirror(t, m, halted)
	patient := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })

	for what, wait := range waits(job) {
		ctx, cancel := context.WithCancel(context.Background())
		wait := wait
		waiting := start(func() (blockjob.Outcome, error) { return wait(ctx) })
		cancel()
		err := (<-waiting).err
		fails(t, err, blockjob.ErrCancelled)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if status := q.Jobs()[job.ID()]; status != "running" {
		t.Errorf("status %q", status)
	}
	release(t, job)
	ok(t, job.WaitReady(patience(t)))
	if !job.Timeline().CompleteSent.IsZero() {
		t.Error("complete was sent")
	}
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	a := <-patient
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
}

func TestB45QEMUKilledAnswersAll(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	events, err := m.Events(ctx)
	ok(t, err)
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	progress := job.Progress(ctx, 1)
	ready, done := job.Ready(), job.Done()

	var waiting []<-chan answer
	for _, wait := range waits(job) {
		wait := wait
		waiting = append(waiting, start(func() (blockjob.Outcome, error) { return wait(ctx) }))
	}
	q.Kill()
	for _, answers := range waiting {
		a := <-answers
		fails(t, a.err, blockjob.ErrJobLost)
	}
	<-done
	if job.Outcome() != blockjob.Lost || isClosed(ready) {
		t.Errorf("ended %v", job.Outcome())
	}
	e := fails(t, job.Err(), blockjob.ErrJobLost)
	if e.Text == "" || e.Outcome != blockjob.Lost {
		t.Errorf("%+v", e)
	}
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected)
	for range events {
	}
	for range progress {
	}
	var last blockjob.Update
	for last = range updates {
	}
	if last.Kind != blockjob.UpdateEnded || last.Outcome != blockjob.Lost || !errors.Is(last.Err, blockjob.ErrJobLost) {
		t.Errorf("the last update is %+v", last)
	}

	// What is asked now is answered, too.
	fails(t, m.Execute(ctx, "query-jobs", nil, nil), blockjob.ErrDisconnected)
	_, err = job.Wait(ctx)
	fails(t, err, blockjob.ErrJobLost)
	_, err = m.Attach(ctx, job.ID())
	fails(t, err, blockjob.ErrDisconnected)
	_, err = m.HasCommand("query-jobs")
	fails(t, err, blockjob.ErrDisconnected)
}

func TestB45CommandUnderWayWhenQEMUIsKilled(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	q.Stop()
	waiting := start(func() (blockjob.Outcome, error) {
		return blockjob.NoOutcome, m.Execute(patience(t), "query-jobs", nil, nil)
	})
	q.Kill()
	fails(t, (<-waiting).err, blockjob.ErrDisconnected)
}

func TestB45QuitIsNoSuccess(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	ok(t, m.Execute(ctx, "quit", nil, nil))
	outcome, err := job.Wait(ctx)
	if outcome != blockjob.Cancelled && (outcome != blockjob.Lost || !errors.Is(err, blockjob.ErrJobLost)) {
		t.Errorf("ended %v, %v", outcome, err)
	}
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected)
}

func TestB46JobIsFoundAgainByANewConnection(t *testing.T) {
	q := disks(t)
	first := dial(t, q.URI)
	job := mirror(t, first, halted)
	first.Close()

	second := dial(t, q.URI)
	ctx := patience(t)
	found, err := second.Attach(ctx, job.ID())
	ok(t, err)
	release(t, found)
	ends(t, blockjob.Pivoted)(found.Pivot(ctx))
}

// overtaken is a context that is cancelled when it is first waited for, after `before` was done.
type overtaken struct {
	context.Context
	once   *sync.Once
	before func()
	cancel context.CancelFunc
}

func (c overtaken) Done() <-chan struct{} {
	c.once.Do(func() {
		c.before()
		c.cancel()
	})
	return c.Context.Done()
}

func TestC108StartThatIsAnsweredWhenItIsCancelled(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	for i := 0; i < 20; i++ {
		ctx, cancel := context.WithCancel(context.Background())
		job, err := m.Mirror(overtaken{ctx, new(sync.Once), func() {
			ok(t, m.Execute(patience(t), "query-jobs", nil, nil)) // answered after the start
		}, cancel}, "drive0", blockjob.MirrorOptions{Target: "copy0"})
		ok(t, err)
		ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
		ends(t, blockjob.Cancelled)(job.WaitReleased(patience(t)))
	}
}

func TestB10GoneIsNotSuccess(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	fake.Do("vanish", nil)
	_, err = job.Query(ctx)
	fails(t, err, blockjob.ErrNoJob, job.ID())
	if outcome := job.Outcome(); outcome != blockjob.NoOutcome && outcome != blockjob.Lost {
		t.Errorf("ended %v", outcome)
	}
	m.Close()
	if outcome := job.Outcome(); outcome != blockjob.NoOutcome && outcome != blockjob.Lost {
		t.Errorf("ended %v", outcome)
	}
}

func TestB16CancelIsNotTakenForTheOtherJob(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	one, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0", JobID: "one"})
	ok(t, err)
	two, err := m.Mirror(ctx, "disk0", blockjob.MirrorOptions{Target: "copy1", JobID: "two"})
	ok(t, err)
	fake.Do("ready", fakeqemu.Fields{"job": "one"})
	fake.Do("ready", fakeqemu.Fields{"job": "two"})
	<-one.Ready()
	<-two.Ready()
	ends(t, blockjob.Copied)(one.Abort(ctx))
	ends(t, blockjob.Pivoted)(two.Pivot(ctx))
	if one.Outcome() != blockjob.Copied {
		t.Errorf("ended %v", one.Outcome())
	}
}

func TestB32PivotHoldsWhileAnotherCallerLeaves(t *testing.T) {
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddEmpty("copy")
	m := dial(t, q.URI)
	ctx := patience(t)
	job := mirror(t, m, halted)

	staying := start(func() (blockjob.Outcome, error) { return job.Pivot(ctx) })
	_, err := job.Pivot(briefly(t))
	fails(t, err, blockjob.ErrTimeout)
	release(t, job)
	a := <-staying
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
}
