// SPDX-License-Identifier: MIT
// The module's package fakeqemu, as the tests of other programs have it.

package blockjob_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/go/fakeqemu"
)

func startFake(t *testing.T, options ...string) *fakeqemu.QEMU {
	t.Helper()
	fake, err := fakeqemu.Start(options...)
	ok(t, err)
	t.Cleanup(func() { ok(t, fake.Close()) })
	return fake
}

func TestFakeqemuForOthers(t *testing.T) {
	t.Setenv("BLOCKJOB_FAKEQEMU", filepath.Join(root(t), "tests", "fakeqemu", "fakeqemu.py"))
	fake := startFake(t, "--profile", "10.0")
	m := dial(t, fake.URI())
	if version := m.QEMUVersion(); !strings.HasPrefix(version, "10.0") {
		t.Errorf("it is a %s", version)
	}
	job, err := m.Backup(patience(t), "disk0", blockjob.BackupOptions{Target: "disk1"})
	ok(t, err)
	answer, err := fake.Do("wait", map[string]any{"command": "blockdev-backup"})
	if err != nil || !strings.Contains(string(answer), `"disk1"`) {
		t.Errorf("it says %s, %v", answer, err)
	}
	_, err = fake.Do("fail", map[string]any{"error": "No space left on device"})
	ok(t, err)
	_, err = job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed, "No space left on device")

	if _, err := fake.Do("sing", nil); err == nil || !strings.Contains(err.Error(), "sing") {
		t.Errorf("a verb that it doesn't have: %v", err)
	}
	ok(t, fake.Close())
	if _, err := fake.Do("log", nil); err == nil {
		t.Error("it does steps after its end")
	}
	if _, err := os.Stat(filepath.Dir(fake.Path())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its folder is left: %v", err)
	}
}

// Its example needs neither cgo nor the library.
func TestFakeqemuWithoutCgo(t *testing.T) {
	run(t, filepath.Join(root(t), "go"), []string{"CGO_ENABLED=0"}, "go", "test", "-count=1", "./fakeqemu")
}

func TestFakeqemuSaysWhatIsMissing(t *testing.T) {
	missing := func(words ...string) {
		t.Helper()
		fake, err := fakeqemu.Start()
		if err == nil {
			fake.Close()
		}
		if !errors.Is(err, fakeqemu.ErrMissing) || !hasAll(err.Error(), words) {
			t.Errorf("%v, not %q", err, words)
		}
	}
	t.Setenv("BLOCKJOB_FAKEQEMU", "/nonexistent/fakeqemu.py")
	missing("BLOCKJOB_FAKEQEMU", "/nonexistent/fakeqemu.py")
	t.Setenv("BLOCKJOB_FAKEQEMU", filepath.Join(root(t), "tests", "fakeqemu", "fakeqemu.py"))
	t.Setenv("PATH", t.TempDir())
	missing("python3", "3.10")
}

func TestFakeqemuSaysWhyItDidNotStart(t *testing.T) {
	temporary := t.TempDir()
	t.Setenv("TMPDIR", temporary)
	fake, err := fakeqemu.Start("--profile", "none")
	if err == nil {
		fake.Close()
		t.Fatal("it has started")
	}
	if errors.Is(err, fakeqemu.ErrMissing) || !strings.Contains(err.Error(), "--profile") {
		t.Errorf("it says %v", err)
	}
	if left := countFiles(t, temporary); left != 0 {
		t.Errorf("%d folders are left", left)
	}
}

func TestFakeqemuOnThePath(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "blockjob-fakeqemu")
	ok(t, os.WriteFile(path, []byte("raise SystemExit('the one on the PATH')\n"), 0o700))
	t.Setenv("BLOCKJOB_FAKEQEMU", "")
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	fake, err := fakeqemu.Start()
	if err == nil {
		fake.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "the one on the PATH") {
		t.Errorf("another was started: %v", err)
	}
}
