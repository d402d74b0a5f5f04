// SPDX-License-Identifier: MIT

// Package fakeqemu starts blockjob-fakeqemu for a test: a QMP server with jobs and no disks, which has the manners of a
// chosen QEMU version and does what the test tells it, faults included. docs/fakeqemu.md has its options and its steps.
//
//	qemu, err := fakeqemu.Start("--profile", "7.2")
//	if err != nil {
//		t.Fatal(err)
//	}
//	t.Cleanup(func() { qemu.Close() })
//
// The program under test connects to qemu.URI(), or to the socket qemu.Path().
//
// The package is Go alone: a test that uses only this builds without cgo. What it starts is a Python program, which needs
// Python 3.10 or later and nothing else. Start takes the first that there is of
//
//   - the path in the environment variable BLOCKJOB_FAKEQEMU;
//   - blockjob-fakeqemu on the PATH, where libblockjob's make install puts it;
//   - tests/fakeqemu/fakeqemu.py of the source tree that this package was compiled in.
package fakeqemu

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
)

// ErrMissing is the error of Start where there is no fakeqemu or no Python, for tests that are to be skipped then:
//
//	if errors.Is(err, fakeqemu.ErrMissing) {
//		t.Skip(err)
//	}
var ErrMissing = errors.New("fakeqemu cannot be started")

// A QEMU is a fakeqemu that runs. Its methods may be called from any goroutine.
type QEMU struct {
	dir     string
	process *exec.Cmd
	end     sync.Once
	ended   error

	mutex   sync.Mutex // held for a step and its answer
	stdin   io.WriteCloser
	answers *bufio.Reader
	stderr  bytes.Buffer
}

// Start starts a fakeqemu with one monitor, and returns when that listens. Options go to its command line ("--profile", "10.0",
// "--rate", "1048576"). It ends with Close, or with this process.
//
// Errors: ErrMissing, which says what is missing; otherwise what fakeqemu says.
func Start(options ...string) (*QEMU, error) {
	program, err := find()
	if err != nil {
		return nil, err
	}
	python, err := exec.LookPath("python3")
	if err != nil {
		return nil, fmt.Errorf("%w: it needs Python 3.10 or later, and there is no python3 on the PATH", ErrMissing)
	}
	dir, err := os.MkdirTemp("", "fakeqemu-")
	if err != nil {
		return nil, err
	}
	q := &QEMU{dir: dir}
	arguments := append([]string{program, "--control", "-", "--socket", q.Path()}, options...)
	q.process = exec.Command(python, arguments...)
	if err := q.start(); err != nil {
		q.Close()
		return nil, fmt.Errorf("%s (it needs Python 3.10 or later) did not start: %w: %s", program, err, q.stderr.Bytes())
	}
	return q, nil
}

func (q *QEMU) start() (err error) {
	q.process.Stderr = &q.stderr
	if q.stdin, err = q.process.StdinPipe(); err != nil {
		return err
	}
	stdout, err := q.process.StdoutPipe()
	if err != nil {
		return err
	}
	q.answers = bufio.NewReader(stdout)
	if err := q.process.Start(); err != nil {
		return err
	}
	line, err := q.answers.ReadString('\n')
	if err == nil && line != "ready\n" {
		err = fmt.Errorf("it says %q", line)
	}
	return err
}

// find is the path of the program.
func find() (string, error) {
	const variable = "BLOCKJOB_FAKEQEMU"
	if path := os.Getenv(variable); path != "" {
		if _, err := os.Stat(path); err != nil {
			return "", fmt.Errorf("%w: %s names %v", ErrMissing, variable, err)
		}
		return path, nil
	}
	if path, err := exec.LookPath("blockjob-fakeqemu"); err == nil {
		return path, nil
	}
	_, source, _, _ := runtime.Caller(0)
	path := filepath.Join(filepath.Dir(source), "..", "..", "tests", "fakeqemu", "fakeqemu.py")
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w: there is no blockjob-fakeqemu on the PATH, nor %s: "+
			"install libblockjob, or set %s to the path of fakeqemu.py", ErrMissing, path, variable)
	}
	return path, nil
}

// Path returns the path of the monitor's socket.
func (q *QEMU) Path() string {
	return filepath.Join(q.dir, "qmp")
}

// URI returns the monitor's address for blockjob.Dial.
func (q *QEMU) URI() string {
	return "unix:" + q.Path()
}

// Do does a step and returns its whole answer, a JSON object. The fields are those of the step beside its verb; nil if it has
// none. The step "wait" returns when a client has sent what it waits for, and until then other steps wait for that one:
//
//	qemu.Do("wait", map[string]any{"command": "block-job-complete"})
//
// The error is what fakeqemu says against the step, or that it has ended.
func (q *QEMU) Do(verb string, fields map[string]any) (json.RawMessage, error) {
	step := map[string]any{"do": verb}
	for key, value := range fields {
		step[key] = value
	}
	text, err := json.Marshal(step)
	if err != nil {
		return nil, fmt.Errorf("fakeqemu: %s: %w", verb, err)
	}
	q.mutex.Lock()
	defer q.mutex.Unlock()

	if _, err := q.stdin.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("fakeqemu: %s: %w", verb, err)
	}
	line, err := q.answers.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("fakeqemu: %s: it has ended: %w", verb, err)
	}
	var status struct {
		OK    bool
		Error string
	}
	if err := json.Unmarshal(line, &status); err != nil {
		return nil, fmt.Errorf("fakeqemu: %s: %w", verb, err)
	}
	if !status.OK {
		return nil, fmt.Errorf("fakeqemu: %s: %s", verb, status.Error)
	}
	return line, nil
}

// Close ends the fakeqemu, whose clients see the end of their connections, and removes its socket. A step that is under way
// fails. The error is that of a fakeqemu which has failed. Closing twice is harmless.
func (q *QEMU) Close() error {
	q.end.Do(func() {
		if q.process.Process != nil {
			q.stdin.Close()
			q.ended = q.process.Wait()
		}
		if err := os.RemoveAll(q.dir); q.ended == nil {
			q.ended = err
		}
	})
	return q.ended
}
