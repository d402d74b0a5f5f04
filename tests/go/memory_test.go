// SPDX-License-Identifier: MIT
// A library that has no memory for what it is asked.

package blockjob_test

import (
	"debug/elf"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/fakeqemu"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// noWatches stands before the library: it makes no watch of a job as long as a file is there.
const noWatches = `
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

int bj_job_watch(void *job, int64_t progress_ms, void **ret_watch)
{
    int (*real)(void *, int64_t, void **) = (int (*)(void *, int64_t, void **))dlsym(RTLD_NEXT, "bj_job_watch");
    return access(getenv("INTERPOSED"), F_OK) == 0 ? -2 : real(job, progress_ms, ret_watch);
}
`

// interposed runs a test once more, in a process in which that C code stands before the library, and returns the path
// of a file, INTERPOSED to the code, by which they talk. It is "" in the test that is not to go on, as it has been run.
func interposed(t *testing.T, code string) string {
	t.Helper()
	if path := os.Getenv("INTERPOSED"); path != "" {
		return path
	}
	needsSharedLibrary(t)
	dir := qemu.TempDir(t)
	source, library := filepath.Join(dir, "interposed.c"), filepath.Join(dir, "interposed.so")
	ok(t, os.WriteFile(source, []byte(code), 0o600))
	run(t, dir, nil, "cc", "-shared", "-fPIC", "-o", library, source)

	test := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$")
	test.Env = append(os.Environ(), "LD_PRELOAD="+library, "INTERPOSED="+filepath.Join(dir, "word"))
	if output, err := test.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, output)
	}
	return ""
}

// needsSharedLibrary skips a test where the library is inside the program (GO_TAGS=): nothing can stand before it.
func needsSharedLibrary(t *testing.T) {
	t.Helper()
	program, err := elf.Open(os.Args[0])
	ok(t, err)
	defer program.Close()
	libraries, err := program.ImportedLibraries()
	ok(t, err)
	for _, library := range libraries {
		if strings.HasPrefix(library, "libblockjob.") {
			return
		}
	}
	t.Skip("the library is inside this program: nothing can stand before it")
}

func TestC108DoneWithoutMemoryIsNotDone(t *testing.T) {
	file := interposed(t, noWatches)
	if file == "" {
		return
	}
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	ctx := patience(t)
	job := fakeMirror(t, m, "copy0")

	ok(t, os.WriteFile(file, nil, 0o600))
	_, err := job.Watch(ctx, 0)
	fails(t, err, blockjob.ErrNoMemory)
	ready, done := job.Ready(), job.Done()
	if isClosed(ready) || isClosed(done) {
		t.Fatal("closed, while the job goes on")
	}
	ok(t, os.Remove(file))
	fake.Do("ready", nil)
	<-ready
	ends(t, blockjob.Pivoted)(job.Pivot(ctx))
	<-done
}

func TestC108DoneWithoutMemoryOfAClosedMonitor(t *testing.T) {
	file := interposed(t, noWatches)
	if file == "" {
		return
	}
	fake := fakeqemu.Start(t, "7.2")
	m := dial(t, fake.URI)
	job := fakeReadyMirror(t, fake, m, "copy0")

	ok(t, os.WriteFile(file, nil, 0o600))
	ready, done := job.Ready(), job.Done()
	if isClosed(ready) || isClosed(done) {
		t.Fatal("closed, while the job goes on")
	}
	m.Close()
	<-ready
	<-done
}
