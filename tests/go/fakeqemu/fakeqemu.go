// SPDX-License-Identifier: MIT

// Package fakeqemu starts tests/fakeqemu, a scripted QMP server, and talks to its control socket.
package fakeqemu

import (
	"bufio"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// Fields are those of a step beside its verb.
type Fields map[string]any

// A Fake is one fakeqemu, which ends with the test. It belongs to the test's goroutine.
type Fake struct {
	URI string

	t       testing.TB
	control net.Conn
	answers *bufio.Reader
}

// Start starts one that behaves as the QEMU of that profile; options go to its command line.
func Start(t testing.TB, profile string, options ...string) *Fake {
	t.Helper()
	dir := qemu.TempDir(t)
	socket, control := filepath.Join(dir, "qmp"), filepath.Join(dir, "control")

	script, err := filepath.Abs("../fakeqemu/fakeqemu.py")
	if err != nil {
		t.Fatal(err)
	}
	process := exec.Command("python3", append([]string{script, "--profile", profile,
		"--socket", socket, "--control", control}, options...)...)
	process.Stderr = os.Stderr
	stdin, err := process.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := process.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close() // ends it
		io.Copy(io.Discard, stdout)
		process.Wait()
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); line != "ready\n" {
		t.Fatalf("fakeqemu did not start: %q, %v", line, err)
	}

	f := &Fake{URI: "unix:" + socket, t: t}
	if f.control, err = net.Dial("unix", control); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.control.Close() })
	f.answers = bufio.NewReader(f.control)
	return f
}

// Do does a step, which must succeed, and returns its answer.
func (f *Fake) Do(verb string, fields Fields) map[string]any {
	f.t.Helper()
	step := map[string]any{"do": verb}
	for key, value := range fields {
		step[key] = value
	}
	text, err := json.Marshal(step)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.control.Write(append(text, '\n')); err != nil {
		f.t.Fatal(err)
	}
	line, err := f.answers.ReadBytes('\n')
	if err != nil {
		f.t.Fatalf("%s: %v", verb, err)
	}
	var answer map[string]any
	if err := json.Unmarshal(line, &answer); err != nil {
		f.t.Fatal(err)
	}
	if answer["ok"] != true {
		f.t.Fatalf("%s: %v", verb, answer["error"])
	}
	return answer
}

// Wait waits until a client has sent the command.
func (f *Fake) Wait(command string) {
	f.t.Helper()
	f.Do("wait", Fields{"command": command})
}

// Sent returns how often a client has sent the command so far.
func (f *Fake) Sent(command string) int {
	f.t.Helper()
	count := 0
	for _, entry := range f.Do("log", nil)["log"].([]any) {
		if entry.(map[string]any)["command"] == command {
			count++
		}
	}
	return count
}
