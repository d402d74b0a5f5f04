// SPDX-License-Identifier: MIT
// The module as its users have it: built against the installed library, without SWIG; and the example.
// tests/embedding has it with the library inside.

package blockjob_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

const program = `package main

import (
	"context"
	"fmt"
	"os"

	blockjob "github.com/libblockjob/libblockjob/go"
)

func main() {
	monitor, err := blockjob.Dial(context.Background(), os.Args[1])
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	defer monitor.Close()
	fmt.Println(monitor.QEMUVersion())
}
`

func root(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	ok(t, err)
	return dir
}

// run runs a program to its end; the last words are further variables of its environment.
func run(t testing.TB, dir string, environment []string, name string, arguments ...string) string {
	t.Helper()
	command := exec.Command(name, arguments...)
	command.Dir = dir
	for _, variable := range os.Environ() {
		// Of a make that runs this test.
		if !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") {
			command.Env = append(command.Env, variable)
		}
	}
	command.Env = append(command.Env, environment...)
	output, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", name, err, output)
	}
	return string(output)
}

func TestProgramOutsideTheTree(t *testing.T) {
	dir := qemu.TempDir(t)
	prefix := filepath.Join(dir, "prefix")
	// With a DESTDIR nothing but the files is touched.
	run(t, root(t), nil, "make", "install", "DESTDIR=/", "PREFIX="+prefix)

	// The module as a user's go has it: a copy that can't be written.
	module := filepath.Join(dir, "module")
	run(t, root(t), nil, "cp", "-r", "go", module)
	run(t, dir, nil, "chmod", "-R", "a-w", module)
	t.Cleanup(func() { run(t, dir, nil, "chmod", "-R", "u+w", module) })

	outside := filepath.Join(dir, "outside")
	ok(t, os.Mkdir(outside, 0o700))
	ok(t, os.WriteFile(filepath.Join(outside, "main.go"), []byte(program), 0o600))
	ok(t, os.WriteFile(filepath.Join(outside, "go.mod"), []byte(
		"module example.org/outside\n\ngo 1.19\n\nrequire github.com/libblockjob/libblockjob/go v0.1.0\n\n"+
			"replace github.com/libblockjob/libblockjob/go => ../module\n"), 0o600))
	environment := []string{
		"PKG_CONFIG_PATH=" + filepath.Join(prefix, "lib", "pkgconfig"),
		"LD_LIBRARY_PATH=" + filepath.Join(prefix, "lib"),
		"SWIG=/nonexistent", "CGO_CFLAGS=-O2", "GOFLAGS=-mod=mod -tags=libblockjob_system", "GOPROXY=off",
	}
	run(t, outside, environment, "go", "build", "-o", "program", ".")

	q := qemu.Daemon(t)
	output := run(t, outside, environment, "./program", q.URI)
	if strings.Count(output, ".") != 2 {
		t.Errorf("it says %q", output)
	}
}

func TestExample(t *testing.T) {
	binary := filepath.Join(qemu.TempDir(t), "pivot")
	run(t, filepath.Join(root(t), "examples", "go"), nil, "go", "build", "-o", binary, "./pivot")

	q := disks(t)
	q.AddGuest("drive")
	output := run(t, root(t), nil, binary, q.URI, "drive", "copy")
	if !strings.HasSuffix(output, "PIVOTED\n") || q.DiskOfGuest() != "copy" {
		t.Errorf("it says %q", output)
	}
}

func TestC108ExampleAbortsWhateverComesFirst(t *testing.T) {
	binary := filepath.Join(qemu.TempDir(t), "pivot")
	run(t, filepath.Join(root(t), "examples", "go"), nil, "go", "build", "-o", binary, "./pivot")
	fake := fakeqemu.Start(t, "7.2")

	// Ready, and Ctrl-C: a select takes any.
	for i := 0; i < 10; i++ {
		example := exec.Command(binary, fake.URI, "drive0", "copy0")
		stdout, err := example.StdoutPipe()
		ok(t, err)
		ok(t, example.Start())
		lines := bufio.NewReader(stdout)
		_, err = lines.ReadString('\n') // so it has a job
		ok(t, err)

		ok(t, example.Process.Signal(syscall.SIGSTOP))
		fake.Do("ready", nil)
		ok(t, example.Process.Signal(os.Interrupt))
		ok(t, example.Process.Signal(syscall.SIGCONT))
		output, err := io.ReadAll(lines)
		ok(t, err)
		if err := example.Wait(); err != nil {
			t.Errorf("%v, it says %q", err, output)
		}
		left := fake.Do("execute", fakeqemu.Fields{"command": "query-jobs"})["return"]
		if jobs := left.([]any); len(jobs) != 0 {
			t.Fatalf("it left %v and said %q", jobs, output)
		}
	}
}
