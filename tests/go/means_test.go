// SPDX-License-Identifier: MIT
// What the system refuses: descriptors. Each Dial says so; nothing ends the process.

package blockjob_test

import (
	"errors"
	"path/filepath"
	"syscall"
	"testing"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

const descriptors = 256

// hoard leaves that many descriptors free, and returns what gives the others back.
func hoard(t *testing.T, free int) func() {
	t.Helper()
	var before syscall.Rlimit
	ok(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before))
	few := syscall.Rlimit{Cur: descriptors, Max: before.Max}
	ok(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &few))
	var held []int
	for {
		fd, err := syscall.Dup(2)
		if err != nil {
			break
		}
		held = append(held, fd)
	}
	for ; free > 0; free-- {
		syscall.Close(held[len(held)-1])
		held = held[:len(held)-1]
	}
	return func() {
		for _, fd := range held {
			syscall.Close(fd)
		}
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before)
	}
}

func TestC43EveryNumberOfFreeDescriptors(t *testing.T) {
	path := "unix:" + filepath.Join(qemu.TempDir(t), "nobody.qmp")
	refused := 0
	for free := 0; free < 12; free++ {
		giveBack := hoard(t, free)
		_, err := blockjob.Dial(patience(t), path, blockjob.WithLimit(blockjob.LimitQueued, uint64(100+free)))
		giveBack()
		if errors.Is(err, blockjob.ErrSystem) {
			refused++
		} else {
			fails(t, err, blockjob.ErrConnect, path)
		}
	}
	if refused == 0 || refused == 12 {
		t.Errorf("%d of 12 were refused", refused)
	}
	noGoroutines(t)
}
