// SPDX-License-Identifier: MIT
// Events, updates and progress on channels.

package blockjob_test

import (
	"context"
	"encoding/json"
	"reflect"
	"runtime"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestB60EveryObserverSeesEveryEvent(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()

	var streams []<-chan blockjob.Event
	for i := 0; i < 3; i++ {
		events, err := m.Events(ctx)
		ok(t, err)
		streams = append(streams, events)
	}
	// A verb is seen by all, whoever gave it.
	job := mirror(t, m, blockjob.MirrorOptions{Target: "copy", JobID: "job"})
	<-job.Ready()
	q.Do("block-job-complete", qemu.Args{"device": "job"})

	want := []string{"created", "running", "ready", "BLOCK_JOB_READY", "waiting", "pending", "BLOCK_JOB_COMPLETED", "concluded", "null"}
	for i, events := range streams {
		var got []string
		for len(got) < len(want) {
			event := <-events
			var data struct{ ID, Device, Status string }
			ok(t, json.Unmarshal(event.Data, &data))
			if data.ID+data.Device != "job" {
				continue
			}
			if event.Time.IsZero() || event.Dropped != 0 {
				t.Errorf("event %+v", event)
			}
			if event.Name == "JOB_STATUS_CHANGE" {
				got = append(got, data.Status)
			} else {
				got = append(got, event.Name)
			}
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("observer %d saw %v, want %v", i, got, want)
		}
	}
	cancel()
	for _, events := range streams {
		for range events {
		}
	}
}

func TestB49UnknownEventsArePassedOn(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	events, err := m.Events(patience(t))
	ok(t, err)

	fake.Do("emit", fakeqemu.Fields{"event": "NEWS", "data": map[string]any{"large": uint64(1) << 63, "text": "é\"\n"}})
	event := <-events
	var data struct {
		Large uint64
		Text  string
	}
	ok(t, json.Unmarshal(event.Data, &data))
	if event.Name != "NEWS" || data.Large != 1<<63 || data.Text != "é\"\n" {
		t.Errorf("event %s %s", event.Name, event.Data)
	}
	fake.Do("raw", fakeqemu.Fields{"text": `{"event": "BARE", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\r\n"})
	event = <-events
	if event.Name != "BARE" || event.Data != nil || !event.Time.Equal(time.UnixMicro(1000002)) {
		t.Errorf("event %+v", event)
	}
}

func TestB61SlowObserverIsToldWhatItLost(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	const limit, count = 16, 5000
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, limit))
	slow, err := m.Events(patience(t))
	ok(t, err)
	fast, err := m.Events(patience(t))
	ok(t, err)

	fake.Do("raw", fakeqemu.Fields{
		"text": `{"event": "TICK", "timestamp": {"seconds": 1, "microseconds": 2}}` + "\r\n", "times": count,
	})
	fake.Do("emit", fakeqemu.Fields{"event": "LAST"})
	total := func(events <-chan blockjob.Event) (seen, lost uint64) {
		for event := range events {
			seen++
			lost += event.Dropped
			if event.Name == "LAST" {
				break
			}
		}
		return seen, lost
	}
	if seen, lost := total(fast); seen+lost != count+1 {
		t.Errorf("%d seen, %d lost", seen, lost)
	}
	// It disturbs nobody: commands are answered while it does not read.
	ok(t, m.Execute(patience(t), "query-jobs", nil, nil))
	// One may be on its way already; the ring has the rest.
	if seen, lost := total(slow); seen+lost != count+1 || seen > limit+1 {
		t.Errorf("%d seen, %d lost", seen, lost)
	}
}

func TestB61WhatMattersIsNeverLost(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 8))
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	updates, err := job.Watch(ctx, 0)
	ok(t, err)

	fake.Do("ready", nil)
	fake.Do("bounce", fakeqemu.Fields{"times": 1000})
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))

	ready, ended, lost := 0, 0, uint64(0)
	for u := range updates {
		lost += u.Dropped
		switch u.Kind {
		case blockjob.UpdateReady:
			ready++
		case blockjob.UpdateEnded:
			ended++
			if u.Outcome != blockjob.Pivoted || u.Err != nil {
				t.Errorf("ended %v, %v", u.Outcome, u.Err)
			}
		}
	}
	if ready != 1 || ended != 1 || lost == 0 {
		t.Errorf("%d times ready, %d times ended, %d lost", ready, ended, lost)
	}
}

func TestB61OldestUpdatesAreDroppedFirst(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 2))
	ctx := patience(t)
	job := fakeMirror(t, m, "copy0")
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	ok(t, job.Pause(ctx))
	for i := 0; i < 2; i++ {
		ok(t, job.Resume(ctx))
		ok(t, job.Pause(ctx))
	}
	fake.Do("die", nil)
	<-m.Done()

	// One may be on its way already, and the latest is kept.
	seen := 0
	for u := range updates {
		if u.Kind == blockjob.UpdateStalled {
			seen++
		}
	}
	if seen < 1 || seen > 2 {
		t.Errorf("saw %d stalls", seen)
	}
}

func TestB62StreamEndsAndSaysWhy(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	events, err := m.Events(patience(t))
	ok(t, err)
	fake.Do("emit", fakeqemu.Fields{"event": "LAST"})
	fake.Do("die", nil)
	<-m.Done()

	// What came before is still there to be read.
	if event := <-events; event.Name != "LAST" {
		t.Errorf("event %q", event.Name)
	}
	if event, more := <-events; more {
		t.Errorf("event %+v", event)
	}
	fails(t, m.Err(), blockjob.ErrDisconnected)
}

func TestB07CancelledContextEndsItsStreamOnly(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx, cancel := context.WithCancel(context.Background())
	idle, err := m.Events(ctx)
	ok(t, err)
	staying, err := m.Events(patience(t))
	ok(t, err)

	cancel()
	for range idle {
		t.Error("an event")
	}
	fake.Do("emit", fakeqemu.Fields{"event": "NEWS"})
	if event := <-staying; event.Name != "NEWS" {
		t.Errorf("event %q", event.Name)
	}
}

func TestB74CancelledStreamThatNobodyReads(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx, cancel := context.WithCancel(context.Background())
	_, err := m.Events(ctx)
	ok(t, err)
	read, err := m.Events(ctx)
	ok(t, err)
	fake.Do("emit", fakeqemu.Fields{"event": "NEWS"})
	<-read // so there is one for the other, too

	cancel()
	gone(t, "libblockjob/go.open[")
}

func TestWatchTellsAllInOrder(t *testing.T) {
	m := dial(t, disks(t).URI)
	ctx := patience(t)
	job := mirror(t, m, halted)
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	release(t, job)
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))

	var got []string
	for u := range updates {
		switch u.Kind {
		case blockjob.UpdateStatus:
			got = append(got, u.Status)
		case blockjob.UpdateReady:
			got = append(got, "READY")
		case blockjob.UpdateEnded:
			got = append(got, u.Outcome.String())
		default:
			t.Errorf("update %+v", u)
		}
	}
	want := []string{"ready", "READY", "waiting", "pending", "PIVOTED"}
	if !reflect.DeepEqual(got, want) && !reflect.DeepEqual(got, append([]string{"running"}, want...)) {
		t.Errorf("saw %v", got)
	}

	// One that comes late hears what is true.
	updates, err = job.Watch(ctx, 0)
	ok(t, err)
	got = nil
	for u := range updates {
		got = append(got, u.Outcome.String())
	}
	if !reflect.DeepEqual(got, []string{"NONE", "PIVOTED"}) {
		t.Errorf("saw %v", got)
	}
	_, err = job.Watch(ctx, -1)
	fails(t, err, blockjob.ErrInvalid)
}

func TestB63Progress(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx, cancel := context.WithCancel(patience(t))
	defer cancel()
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)

	progress := job.Progress(ctx, time.Millisecond)
	for _, offset := range []int64{1 << 20, 3 << 20} {
		fake.Do("progress", fakeqemu.Fields{"offset": offset, "len": 64 << 20})
		for p := range progress {
			if p.Total != 64<<20 {
				t.Errorf("progress %+v", p)
			}
			if p.Current == offset {
				break
			}
		}
	}
	cancel()
	for range progress {
	}

	// Nobody looks any more, so nobody is asked.
	asks := func() int { return fake.Sent("query-jobs") + fake.Sent("query-block-jobs") }
	ok(t, m.Execute(patience(t), "query-version", nil, nil)) // what was under way has arrived
	before := asks()
	time.Sleep(20 * time.Millisecond)
	if now := asks(); now != before {
		t.Errorf("asked %d times", now-before)
	}

	fake.Do("ready", nil)
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	for range job.Progress(patience(t), time.Millisecond) {
		t.Error("progress of what is over")
	}
}

func TestB25TotalIsNotCurrentBeforeReady(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
	ok(t, err)
	fake.Do("progress", fakeqemu.Fields{"offset": 64 << 20, "len": 64 << 20})
	info, err := job.Query(ctx)
	ok(t, err)
	if info.Ready || info.Current == info.Total {
		t.Errorf("info %+v", info)
	}
	fake.Do("ready", nil)
	ok(t, job.WaitReady(ctx))
	info, err = job.Query(ctx)
	ok(t, err)
	if !info.Ready || info.Current != info.Total {
		t.Errorf("info %+v", info)
	}
}

// count reads events up to the one called LAST.
func count(events <-chan blockjob.Event) (seen, lost, bytes uint64) {
	for event := range events {
		seen++
		lost += event.Dropped
		bytes += uint64(len(event.Data))
		if event.Name == "LAST" {
			break
		}
	}
	return seen, lost, bytes
}

func TestC42UnreadEventsAreBoundedInBytes(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	const limit, size, sent = 1 << 20, 200_000, 64
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitMessageBytes, limit))
	events, err := m.Events(patience(t))
	ok(t, err)
	for i := 0; i < sent; i++ {
		fake.Do("huge", fakeqemu.Fields{"bytes": size})
	}
	fake.Do("emit", fakeqemu.Fields{"event": "LAST"})
	ok(t, m.Execute(patience(t), "query-jobs", nil, nil)) // answered after all of them

	// One may be on its way already.
	seen, lost, bytes := count(events)
	if seen+lost != sent+1 || bytes > limit+size+100 || bytes < limit/2 {
		t.Errorf("%d seen, %d lost, %d bytes", seen, lost, bytes)
	}
}

func TestC42OneEventMayBeLargerThanAllOthers(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitMessageBytes, 1<<20))
	events, err := m.Events(patience(t))
	ok(t, err)
	for i := 0; i < 3; i++ {
		fake.Do("huge", fakeqemu.Fields{"bytes": 1<<20 - 200})
	}
	ok(t, m.Execute(patience(t), "query-jobs", nil, nil))
	var last blockjob.Event
	for seen := uint64(0); seen < 3; seen += 1 + last.Dropped {
		if last = <-events; len(last.Data) < 1<<20-200 {
			t.Errorf("%d bytes", len(last.Data))
		}
	}
}

func TestC104EventsThatWereReadAreForgotten(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	const size, sent = 1 << 20, 60
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitMessageBytes, 2*sent*size))
	events, err := m.Events(patience(t))
	ok(t, err)
	before := heap()
	for i := 0; i < sent; i++ {
		fake.Do("huge", fakeqemu.Fields{"bytes": size})
	}
	ok(t, m.Execute(patience(t), "query-jobs", nil, nil))
	for i := 0; i < sent; i++ {
		if event := <-events; event.Dropped != 0 {
			t.Fatalf("%d lost", event.Dropped)
		}
	}
	if kept := heap() - before; kept > sent/2*size {
		t.Errorf("%d bytes are kept of %d that were read", kept, sent*size)
	}
}

// heap is what is in use on Go's, in bytes.
func heap() int64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func TestB61WhatMattersNeedsNoRoom(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI, blockjob.WithLimit(blockjob.LimitWatchRing, 1))
	ctx := patience(t)
	job := fakeMirror(t, m, "copy0")
	updates, err := job.Watch(ctx, 0)
	ok(t, err)
	ok(t, job.Pause(ctx)) // one update is on its way
	ok(t, job.Resume(ctx))
	fake.Do("ready", nil)
	ok(t, job.Pause(ctx))
	ok(t, job.Resume(ctx))
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))

	var got []blockjob.UpdateKind
	for u := range updates {
		if u.Kind == blockjob.UpdateReady || u.Kind == blockjob.UpdateEnded {
			got = append(got, u.Kind)
		}
	}
	if !reflect.DeepEqual(got, []blockjob.UpdateKind{blockjob.UpdateReady, blockjob.UpdateEnded}) {
		t.Errorf("saw %v", got)
	}
}
