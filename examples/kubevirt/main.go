// SPDX-License-Identifier: MIT

// Kubevirt is a manager in the position of KubeVirt's virt-launcher: it has one connection to libvirt, with
// an event loop and callbacks of its own, and removes the snapshot overlay of a domain's disk by a block
// commit, while the guest runs:
//
//	go run . qemu:///system vm1 vda [/path/of/the/overlay]
//
// It can be killed at any moment and started again: a merge that is under way goes on, also one whose pivot
// libvirt has taken already. Whether one was completed in between only the overlay's path shows, as a manager
// has it in its records: without it the next overlay would be taken for that one, and merged.
//
// Where such a manager looks at the job's state every so often, and pivots when it looks ready, this one
// waits: for ready, for the pivot, for the failure, each as long as its context says.
package main

import (
	"context"
	"encoding/xml"
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
	if len(os.Args) != 4 && len(os.Args) != 5 {
		fmt.Fprintln(os.Stderr, "usage: kubevirt URI DOMAIN DISK [OVERLAY]")
		os.Exit(2)
	}
	overlay := ""
	if len(os.Args) == 5 {
		overlay = os.Args[4]
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt)
	defer cancel()

	if err := run(ctx, os.Args[1], os.Args[2], os.Args[3], overlay); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, uri, name, disk, overlay string) error {
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

	return mergeOverlay(ctx, domain, disk, overlay)
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
func mergeOverlay(ctx context.Context, domain *libvirt.Domain, disk, overlay string) error {
	ctx, cancel := context.WithTimeout(ctx, mergeLimit)
	defer cancel()

	monitor, err := libvirtjob.Dial(ctx, domain)
	if err != nil {
		return err
	}
	defer monitor.Close()

	job, err := monitor.Attach(ctx, disk) // that of this manager before it was restarted
	if errors.Is(err, blockjob.ErrNoJob) {
		if merged, err := isMerged(domain, disk, overlay); merged || err != nil {
			return report(err)
		}
		job, err = commit(ctx, monitor, disk)
	}
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
	return report(nil)
}

func report(err error) error {
	if err == nil {
		fmt.Println("the guest runs without the overlay")
	}
	return err
}

// isMerged tells whether the disk is another image than the overlay by now.
func isMerged(domain *libvirt.Domain, disk, overlay string) (bool, error) {
	if overlay == "" {
		return false, nil
	}
	text, err := domain.GetXMLDesc(0)
	if err != nil {
		return false, err
	}
	var description struct {
		Disks []struct {
			Target struct {
				Name string `xml:"dev,attr"`
			} `xml:"target"`
			Source struct {
				File string `xml:"file,attr"`
			} `xml:"source"`
		} `xml:"devices>disk"`
	}
	if err := xml.Unmarshal([]byte(text), &description); err != nil {
		return false, err
	}
	for _, d := range description.Disks {
		if d.Target.Name == disk {
			return d.Source.File != overlay, nil
		}
	}
	return false, fmt.Errorf("the domain has no disk %s", disk)
}

func commit(ctx context.Context, monitor *blockjob.Monitor, disk string) (*blockjob.Job, error) {
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
