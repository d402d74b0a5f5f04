// SPDX-License-Identifier: MIT

// Package fakeqemu starts tests/fakeqemu, a scripted QMP server, and gives it steps.
package fakeqemu

import (
	"path/filepath"
	"testing"

	"github.com/libblockjob/libblockjob/tests/go/helper"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// Fields are those of a step beside its verb.
type Fields = helper.Fields

// A Fake is one fakeqemu, which ends with the test. It belongs to the test's goroutine.
type Fake struct {
	URI string

	t      testing.TB
	helper *helper.Helper
}

// Start starts one that behaves as the QEMU of that profile; options go to its command line.
func Start(t testing.TB, profile string, options ...string) *Fake {
	t.Helper()
	socket := filepath.Join(qemu.TempDir(t), "qmp")
	h, err := helper.Start("tests/fakeqemu/fakeqemu.py",
		append([]string{"--profile", profile, "--control", "-", "--socket", socket}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.Close)
	return &Fake{URI: "unix:" + socket, t: t, helper: h}
}

// Do does a step, which must succeed, and returns its answer.
func (f *Fake) Do(verb string, fields Fields) (answer map[string]any) {
	f.t.Helper()
	if err := f.helper.Do(verb, fields, &answer); err != nil {
		f.t.Fatal(err)
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
