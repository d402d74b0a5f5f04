// SPDX-License-Identifier: MIT
// What the tests share: patience, monitors that are closed, jobs that must start, errors that must be.

// Package blockjob_test tests the Go module against real QEMUs and fakeqemu. Where a behaviour has a
// number (see docs/behaviours.md), the name of its test begins with it.
package blockjob_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// patience is a context for what must happen; its end is that of a broken test.
func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// briefly is a context for what must not happen.
func briefly(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	t.Cleanup(cancel)
	return ctx
}

// dial connects; the end of the test closes the monitor and finds none of its goroutines.
func dial(t testing.TB, uri string, options ...blockjob.DialOption) *blockjob.Monitor {
	t.Helper()
	monitor, err := blockjob.Dial(patience(t), uri, options...)
	if err != nil {
		t.Fatal(err)
	}
	if _, again := dialled.LoadOrStore(t, true); !again {
		t.Cleanup(func() { noGoroutines(t) }) // the last of all
	}
	t.Cleanup(func() { monitor.Close() })
	return monitor
}

// dialled has the tests that have.
var dialled sync.Map

// noGoroutines waits until no goroutine of the module is left.
func noGoroutines(t testing.TB) {
	t.Helper()
	gone(t, "libblockjob/libblockjob/go.")
}

// gone waits until no goroutine has those words in its stack.
func gone(t testing.TB, words string) {
	t.Helper()
	buffer := make([]byte, 1<<20)
	for end := time.Now().Add(time.Minute); ; {
		stacks := string(buffer[:runtime.Stack(buffer, true)])
		if !strings.Contains(stacks, words) {
			return
		}
		if time.Now().After(end) {
			t.Errorf("a goroutine is left:\n%s", stacks)
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// disks is a qemu-storage-daemon with the full disk "drive" and the empty "copy".
func disks(t testing.TB) *qemu.QEMU {
	t.Helper()
	q := qemu.Daemon(t)
	q.AddDisk("drive")
	q.AddEmpty("copy")
	return q
}

// halted are options of a mirror to "copy" that copies a first piece and then stands still, until its
// speed is set to 0. So a test can look at a running job as long as it likes.
var halted = blockjob.MirrorOptions{Target: "copy", Speed: 1, BufSize: 65536}

func mirror(t testing.TB, m *blockjob.Monitor, options blockjob.MirrorOptions) *blockjob.Job {
	t.Helper()
	job, err := m.Mirror(patience(t), "drive", options)
	ok(t, err)
	return job
}

// sawGraph returns when the library has seen who uses the disks of its jobs.
func sawGraph(t testing.TB, m *blockjob.Monitor) {
	t.Helper()
	for i := 0; i < 2; i++ {
		_, err := m.Jobs(patience(t))
		ok(t, err)
	}
}

func release(t testing.TB, job *blockjob.Job) {
	t.Helper()
	ok(t, job.SetSpeed(patience(t), 0))
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// fails checks that an error is of that kind, and that its text has all of the words.
func fails(t testing.TB, err error, code blockjob.Code, words ...string) *blockjob.Error {
	t.Helper()
	var e *blockjob.Error
	if !errors.As(err, &e) || !errors.Is(err, code) {
		t.Fatalf("got %v, want %v", err, code)
	}
	for _, word := range words {
		if !strings.Contains(e.Text, word) {
			t.Fatalf("%q doesn't say %q", e.Text, word)
		}
	}
	return e
}

// ends checks how a call ended that returns an outcome.
func ends(t testing.TB, want blockjob.Outcome) func(blockjob.Outcome, error) {
	return func(outcome blockjob.Outcome, err error) {
		t.Helper()
		if err != nil || outcome != want {
			t.Fatalf("ended %v, %v; want %v", outcome, err, want)
		}
	}
}

// answer is what a call in another goroutine returned.
type answer struct {
	outcome blockjob.Outcome
	err     error
}

// start starts a call, whose answer comes on the channel.
func start(call func() (blockjob.Outcome, error)) <-chan answer {
	answers := make(chan answer, 1)
	go func() {
		outcome, err := call()
		answers <- answer{outcome, err}
	}()
	return answers
}

func isClosed(channel <-chan struct{}) bool {
	select {
	case <-channel:
		return true
	default:
		return false
	}
}

func countFiles(t testing.TB, dir string) int {
	t.Helper()
	entries, err := os.ReadDir(dir)
	ok(t, err)
	return len(entries)
}
