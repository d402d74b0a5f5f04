// SPDX-License-Identifier: MIT

// Kubevirt is a manager in the position of KubeVirt's virt-launcher: it has one connection to libvirt, with
// an event loop and callbacks of its own, and removes the snapshot overlay of a domain's disk by a block
// commit, while the guest runs:
//
//	go run . qemu:///system vm1 vda
//
// Where such a manager looks at the job's state every so often, and pivots when it looks ready, this one
// waits: for ready, for the pivot, for the failure, each as long as its context says.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"os"
	"os/signal"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/go/libvirtjob"
	"libvirt.org/go/libvirt"
)

// mergeLimit is for how long a merge may take; after it the guest keeps its overlay.
const mergeLimit = time.Hour

// abortLimit is for how long the end of a merge that is given up is awaited.
const abortLimit = time.Minute

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: kubevirt URI DOMAIN DISK")
		os.Exit(2)
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, uri, name, disk string) error {
	// libvirt's loop first, then the connection: one that is opened before has no events.
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		return err
	}
	go serveEvents()

	connection, err := libvirt.NewConnect(uri)
	if err != nil {
		return err
	}
	defer connection.Close()

	// What the manager does with libvirt beside goes on as it was.
	id, err := connection.DomainEventLifecycleRegister(nil,
		func(_ *libvirt.Connect, d *libvirt.Domain, event *libvirt.DomainEventLifecycle) {
			log.Print("lifecycle: ", event)
		})
	if err != nil {
		return err
	}
	defer connection.DomainEventDeregister(id)

	domain, err := connection.LookupDomainByName(name)
	if err != nil {
		return err
	}
	defer domain.Free()

	return mergeOverlay(ctx, domain, disk)
}

func serveEvents() {
	for {
		if err := libvirt.EventRunDefaultImpl(); err != nil {
			log.Print("libvirt's event loop: ", err)
		}
	}
}

// mergeOverlay merges the overlay that the domain runs on into the image below it, and switches to that.
// An error says why the disk was not switched or, of kind blockjob.ErrJobLost, why nobody can know.
func mergeOverlay(ctx context.Context, domain *libvirt.Domain, disk string) error {
	ctx, cancel := context.WithTimeout(ctx, mergeLimit)
	defer cancel()

	monitor, err := libvirtjob.Dial(ctx, domain)
	if err != nil {
		return err
	}
	defer monitor.Close()

	job, err := commit(ctx, monitor, disk)
	if err != nil {
		return err
	}
	fmt.Println("started")

	if err := job.WaitReady(ctx); err != nil {
		return giveUp(job, err)
	}
	fmt.Println("ready")

	if _, err := job.Pivot(ctx); err != nil {
		return giveUp(job, err)
	}
	fmt.Println("the guest runs without the overlay")
	return nil
}

// commit starts it; or finds the one that this manager started before it was restarted.
func commit(ctx context.Context, monitor *blockjob.Monitor, disk string) (*blockjob.Job, error) {
	job, err := monitor.Attach(ctx, disk)
	if !errors.Is(err, blockjob.ErrNoJob) {
		return job, err
	}
	return monitor.Start(ctx, "virDomainBlockCommit", map[string]any{
		"disk": disk, "flags": []string{"ACTIVE", "SHALLOW", "DELETE"},
	})
}

// giveUp ends a job that nobody waits for any more; one that is over, or that can't be known, says how.
func giveUp(job *blockjob.Job, why error) error {
	if !errors.Is(why, context.DeadlineExceeded) && !errors.Is(why, context.Canceled) {
		return why // the job's own end, or that of the domain or of libvirtd
	}
	// A context of its own: the other has ended, the job has not.
	ctx, cancel := context.WithTimeout(context.Background(), abortLimit)
	defer cancel()

	outcome, err := job.Abort(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w; giving up the merge: %v", why, err)
	case outcome == blockjob.Pivoted:
		return nil // it was over before the abort
	default:
		return why
	}
}
