// SPDX-License-Identifier: MIT
// The examples of the documentation; compiled, not run.

package blockjob_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
)

// Copy a disk and switch to the copy.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()

	monitor, err := blockjob.Dial(ctx, "unix:/run/vm1.qmp")
	if err != nil {
		log.Fatal(err)
	}
	defer monitor.Close()

	job, err := monitor.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0", Sync: "full"})
	if err != nil {
		log.Fatal(err)
	}
	outcome, err := job.Pivot(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(outcome)
}

// A second client gets no greeting while the first is connected; the error names that cause.
func ExampleDial() {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()

	monitor, err := blockjob.Dial(ctx, "unix:/run/vm1.qmp")
	if errors.Is(err, blockjob.ErrTimeout) {
		log.Fatal("is the monitor held by another client? ", err)
	}
	if err != nil {
		log.Fatal(err)
	}
	defer monitor.Close()

	fmt.Println("QEMU", monitor.QEMUVersion())
}

// Copy a disk of a libvirt domain and switch to the copy; libvirt performs the switch.
func ExampleDial_libvirt() {
	var ctx context.Context

	monitor, err := blockjob.Dial(ctx, "qemu:///system#vm1", blockjob.WithReconnect(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	defer monitor.Close()

	job, err := monitor.Mirror(ctx, "vda", blockjob.MirrorOptions{
		Target: "/new/vm1.qcow2",
		Extra:  map[string]any{"format": "qcow2"},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Pivot(ctx))
}

// Ready and Done are closed when it is so: any number of goroutines may select on them, at any time.
func ExampleJob_Ready() {
	var ctx context.Context
	var job *blockjob.Job

	select {
	case <-job.Ready():
		fmt.Println("source and target are equal")
	case <-job.Done():
		fmt.Println("it ended before:", job.Outcome(), job.Err())
	case <-ctx.Done():
		fmt.Println("the job goes on")
	}
}

// A deadline ends the wait, not the job.
func ExampleJob_WaitReady() {
	var job *blockjob.Job

	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()

	err := job.WaitReady(ctx)
	switch {
	case err == nil:
		fmt.Println("ready")
	case errors.Is(err, context.DeadlineExceeded):
		fmt.Println("not ready yet; the job goes on")
	case errors.Is(err, blockjob.ErrStalled):
		fmt.Println("stopped by an I/O error:", err)
	default:
		fmt.Println(err)
	}
}

// Pivot only what is ready now.
func ExampleJob_Pivot() {
	var ctx context.Context
	var job *blockjob.Job

	outcome, err := job.Pivot(ctx, blockjob.OnlyIfReady())
	if errors.Is(err, blockjob.ErrNotReady) {
		fmt.Println("not ready yet; nothing was sent")
		return
	}
	fmt.Println(outcome, err)
}

// Keep the copy if it is consistent; force the end after ten seconds.
func ExampleJob_Abort() {
	var ctx context.Context
	var job *blockjob.Job

	outcome, err := job.Abort(ctx, blockjob.ForceAfter(10*time.Second))
	if err != nil {
		log.Fatal(err)
	}
	if outcome == blockjob.Copied {
		fmt.Println("the target is a consistent copy")
	}
}

// A progress bar.
func ExampleJob_Progress() {
	var ctx context.Context
	var job *blockjob.Job

	for p := range job.Progress(ctx, time.Second) {
		fmt.Printf("\r%d of %d bytes", p.Current, p.Total)
	}
	fmt.Println("\n", job.Outcome())
}

// See all that happens to a job, whoever caused it.
func ExampleJob_Watch() {
	var ctx context.Context
	var job *blockjob.Job

	updates, err := job.Watch(ctx, 0)
	if err != nil {
		log.Fatal(err)
	}
	for u := range updates {
		switch u.Kind {
		case blockjob.UpdateStatus:
			fmt.Println("status", u.Status)
		case blockjob.UpdateStalled:
			fmt.Println("stalled:", u.Text)
		case blockjob.UpdateEnded:
			fmt.Println(u.Outcome, u.Err)
		}
	}
}

// QEMU's own events, until the context is cancelled or the connection ends.
func ExampleMonitor_Events() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	events, err := monitor.Events(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for event := range events {
		fmt.Println(event.Time, event.Name, string(event.Data))
	}
	fmt.Println(monitor.Err())
}

// An observer sees every job, whoever starts it, with its outcome.
func ExampleMonitor_WatchJobs() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	changes, err := monitor.WatchJobs(ctx, blockjob.WatchJobsOptions{Progress: time.Second})
	if err != nil {
		log.Fatal(err)
	}
	for change := range changes {
		switch change.Kind {
		case blockjob.JobAppeared:
			fmt.Println(change.Job.ID(), change.Type)
		case blockjob.JobProgress:
			fmt.Println(change.Job.ID(), change.Current, "of", change.Total)
		case blockjob.JobEnded:
			fmt.Println(change.Job.ID(), change.Outcome, change.Err)
		}
	}
	fmt.Println(monitor.Err())
}

// Any command; integers are exact.
func ExampleMonitor_Execute() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	var status struct {
		Status  string `json:"status"`
		Running bool   `json:"running"`
	}
	err := monitor.Execute(ctx, "query-status", nil, &status)

	var e *blockjob.Error
	if errors.As(err, &e) && e.Code == blockjob.ErrRefused {
		fmt.Println("QEMU refused:", e.Class, e.Text)
		return
	}
	fmt.Println(status.Status, err)
}

// A job that an earlier process started.
func ExampleMonitor_Attach() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	jobs, err := monitor.Jobs(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for _, info := range jobs {
		job, err := monitor.Attach(ctx, info.ID)
		if err != nil {
			continue // it has ended since
		}
		outcome, err := job.Wait(ctx)
		fmt.Println(job.ID(), outcome, err)
	}
}

// Jobs of a kind that has no method of its own.
func ExampleMonitor_Start() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	job, err := monitor.Start(ctx, "blockdev-create", map[string]any{
		"options": map[string]any{"driver": "qcow2", "file": "file0", "size": 1 << 30},
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.WaitReleased(ctx))
}

// Switch two disks, or none.
func ExampleGroup_Pivot() {
	var ctx context.Context
	var boot, data *blockjob.Job

	err := blockjob.NewGroup(boot, data).Pivot(ctx)

	var e *blockjob.Error
	if errors.As(err, &e) && e.Job != nil {
		fmt.Println("no disk is switched, because of", e.Job.ID(), e.Text)
	}
}

// Two backups of one moment.
func ExampleMonitor_Transaction() {
	var ctx context.Context
	var monitor *blockjob.Monitor

	var actions []blockjob.Action
	for _, disk := range []string{"disk0", "disk1"} {
		actions = append(actions, blockjob.Action{Type: "blockdev-backup", Data: map[string]any{
			"device": disk, "target": disk + "-backup", "sync": "full",
		}})
	}
	jobs, err := monitor.Transaction(ctx, actions, blockjob.Grouped())
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(blockjob.NewGroup(jobs...).Wait(ctx))
}

// A wait that goes on when the connection ends, for as long as that can be made again within a minute.
func ExampleWithReconnect() {
	var ctx context.Context

	monitor, err := blockjob.Dial(ctx, "unix:/run/vm1.qmp", blockjob.WithReconnect(time.Minute))
	if err != nil {
		log.Fatal(err)
	}
	defer monitor.Close()

	events, err := monitor.Events(ctx)
	if err != nil {
		log.Fatal(err)
	}
	for event := range events {
		switch event.Kind {
		case blockjob.EventDisconnected:
			fmt.Println("away:", event.Err)
		case blockjob.EventReconnected:
			fmt.Println("back")
		default:
			fmt.Println(event.Name)
		}
	}
}
