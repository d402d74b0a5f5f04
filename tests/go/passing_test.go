// SPDX-License-Identifier: MIT
// Files that go with a command, and commands out of band: with a real qemu-system-x86_64.

package blockjob_test

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

// openFDs is how many descriptors this process has.
func openFDs(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	ok(t, err)
	return len(entries)
}

func temporary(t *testing.T, size int64) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	ok(t, os.WriteFile(path, make([]byte, size), 0o600))
	file, err := os.Open(path)
	ok(t, err)
	return file
}

func TestW07GetFD(t *testing.T) {
	m := dial(t, qemu.System(t).URI)
	ctx := patience(t)
	file := temporary(t, 0)
	before := openFDs(t)
	ok(t, m.Execute(ctx, "getfd", map[string]string{"fdname": "one"}, nil, blockjob.WithFiles(file)))
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	ok(t, file.Close()) // it is still ours
	ok(t, m.Execute(ctx, "closefd", map[string]string{"fdname": "one"}, nil))
	if err := m.Execute(ctx, "closefd", map[string]string{"fdname": "one"}, nil); !errors.Is(err, blockjob.ErrRefused) {
		t.Errorf("closefd again: %v", err)
	}
}

func TestW07EachSetHasItsFile(t *testing.T) {
	m := dial(t, qemu.System(t).URI)
	ctx := patience(t)
	const files = 20
	done := make(chan error, files)
	for i := 1; i <= files; i++ {
		i, file := i, temporary(t, int64(512*i))
		go func() {
			defer file.Close()
			done <- m.Execute(ctx, "add-fd", map[string]any{"fdset-id": i}, nil, blockjob.WithFiles(file))
		}()
	}
	for i := 0; i < files; i++ {
		ok(t, <-done)
	}
	for i := 1; i <= files; i++ {
		number := strconv.Itoa(i)
		ok(t, m.Execute(ctx, "blockdev-add", map[string]any{
			"driver": "raw", "node-name": "n" + number, "read-only": true,
			"file": map[string]any{"driver": "file", "filename": "/dev/fdset/" + number},
		}, nil))
	}
	var rows []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size int `json:"virtual-size"`
		}
	}
	ok(t, m.Execute(ctx, "query-named-block-nodes", nil, &rows))
	sizes := make(map[string]int)
	for _, row := range rows {
		sizes[row.Name] = row.Image.Size
	}
	for i := 1; i <= files; i++ {
		if size := sizes["n"+strconv.Itoa(i)]; size != 512*i {
			t.Errorf("set %d has a file of %d bytes", i, size)
		}
	}
}

func TestW07BadFilesAreNamed(t *testing.T) {
	m := dial(t, qemu.System(t).URI)
	ctx := patience(t)
	file, closed := temporary(t, 0), temporary(t, 0)
	defer file.Close()
	ok(t, closed.Close())
	var many []*os.File
	for i := 0; i < 17; i++ {
		many = append(many, file)
	}
	before := openFDs(t)
	for word, options := range map[string][]blockjob.ExecuteOption{
		"closed":         {blockjob.WithFiles(file, closed)},
		"invalid":        {blockjob.WithFiles(nil)},
		"17 descriptors": {blockjob.WithFiles(many...)},
		"out of band":    {blockjob.WithFiles(file), blockjob.OutOfBand()},
	} {
		err := m.Execute(ctx, "getfd", map[string]string{"fdname": "x"}, nil, options...)
		if !errors.Is(err, blockjob.ErrInvalid) || !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %v", word, err)
		}
	}
	if after := openFDs(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
}

func TestW07AHangingQEMUAnswersOutOfBand(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nbd")
	server, err := net.Listen("unix", path) // and accepts nobody
	ok(t, err)
	m, err := blockjob.Dial(patience(t), qemu.System(t).URI, blockjob.WithOutOfBand())
	ok(t, err)
	defer m.Close()
	ctx := patience(t)

	hanging := make(chan error)
	go func() {
		hanging <- m.Execute(ctx, "blockdev-add", map[string]any{
			"driver": "nbd", "node-name": "far", "server": map[string]string{"type": "unix", "path": path},
		}, nil)
	}()
	for hangs := false; !hangs; {
		var instances []struct{ Type string }
		ok(t, m.Execute(ctx, "query-yank", nil, &instances, blockjob.OutOfBand()))
		for _, instance := range instances {
			hangs = hangs || instance.Type == "block-node"
		}
	}
	if err := m.Execute(ctx, "query-version", nil, nil, blockjob.OutOfBand()); !errors.Is(err, blockjob.ErrRefused) {
		t.Errorf("query-version: %v", err)
	}
	ok(t, server.Close())
	if err := <-hanging; !errors.Is(err, blockjob.ErrRefused) {
		t.Errorf("blockdev-add: %v", err)
	}
}

func TestW07OutOfBandWhereItWasNotAskedFor(t *testing.T) {
	m := dial(t, qemu.System(t).URI)
	err := m.Execute(patience(t), "query-yank", nil, nil, blockjob.OutOfBand())
	if !errors.Is(err, blockjob.ErrUnsupported) || !strings.Contains(err.Error(), "out_of_band") {
		t.Errorf("query-yank: %v", err)
	}
}
