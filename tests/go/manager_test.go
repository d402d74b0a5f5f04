// SPDX-License-Identifier: MIT
// examples/go/manager, on a real QEMU with a machine.

package blockjob_test

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// A manager is the example, running.
type manager struct {
	t       *testing.T
	process *exec.Cmd
	stdin   io.WriteCloser
	lines   *bufio.Scanner
	log     []string
	ended   bool
}

func startManager(t *testing.T, arguments ...string) *manager {
	t.Helper()
	binary := filepath.Join(qemu.TempDir(t), "manager")
	run(t, filepath.Join(root(t), "examples", "go"), nil, "go", "build", "-o", binary, "./manager")
	process := exec.Command(binary, arguments...)
	process.Stderr = os.Stderr
	stdin, err := process.StdinPipe()
	ok(t, err)
	stdout, err := process.StdoutPipe()
	ok(t, err)
	ok(t, process.Start())
	m := &manager{t: t, process: process, stdin: stdin, lines: bufio.NewScanner(stdout)}
	t.Cleanup(m.end)
	return m
}

// end waits until it has written all that it writes.
func (m *manager) end() {
	m.t.Helper()
	if m.ended {
		return
	}
	m.ended = true
	m.stdin.Close()
	for m.lines.Scan() {
	}
	ok(m.t, m.process.Wait())
}

// next reads a line that the manager must write.
func (m *manager) next() string {
	m.t.Helper()
	if !m.lines.Scan() {
		m.t.Fatalf("it has ended: %v\n%s", m.lines.Err(), strings.Join(m.log, "\n"))
	}
	m.log = append(m.log, m.lines.Text())
	return m.lines.Text()
}

// say has the manager do something, and returns its answer.
func (m *manager) say(words ...string) string {
	m.t.Helper()
	_, err := io.WriteString(m.stdin, strings.Join(words, " ")+"\n")
	ok(m.t, err)
	for {
		if line := m.next(); line == "done" || strings.HasPrefix(line, "failed: ") {
			return line
		}
	}
}

func (m *manager) do(words ...string) {
	m.t.Helper()
	if answer := m.say(words...); answer != "done" {
		m.t.Fatalf("%q: %s\n%s", words, answer, strings.Join(m.log, "\n"))
	}
}

func (m *manager) refuses(reason string, words ...string) {
	m.t.Helper()
	if answer := m.say(words...); answer == "done" || !strings.Contains(answer, reason) {
		m.t.Fatalf("%q: %s, not %q", words, answer, reason)
	}
}

// sees waits for a line of the log with all of the words; it may have come before.
func (m *manager) sees(words ...string) {
	m.t.Helper()
	for _, line := range m.log {
		if hasAll(line, words) {
			return
		}
	}
	for !hasAll(m.next(), words) {
	}
}

func hasAll(line string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(line, word) {
			return false
		}
	}
	return true
}

// has checks the reply to a query.
func (m *manager) has(query string, words ...string) {
	m.t.Helper()
	m.do("vm1 run", query, "{}")
	if reply := m.log[len(m.log)-2]; !hasAll(reply, words) {
		m.t.Errorf("%q are not in %s", words, reply)
	}
}

// content makes a file of 256 KiB.
func content(t *testing.T, path string, with byte) []byte {
	t.Helper()
	data := bytes.Repeat([]byte{with}, 256<<10)
	ok(t, os.WriteFile(path, data, 0o600))
	return data
}

func isContent(t *testing.T, path string, want []byte) {
	t.Helper()
	if data, err := os.ReadFile(path); err != nil || !bytes.Equal(data, want) {
		t.Errorf("%s has other data, %v", path, err)
	}
}

// nbdServer has another QEMU serve a file by NBD, and returns the socket.
func nbdServer(t *testing.T, file string) string {
	t.Helper()
	far, socket := qemu.Daemon(t), filepath.Join(filepath.Dir(file), filepath.Base(file)+".nbd")
	far.Do("blockdev-add", qemu.Args{"driver": "file", "node-name": "far", "filename": file})
	far.Do("nbd-server-start", qemu.Args{
		"addr": qemu.Args{"type": "unix", "data": qemu.Args{"path": socket}},
	})
	far.Do("block-export-add", qemu.Args{
		"type": "nbd", "id": "far", "node-name": "far", "name": "disk", "writable": true,
	})
	return socket
}

func TestManagerExample(t *testing.T) {
	dir := qemu.TempDir(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	a, b, nothing := content(t, in("a"), 1), content(t, in("b"), 2), make([]byte, 256<<10)
	vm := qemu.Machine(t)
	m := startManager(t, in("trace"), "vm1="+vm.URI)

	// Files.
	m.do("vm1 send tap", in("a"))
	m.do("vm1 run closefd", `{"fdname":"tap"}`)
	m.refuses("tap", "vm1 run closefd", `{"fdname":"tap"}`)
	m.do("vm1 plug a", in("a"))
	m.do("vm1 plug b", in("b"))
	m.refuses("no such file", "vm1 plug c", in("c"))

	m.do("vm1 run cont {}") // or QEMU keeps files that it should close
	m.sees("vm1 RESUME")

	// A snapshot, merged.
	m.do("vm1 snapshot a", in("overlay"))
	m.has("query-block", `"a-overlay"`, `"b-file"`)
	m.do("vm1 commit a")
	m.sees("vm1 job", "ENDED PIVOTED")
	m.has("query-block", `"a-file"`, `"b-file"`)
	m.has("query-fdsets", `"a-file"`, `"b-file"`)
	if reply := m.log[len(m.log)-2]; strings.Contains(reply, "overlay") {
		t.Errorf("QEMU has kept files: %s", reply)
	}

	// Backups: the second has what has changed, nothing.
	for _, kind := range []string{"full", "incremental"} {
		ok(t, os.Mkdir(in(kind), 0o700))
		m.do("vm1 backup", kind, in(kind))
	}
	isContent(t, in("full/a"), a)
	isContent(t, in("full/b"), b)
	isContent(t, in("incremental/a"), nothing)
	m.refuses("changed", "vm1 backup full", in("full"))

	// A disk moves to a server; another's server is lost.
	content(t, in("far-a"), 0)
	content(t, in("far-b"), 0)
	m.do("vm1 mirror a", nbdServer(t, in("far-a")))
	m.do("vm1 pivot a")
	m.sees("vm1 job a-mirror: ENDED PIVOTED")
	isContent(t, in("far-a"), a)
	m.do("vm1 mirror b", nbdServer(t, in("far-b")))
	m.do("vm1 yank b-nbd")
	m.refuses("", "vm1 pivot b")
	m.sees("vm1 job b-mirror: ENDED FAILED: Input/output error")
	m.has("query-block", `"a-nbd"`, `"b-file"`)

	m.do("vm1 unplug a")
	m.sees("vm1 DEVICE_DELETED", `"a"`)
	m.has("query-named-block-nodes", `"b-file"`)
	if reply := m.log[len(m.log)-2]; strings.Contains(reply, `"a-`) {
		t.Errorf("nodes are left: %s", reply)
	}

	m.do("vm1 run quit {}")
	m.sees("vm1 SHUTDOWN")
	m.sees("vm1 left:")
	m.end()
	wire, err := os.ReadFile(in("trace"))
	ok(t, err)
	if !hasAll(string(wire), []string{"vm1 < {\"QMP\"", "vm1 > ", `"exec-oob"`, `"add-fd"`, "SHUTDOWN"}) {
		t.Errorf("the trace has %s", wire)
	}
}
