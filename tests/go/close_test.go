// SPDX-License-Identifier: MIT
// Close during anything, and that nothing is left afterwards.

package blockjob_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestB74CloseDuringAnything(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := context.Background() // nothing but Close ends anything here
	events, err := m.Events(ctx)
	ok(t, err)
	unread, err := m.Events(ctx)
	ok(t, err)
	job := mirror(t, m, halted)
	<-events // so there is one for the other, too
	updates, err := job.Watch(ctx, 1)
	ok(t, err)
	progress := job.Progress(ctx, 0)
	done := job.Done()
	q.Stop()

	calls := waits(job)
	calls["Abort"] = func(ctx context.Context) (blockjob.Outcome, error) { return job.Abort(ctx, blockjob.Force()) }
	calls["Execute"] = func(ctx context.Context) (blockjob.Outcome, error) {
		return blockjob.NoOutcome, m.Execute(ctx, "query-jobs", nil, nil)
	}
	calls["Mirror"] = func(ctx context.Context) (blockjob.Outcome, error) {
		_, err := m.Mirror(ctx, "drive", halted)
		return blockjob.NoOutcome, err
	}
	answers := map[string]<-chan answer{}
	for what, call := range calls {
		call := call
		answers[what] = start(func() (blockjob.Outcome, error) { return call(ctx) })
	}
	drained := start(func() (blockjob.Outcome, error) {
		for range events {
		}
		for range updates {
		}
		for range progress {
		}
		<-done
		<-m.Done()
		return blockjob.NoOutcome, nil
	})
	ok(t, m.Close())

	for what, c := range answers {
		a := <-c
		if a.err == nil {
			t.Errorf("%s: %v", what, a.outcome)
			continue
		}
		if what == "Pivot" && errors.Is(a.err, blockjob.ErrState) {
			continue // the abort came first
		}
		fails(t, a.err, blockjob.ErrClosed)
	}
	<-drained
	for range unread {
	}
	noGoroutines(t)
	q.GoOn()
	if status := q.Jobs()[job.ID()]; status != "running" && status != "" {
		t.Errorf("status %q", status)
	}
}

func TestB74CloseFromEverywhereAtOnce(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	ctx := patience(t)

	for i := 0; i < 50; i++ {
		m, err := blockjob.Dial(ctx, fake.URI)
		ok(t, err)
		job, err := m.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
		ok(t, err)
		var all sync.WaitGroup
		for _, use := range []func(){
			func() { m.Close() },
			func() { m.Close() },
			func() { job.Wait(ctx) },
			func() { job.Pivot(ctx) },
			func() { <-job.Done() },
			func() { m.Execute(ctx, "query-jobs", nil, nil) },
			func() { m.HasCommand("query-jobs") },
			func() { job.Query(ctx) },
			func() {
				if events, err := m.Events(ctx); err == nil {
					for range events {
					}
				}
			},
			func() {
				for range job.Progress(ctx, 0) {
				}
			},
		} {
			use := use
			all.Add(1)
			go func() {
				use()
				all.Done()
			}()
		}
		all.Wait()
	}
	noGoroutines(t)
}

func TestB75ThousandTimesDialAndClose(t *testing.T) {
	q := qemu.Daemon(t)
	ctx := patience(t)
	cycle := func(count int) {
		for i := 0; i < count; i++ {
			m, err := blockjob.Dial(ctx, q.URI)
			ok(t, err)
			ok(t, m.Execute(ctx, "query-jobs", nil, nil))
			ok(t, m.Close())
		}
		noGoroutines(t)
	}
	// What was closed last may be on its way yet: so many are there after each of two cycles.
	settledFiles := func() int {
		files := countFiles(t, "/proc/self/fd")
		for before := -1; files != before; files = countFiles(t, "/proc/self/fd") {
			before = files
			cycle(1)
		}
		return files
	}
	cycle(100) // the runtime has its threads now
	files, threads := settledFiles(), countFiles(t, "/proc/self/task")
	cycle(1000)
	if now := settledFiles(); now != files {
		t.Errorf("%d files, were %d", now, files)
	}
	// The runtime makes a thread when one is in a call to C; ours would be a thousand.
	if now := countFiles(t, "/proc/self/task"); now > threads+runtime.NumCPU()+4 {
		t.Errorf("%d threads, were %d", now, threads)
	}
}

func TestB75ThousandJobs(t *testing.T) {
	q := disks(t)
	m := dial(t, q.URI)
	ctx := patience(t)
	files := countFiles(t, "/proc/self/fd")

	for i := 0; i < 1000; i++ {
		job := mirror(t, m, halted)
		waiting := start(func() (blockjob.Outcome, error) { return job.Wait(ctx) })
		ends(t, blockjob.Cancelled)(job.Abort(ctx))
		ends(t, blockjob.Cancelled)(job.WaitReleased(ctx))
		<-waiting
		<-job.Done()
	}
	if now := countFiles(t, "/proc/self/fd"); now != files {
		t.Errorf("%d files, were %d", now, files)
	}
	if n := runtime.NumGoroutine(); n > 20 {
		t.Errorf("%d goroutines", n)
	}
}

func TestB75MonitorsShareOneThreadAndOneGoroutine(t *testing.T) {
	const count = 50
	pattern := qemu.TempDir(t) + "/%d.qmp"
	fakeqemu.Start(t, "7.2", "--monitors", fmt.Sprint(count), "--socket-pattern", pattern)
	ctx := patience(t)
	dialled := func(index int) *blockjob.Monitor {
		m, err := blockjob.Dial(ctx, "unix:"+fmt.Sprintf(pattern, index))
		ok(t, err)
		return m
	}

	first := dialled(0)
	files, loops := countFiles(t, "/proc/self/fd"), countLoops(t)
	monitors := []*blockjob.Monitor{first}
	for i := 1; i < count; i++ {
		monitors = append(monitors, dialled(i))
	}
	if now := countFiles(t, "/proc/self/fd"); now != files+count-1 {
		t.Errorf("%d files for %d monitors more", now-files, count-1)
	}
	if now := countLoops(t); now != loops || loops != 1 {
		t.Errorf("%d loop threads, were %d", now, loops)
	}
	buffer := make([]byte, 1<<20)
	if n := strings.Count(string(buffer[:runtime.Stack(buffer, true)]), ".(*hub).read("); n != 1 {
		t.Errorf("%d goroutines read", n)
	}
	for _, m := range monitors {
		events, err := m.Events(ctx)
		ok(t, err)
		ok(t, m.Execute(ctx, "query-jobs", nil, nil))
		ok(t, m.Close())
		if _, more := <-events; more || !isClosed(m.Done()) {
			t.Error("a monitor among others is not closed")
		}
	}
	if now := countLoops(t); now != 0 {
		t.Errorf("%d loop threads are left", now)
	}
	noGoroutines(t)
}

// countLoops counts the threads of the library: those in which all signals are blocked.
func countLoops(t testing.TB) int {
	t.Helper()
	tasks, err := os.ReadDir("/proc/self/task")
	ok(t, err)
	count := 0
	for _, task := range tasks {
		status, _ := os.ReadFile("/proc/self/task/" + task.Name() + "/status")
		_, blocked, _ := strings.Cut(string(status), "SigBlk:\t")
		if strings.HasPrefix(blocked, "fffffff") {
			count++
		}
	}
	return count
}

func TestB74ForgottenMonitorIsClosed(t *testing.T) {
	q := disks(t)
	func() {
		m, err := blockjob.Dial(patience(t), q.URI)
		ok(t, err)
		job := mirror(t, m, halted)
		ok(t, job.SetSpeed(patience(t), 2))
	}()

	// QEMU serves the next client when the first one has gone.
	for {
		runtime.GC()
		m, err := blockjob.Dial(briefly(t), q.URI)
		if err == nil {
			m.Close()
			break
		}
		fails(t, err, blockjob.ErrTimeout)
	}
	noGoroutines(t)
}

// collect returns when all finalizers of what is garbage now have run, and what they began is over.
func collect(t *testing.T) {
	t.Helper()
	for i := 0; i < 2; i++ {
		ran := make(chan struct{})
		runtime.SetFinalizer(new([16]byte), func(*[16]byte) { close(ran) })
		runtime.GC()
		<-ran
	}
	gone(t, "(*Monitor).Close(")
}

func TestC103DoneKeepsTheMonitor(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	done := func() <-chan struct{} {
		m, err := blockjob.Dial(patience(t), fake.URI)
		ok(t, err)
		return m.Done()
	}()
	collect(t)
	if isClosed(done) {
		t.Fatal("the monitor was closed")
	}
	fake.Do("die", nil)
	<-done

	for !hubIsGone() {
		collect(t)
	}
	noGoroutines(t)
}

func TestC103StreamKeepsTheMonitor(t *testing.T) {
	fake := fakeqemu.Start(t, "7.2")
	ctx, cancel := context.WithCancel(context.Background())
	events := func() <-chan blockjob.Event {
		m, err := blockjob.Dial(patience(t), fake.URI)
		ok(t, err)
		events, err := m.Events(ctx)
		ok(t, err)
		return events
	}()
	collect(t)
	fake.Do("emit", fakeqemu.Fields{"event": "NEWS"})
	if event := <-events; event.Name != "NEWS" {
		t.Errorf("event %q", event.Name)
	}
	cancel()
	for !hubIsGone() {
		collect(t)
	}
	noGoroutines(t)
}

// hubIsGone reports whether the last monitor was closed.
func hubIsGone() bool {
	buffer := make([]byte, 1<<20)
	return !strings.Contains(string(buffer[:runtime.Stack(buffer, true)]), ".(*hub).read(")
}

func TestB74WhoWaitsKeepsTheMonitor(t *testing.T) {
	q := disks(t)
	done := func() <-chan struct{} {
		m, err := blockjob.Dial(patience(t), q.URI)
		ok(t, err)
		return mirror(t, m, halted).Done()
	}()
	for i := 0; i < 5; i++ {
		runtime.GC()
	}
	if isClosed(done) {
		t.Fatal("the monitor was closed")
	}
	for id := range q.Jobs() {
		q.Do("block-job-cancel", qemu.Args{"device": id})
	}
	<-done

	for {
		runtime.GC()
		if m, err := blockjob.Dial(briefly(t), q.URI); err == nil {
			m.Close()
			break
		}
	}
	noGoroutines(t)
}
