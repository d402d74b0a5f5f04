// SPDX-License-Identifier: MIT

// Pivot copies a disk of a running QEMU and switches to the copy when that is ready:
//
//	go run ./pivot unix:/run/vm1.qmp drive0 copy0
//
// Ctrl-C before that aborts the copy; the guest keeps its disk.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: pivot URI DEVICE TARGET-NODE")
		os.Exit(2)
	}
	outcome, err := pivot(os.Args[1], os.Args[2], os.Args[3])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(outcome)
}

func pivot(uri, device, target string) (blockjob.Outcome, error) {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	monitor, err := blockjob.Dial(ctx, uri)
	if err != nil {
		return blockjob.NoOutcome, err
	}
	defer monitor.Close()

	// Not ctx: a start that is given up may have happened all the same.
	job, err := monitor.Mirror(context.Background(), device, blockjob.MirrorOptions{Target: target, Sync: "full"})
	if err != nil {
		return blockjob.NoOutcome, err
	}

	follow(ctx, job)
	outcome, err := job.Pivot(ctx) // of a job that has ended before: how, and why
	if errors.Is(err, blockjob.ErrCancelled) {
		// A context of its own: this one has ended, the job has not.
		return job.Abort(context.Background(), blockjob.ForceAfter(10*time.Second))
	}
	return outcome, err
}

// follow prints how far the job is until it is ready, it is over or the context ends.
func follow(ctx context.Context, job *blockjob.Job) {
	progress := job.Progress(ctx, time.Second)
	for {
		select {
		case <-job.Ready():
			return
		case <-job.Done():
			return
		case <-ctx.Done():
			return
		case p, more := <-progress:
			if !more {
				progress = nil
				continue
			}
			fmt.Printf("%d of %d bytes\n", p.Current, p.Total)
		}
	}
}
