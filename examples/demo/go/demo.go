// SPDX-License-Identifier: MIT

// The demo's program in Go: copies a disk, then switches to the copy or aborts on the way.
//
//	demo SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort
//
// Prints a line for each thing that happens; times are microseconds since 1970.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

func main() {
	if len(os.Args) != 6 {
		fmt.Fprintln(os.Stderr, "usage: demo SOCKET DEVICE TARGET BYTES_PER_SECOND pivot|abort")
		os.Exit(1)
	}
	if err := run(context.Background(), os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	uri, device, target, verb := args[0], args[1], args[2], args[4]
	speed, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}

	monitor, err := blockjob.Dial(ctx, uri)
	if err != nil {
		return err
	}
	defer monitor.Close()

	job, err := monitor.Mirror(ctx, device, blockjob.MirrorOptions{Target: target, Speed: speed})
	if err != nil {
		return err
	}

	outcome, err := follow(ctx, job, verb == "abort")
	reason := ""
	var failure *blockjob.Error
	if errors.As(err, &failure) {
		reason = failure.Text
	}
	fmt.Println("ended", time.Now().UnixMicro(), outcome, reason)

	times := job.Timeline()
	fmt.Println("timeline", micro(times.ReadyEvent), micro(times.CompleteSent), micro(times.EndEvent))

	// Whoever has run this program may remove a node next. How it ended, err has told.
	_, _ = job.WaitReleased(ctx)
	return err
}

// follow shows how far the job is, and gives the verb on the way.
func follow(ctx context.Context, job *blockjob.Job, aborts bool) (blockjob.Outcome, error) {
	progress := job.Progress(ctx, 100*time.Millisecond)

	for {
		select {
		case p, ok := <-progress:
			if !ok {
				progress = nil // closed, as the job is over; Done says so too
				continue
			}
			fmt.Println("progress", p.Current, p.Total)
			if aborts && p.Current > p.Total/3 {
				return job.Abort(ctx)
			}
		case <-job.Ready():
			fmt.Println("ready", time.Now().UnixMicro())
			return job.Pivot(ctx)
		case <-job.Done():
			return job.Wait(ctx)
		}
	}
}

func micro(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMicro()
}
