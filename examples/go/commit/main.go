// SPDX-License-Identifier: MIT

// Commit merges the snapshot overlays that a libvirt domain runs on down into the image that they were made
// of, and has the guest go on with that:
//
//	go run ./commit 'qemu:///system#vm1' vda [/path/of/the/base]
//
// Without a base, all overlays are merged. Ctrl-C before the switch ends the commit; the guest keeps its
// overlay, and nothing is lost.
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
	if len(os.Args) < 3 || len(os.Args) > 4 {
		fmt.Fprintln(os.Stderr, "usage: commit URI DISK [BASE]")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	var options blockjob.CommitOptions
	if len(os.Args) == 4 {
		options.Extra = map[string]any{"base": os.Args[3]} // libvirt's word; QEMU's have fields
	}
	outcome, err := commit(ctx, os.Args[1], os.Args[2], options)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(outcome)
}

func commit(ctx context.Context, uri, disk string, options blockjob.CommitOptions) (blockjob.Outcome, error) {
	// A libvirtd that is restarted meanwhile does not end the job: neither does it end this wait.
	monitor, err := blockjob.Dial(ctx, uri, blockjob.WithReconnect(time.Minute))
	if err != nil {
		return blockjob.NoOutcome, err
	}
	defer monitor.Close()

	// Not ctx: a start that is given up may have happened all the same.
	job, err := monitor.Commit(context.Background(), disk, options)
	if err != nil {
		return blockjob.NoOutcome, err
	}

	follow(ctx, job)
	outcome, err := job.Pivot(ctx) // of a job that has ended before: how, and why
	if errors.Is(err, blockjob.ErrCancelled) {
		// A context of its own: this one has ended, the job has not.
		late, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		return job.Abort(late)
	}
	return outcome, err
}

// follow prints how far the job is until it is ready, it is over or the context ends.
func follow(ctx context.Context, job *blockjob.Job) {
	progress := job.Progress(ctx, time.Second)
	for {
		select {
		case <-job.Ready():
			fmt.Println("ready")
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
