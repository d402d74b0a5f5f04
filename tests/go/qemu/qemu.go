// SPDX-License-Identifier: MIT

// Package qemu starts real QEMUs for the tests, and makes disks for their jobs: a client of
// tests/support/qemu.
package qemu

import (
	"path/filepath"
	"sync"
	"testing"

	"github.com/libblockjob/libblockjob/tests/go/helper"
)

// DiskBytes is how large the disks are: enough for a job to be seen in the middle of it.
const DiskBytes = 4 << 20

// Args are the arguments of a command.
type Args map[string]any

// A QEMU has a directory of its own and two monitors for the library. It ends with its test.
type QEMU struct {
	URI    string
	Path   string // of the first monitor's socket
	Second string // of the second's

	t   testing.TB
	dir string
}

// host is the helper that runs the QEMUs of this process.
var host struct {
	start sync.Once
	*helper.Helper
	err error
}

func do(t testing.TB, step string, fields helper.Fields, result any) {
	t.Helper()
	host.start.Do(func() { host.Helper, host.err = helper.Start("tests/support/qemu") })
	err := host.err
	if err == nil {
		err = host.Helper.Do(step, fields, result)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// Daemon starts a qemu-storage-daemon.
func Daemon(t testing.TB) *QEMU {
	t.Helper()
	return in(t, TempDir(t), "daemon")
}

// System starts a qemu-system-x86_64 without a machine.
func System(t testing.TB) *QEMU {
	t.Helper()
	return in(t, TempDir(t), "system")
}

// Machine starts a qemu-system-x86_64 with a bus that disks can be plugged into.
func Machine(t testing.TB) *QEMU {
	t.Helper()
	return in(t, TempDir(t), "machine")
}

// Again starts another qemu-storage-daemon on the sockets of one that was killed.
func (q *QEMU) Again() *QEMU {
	q.t.Helper()
	return in(q.t, q.dir, "daemon")
}

func in(t testing.TB, dir, program string) *QEMU {
	t.Helper()
	do(t, "start", helper.Fields{"program": program, "directory": dir}, nil)
	path := filepath.Join(dir, "first.qmp")
	return &QEMU{URI: "unix:" + path, Path: path, Second: filepath.Join(dir, "second.qmp"), t: t, dir: dir}
}

// TempDir is a directory with a path that is short enough for sockets.
func TempDir(t testing.TB) string {
	t.Helper()
	var made struct{ Directory string }
	do(t, "directory", nil, &made)
	t.Cleanup(func() { do(t, "end", helper.Fields{"directory": made.Directory}, nil) })
	return made.Directory
}

// step does a step of this QEMU, and returns its results.
func (q *QEMU) step(name string, fields helper.Fields) (result struct {
	Return any
	Error  *struct{ Desc string }
	Jobs   map[string]string
	Node   string
	Same   bool
}) {
	q.t.Helper()
	all := helper.Fields{"qemu": q.dir}
	for key, value := range fields {
		all[key] = value
	}
	do(q.t, name, all, &result)
	return result
}

// Do runs a command that must succeed.
func (q *QEMU) Do(command string, arguments Args) {
	q.t.Helper()
	if e := q.step("qmp", helper.Fields{"execute": command, "arguments": arguments}).Error; e != nil {
		q.t.Fatalf("%s: %s", command, e.Desc)
	}
}

// WaitStatus waits until the job has that status.
func (q *QEMU) WaitStatus(id, status string) {
	q.t.Helper()
	data := Args{"id": id, "status": status}
	q.step("wait", helper.Fields{"event": "JOB_STATUS_CHANGE", "data": data})
}

// Jobs returns the status of each job that QEMU knows.
func (q *QEMU) Jobs() map[string]string {
	q.t.Helper()
	return q.step("jobs", nil).Jobs
}

// Kill kills it without a word to anyone.
func (q *QEMU) Kill() {
	q.t.Helper()
	q.step("kill", nil)
}

// Stop stops it: it is there, but silent.
func (q *QEMU) Stop() {
	q.t.Helper()
	q.step("stop", nil)
}

// GoOn ends a Stop.
func (q *QEMU) GoOn() {
	q.t.Helper()
	q.step("go-on", nil)
}

// AddDisk adds a node with a file full of data.
func (q *QEMU) AddDisk(name string) {
	q.t.Helper()
	q.step("disk", helper.Fields{"name": name})
}

// AddEmpty adds a node with a file full of nothing.
func (q *QEMU) AddEmpty(name string) {
	q.t.Helper()
	q.step("empty", helper.Fields{"name": name})
}

// AddFailing adds an empty disk whose middle can't be written.
func (q *QEMU) AddFailing(name string) {
	q.t.Helper()
	q.step("failing", helper.Fields{"name": name})
}

// AddServed adds an empty disk that has a server of its own, which may hang.
func (q *QEMU) AddServed(name string) {
	q.t.Helper()
	q.step("served", helper.Fields{"name": name})
}

// Hang lets the disk's server answer no more.
func (q *QEMU) Hang(name string) {
	q.t.Helper()
	q.step("hang", helper.Fields{"name": name})
}

// Answer ends a Hang.
func (q *QEMU) Answer(name string) {
	q.t.Helper()
	q.step("answer", helper.Fields{"name": name})
}

// AddFailingOnce adds an empty disk whose middle can't be written the first time.
func (q *QEMU) AddFailingOnce(name string) {
	q.t.Helper()
	q.step("failing", helper.Fields{"name": name, "once": true})
}

// AddChain adds the qcow2 disks "base" <- "middle" <- "active", each with data of its own.
func (q *QEMU) AddChain() {
	q.t.Helper()
	q.step("chain", nil)
}

// AddGuest adds a guest that has the node as its disk; jobs switch it.
func (q *QEMU) AddGuest(node string) {
	q.t.Helper()
	q.step("guest", helper.Fields{"node": node})
}

// DiskOfGuest returns the node that is the guest's disk now.
func (q *QEMU) DiskOfGuest() string {
	q.t.Helper()
	return q.step("disk-of-guest", nil).Node
}

// SameData tells whether the files of two disks are equal.
func (q *QEMU) SameData(one, other string) bool {
	q.t.Helper()
	return q.step("same-data", helper.Fields{"one": one, "other": other}).Same
}
