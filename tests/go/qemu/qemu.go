// SPDX-License-Identifier: MIT

// Package qemu starts real QEMUs for the tests, and makes disks for their jobs.
package qemu

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// DiskBytes is how large the disks are: enough for a job to be seen in the middle of it.
const DiskBytes = 4 << 20

// A QEMU has a directory of its own and two monitors: one for the library, one for the test.
type QEMU struct {
	*Client // of the second monitor
	URI     string
	Path    string // of the first monitor's socket
	Second  string // of the second's

	t       testing.TB
	dir     string
	process *exec.Cmd
	said    bytes.Buffer // on its standard error
	killed  sync.Once
}

// Daemon starts a qemu-storage-daemon.
func Daemon(t testing.TB) *QEMU {
	t.Helper()
	return start(t, TempDir(t), "qemu-storage-daemon", daemonArguments...)
}

// Again starts another qemu-storage-daemon on the sockets of one that was killed.
func (q *QEMU) Again() *QEMU {
	q.t.Helper()
	for _, path := range []string{q.Path, q.Second} {
		if err := os.Remove(path); err != nil {
			q.t.Fatal(err)
		}
	}
	return start(q.t, q.dir, "qemu-storage-daemon", daemonArguments...)
}

var daemonArguments = []string{
	"--chardev", "socket,id=first,fd=3,server=on,wait=off", "--monitor", "chardev=first",
	"--chardev", "socket,id=second,fd=4,server=on,wait=on", "--monitor", "chardev=second",
}

// System starts a qemu-system-x86_64 without a machine.
func System(t testing.TB) *QEMU {
	t.Helper()
	return start(t, TempDir(t), "qemu-system-x86_64", "-machine", "none", "-nodefaults", "-display", "none", "-S",
		"-chardev", "socket,id=first,fd=3,server=on,wait=off", "-mon", "chardev=first,mode=control",
		"-chardev", "socket,id=second,fd=4,server=on,wait=on", "-mon", "chardev=second,mode=control")
}

// TempDir is a directory with a path that is short enough for sockets.
func TempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "bj-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

func start(t testing.TB, dir, program string, arguments ...string) *QEMU {
	t.Helper()
	q := &QEMU{
		t:       t,
		dir:     dir,
		Path:    filepath.Join(dir, "first.qmp"),
		Second:  filepath.Join(dir, "second.qmp"),
		process: exec.Command(program, arguments...),
	}
	q.URI = "unix:" + q.Path
	q.process.Stderr = &q.said
	// A test that panics cleans up nothing.
	q.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}

	// They listen before it starts, so nobody has to wait for it. QEMU itself waits for the second's
	// client: one that comes while QEMU starts can be greeted and never answered (7.2).
	for _, path := range []string{q.Path, q.Second} {
		listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		listener.SetUnlinkOnClose(false)
		file, err := listener.File()
		listener.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer file.Close()
		q.process.ExtraFiles = append(q.process.ExtraFiles, file)
	}
	if err := q.process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(q.Kill)
	q.Client = NewClient(t, q.Second)
	return q
}

// Kill kills it without a word to anyone.
func (q *QEMU) Kill() {
	q.killed.Do(func() {
		q.process.Process.Kill()
		q.process.Wait()
		if q.t.Failed() {
			q.t.Logf("QEMU said: %s", &q.said)
		}
	})
}

// Stop stops it: it is there, but silent.
func (q *QEMU) Stop() {
	q.process.Process.Signal(syscall.SIGSTOP)
}

// GoOn ends a Stop.
func (q *QEMU) GoOn() {
	q.process.Process.Signal(syscall.SIGCONT)
}

// AddDisk adds a node with a file full of data.
func (q *QEMU) AddDisk(name string) {
	q.t.Helper()
	q.addRaw(name, q.file(name, bytes.Repeat([]byte(name[:1]), DiskBytes)))
}

// AddEmpty adds a node with a file full of nothing.
func (q *QEMU) AddEmpty(name string) {
	q.t.Helper()
	q.addRaw(name, q.file(name, nil))
}

// AddFailing adds an empty disk that can't be written.
func (q *QEMU) AddFailing(name string) {
	q.t.Helper()
	q.addBlkdebug(name, false)
}

// AddFailingOnce adds an empty disk whose next write fails.
func (q *QEMU) AddFailingOnce(name string) {
	q.t.Helper()
	q.addBlkdebug(name, true)
}

func (q *QEMU) addBlkdebug(name string, once bool) {
	q.t.Helper()
	q.Do("blockdev-add", Args{
		"driver": "blkdebug", "node-name": name,
		"inject-error": []Args{{"event": "none", "iotype": "write", "errno": 5, "once": once}},
		"image":        Args{"driver": "file", "filename": q.file(name, nil)},
	})
}

// AddSlow adds an empty disk that takes its first write and hardly any more.
func (q *QEMU) AddSlow(name string) {
	q.t.Helper()
	q.AddEmpty("below-" + name)
	q.Do("object-add", Args{
		"qom-type": "throttle-group", "id": "brake-" + name, "limits": Args{"bps-write": 1},
	})
	q.Do("blockdev-add", Args{
		"driver": "throttle", "node-name": name, "throttle-group": "brake-" + name,
		"file": "below-" + name,
	})
}

// AddChain adds the qcow2 disks "base" <- "middle" <- "active", each with data of its own.
func (q *QEMU) AddChain() {
	q.t.Helper()
	names := []string{"base", "middle", "active"}
	path := func(name string) string { return filepath.Join(q.dir, name+".qcow2") }

	var backing []string
	for i, name := range names {
		create := append([]string{"create", "-q", "-f", "qcow2"}, backing...)
		q.run("qemu-img", append(create, path(name), fmt.Sprint(DiskBytes))...)
		q.run("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -q -P %d %dM 2M", i+1, i), path(name))
		backing = []string{"-F", "qcow2", "-b", path(name)}
	}
	var below any
	for _, name := range names {
		q.Do("blockdev-add", Args{
			"driver": "qcow2", "node-name": name, "backing": below,
			"file": Args{"driver": "file", "filename": path(name)},
		})
		below = name
	}
}

// AddGuest adds a guest that has the node as its disk; jobs switch it.
func (q *QEMU) AddGuest(node string) {
	q.t.Helper()
	q.Do("nbd-server-start", Args{
		"addr": Args{"type": "unix", "data": Args{"path": filepath.Join(q.dir, "guest.sock")}},
	})
	q.Do("block-export-add", Args{"type": "nbd", "id": "guest", "node-name": node, "writable": true})
}

// OpenGuest lets others than this test's user reach the disk of AddGuest, and returns its NBD socket.
func (q *QEMU) OpenGuest() string {
	q.t.Helper()
	path := filepath.Join(q.dir, "guest.sock")
	for _, each := range []string{q.dir, path} {
		if err := os.Chmod(each, 0o777); err != nil {
			q.t.Fatal(err)
		}
	}
	return path
}

// DiskOfGuest returns the node that is the guest's disk now.
func (q *QEMU) DiskOfGuest() string {
	q.t.Helper()
	var exports []struct {
		Node string `json:"node-name"`
	}
	if err := q.Try("query-block-exports", nil, &exports); err != nil || len(exports) != 1 {
		q.t.Fatal("no export: ", err)
	}
	return exports[0].Node
}

// SameData tells whether the files of two disks are equal.
func (q *QEMU) SameData(one, other string) bool {
	q.t.Helper()
	var data [2][]byte
	for i, name := range []string{one, other} {
		var err error
		if data[i], err = os.ReadFile(filepath.Join(q.dir, name+".raw")); err != nil {
			q.t.Fatal(err)
		}
	}
	return bytes.Equal(data[0], data[1])
}

func (q *QEMU) run(program string, arguments ...string) {
	q.t.Helper()
	if output, err := exec.Command(program, arguments...).CombinedOutput(); err != nil {
		q.t.Fatalf("%s: %v\n%s", program, err, output)
	}
}

func (q *QEMU) file(name string, data []byte) string {
	q.t.Helper()
	path := filepath.Join(q.dir, name+".raw")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		q.t.Fatal(err)
	}
	if err := os.Truncate(path, DiskBytes); err != nil {
		q.t.Fatal(err)
	}
	return path
}

func (q *QEMU) addRaw(name, path string) {
	q.t.Helper()
	q.Do("blockdev-add", Args{
		"driver": "raw", "node-name": name, "file": Args{"driver": "file", "filename": path},
	})
}
