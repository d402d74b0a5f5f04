// SPDX-License-Identifier: MIT

// Package helper starts the programs that run servers for the tests, and talks to them: a line of
// JSON there for a line back (tests/support/serve.py).
package helper

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
)

// Root is the top folder of the tree.
var Root = findRoot()

func findRoot() string {
	dir, _ := os.Getwd() // that of the package under test
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "core", "include")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}

// Fields are the arguments of a step, or its results.
type Fields map[string]any

// A Helper is one such program. It ends all that it has started when it is closed, or when this
// process ends. It may be used by several goroutines, whose steps are done one after the other.
type Helper struct {
	mutex   sync.Mutex
	name    string
	process *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
}

// Start starts the Python program of that path below the top folder.
func Start(program string, options ...string) (*Helper, error) {
	path := filepath.Join(Root, program)
	h := &Helper{
		name:    filepath.Base(program),
		process: exec.Command("python3", append([]string{path}, options...)...),
	}
	h.process.Stderr = os.Stderr
	var err error
	if h.stdin, err = h.process.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := h.process.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.stdout = bufio.NewReader(stdout)
	if err := h.process.Start(); err != nil {
		return nil, err
	}
	if line, err := h.stdout.ReadString('\n'); line != "ready\n" {
		h.Close()
		return nil, fmt.Errorf("%s did not start: %q, %v", h.name, line, err)
	}
	return h, nil
}

// Close ends all that the helper has started.
func (h *Helper) Close() {
	h.stdin.Close()
	io.Copy(io.Discard, h.stdout)
	h.process.Wait()
}

// Do does a step and stores its results in the value that result points to, unless that is nil.
func (h *Helper) Do(verb string, fields Fields, result any) error {
	step := Fields{"do": verb}
	for key, value := range fields {
		step[key] = value
	}
	text, err := json.Marshal(step)
	if err != nil {
		return err
	}
	h.mutex.Lock()
	defer h.mutex.Unlock()
	if _, err := h.stdin.Write(append(text, '\n')); err != nil {
		return err
	}
	line, err := h.stdout.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("%s: %s: %w", h.name, verb, err)
	}
	var status struct {
		OK    bool
		Error string
	}
	if err := json.Unmarshal(line, &status); err != nil {
		return err
	}
	if !status.OK {
		return fmt.Errorf("%s: %s: %s", h.name, verb, status.Error)
	}
	if result == nil {
		return nil
	}
	return json.Unmarshal(line, result)
}
