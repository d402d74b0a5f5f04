// SPDX-License-Identifier: MIT
// Domains that a program has from libvirt.org/go/libvirt, whose event loop is the program's own (B68).

// Package libvirtjob_test tests the module libvirtjob against a real libvirtd.
package libvirtjob_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/go/libvirtjob"
	"github.com/libblockjob/libblockjob/tests/go/libvirtd"
	"libvirt.org/go/libvirt"
)

func TestMain(m *testing.M) {
	// As every manager does, before it opens a connection.
	if err := libvirt.EventRegisterDefaultImpl(); err != nil {
		panic(err)
	}
	go func() {
		for libvirt.EventRunDefaultImpl() == nil {
		}
	}()
	status := m.Run()
	libvirtd.End()
	os.Exit(status)
}

func patience(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func fails(t testing.TB, err error, code blockjob.Code) {
	t.Helper()
	if !errors.Is(err, code) {
		t.Fatalf("got %v, want %v", err, code)
	}
}

// connect opens a connection of the test's own.
func connect(t testing.TB, host *libvirtd.Host) *libvirt.Connect {
	t.Helper()
	connection, err := libvirt.NewConnect(host.Connection)
	ok(t, err)
	return connection
}

// domain is a new domain, and what the test has of it over a connection of its own.
func domain(t testing.TB, host *libvirtd.Host) (*libvirtd.Domain, *libvirt.Connect, *libvirt.Domain) {
	t.Helper()
	d := host.Domain(t, "vm-")
	connection := connect(t, host)
	found, err := connection.LookupDomainByName(d.Name)
	ok(t, err)
	return d, connection, found
}

func dial(t testing.TB, domain *libvirt.Domain) *blockjob.Monitor {
	t.Helper()
	monitor, err := libvirtjob.Dial(patience(t), domain)
	ok(t, err)
	t.Cleanup(func() { monitor.Close() })
	return monitor
}

func copyDisk(t testing.TB, d *libvirtd.Domain, m *blockjob.Monitor, bandwidth int) *blockjob.Job {
	t.Helper()
	job, err := m.Mirror(patience(t), "vda", blockjob.MirrorOptions{
		Target: d.MakeEmpty("copy"),
		Extra:  map[string]any{"format": "qcow2", "reuse": true, "bandwidth": bandwidth},
	})
	ok(t, err)
	return job
}

func TestB68OverTheProgramsOwnLoopAndConnection(t *testing.T) {
	d, connection, domain := domain(t, libvirtd.Shared(t))
	defer connection.Close()
	defer domain.Free()

	// The program's own callback goes on.
	seen := make(chan libvirt.ConnectDomainEventBlockJobStatus, 100)
	id, err := connection.DomainEventBlockJob2Register(domain,
		func(_ *libvirt.Connect, _ *libvirt.Domain, event *libvirt.DomainEventBlockJob) {
			seen <- event.Status
		})
	ok(t, err)
	defer connection.DomainEventDeregister(id)

	m := dial(t, domain)
	if want := d.URI; m.URI() != want {
		t.Errorf("it is %s, not %s", m.URI(), want)
	}
	job := copyDisk(t, d, m, 0)
	outcome, err := job.Pivot(patience(t))
	if err != nil || outcome != blockjob.Pivoted || d.Source("vda") != d.Path("copy") {
		t.Fatal(outcome, err)
	}
	for _, want := range []libvirt.ConnectDomainEventBlockJobStatus{
		libvirt.DOMAIN_BLOCK_JOB_READY,
		libvirt.DOMAIN_BLOCK_JOB_COMPLETED,
	} {
		select {
		case status := <-seen:
			if status != want {
				t.Errorf("status %v, want %v", status, want)
			}
		case <-patience(t).Done():
			t.Fatal("the program's own callback was not called")
		}
	}
}

func TestB68TheProgramLetsGo(t *testing.T) {
	d, connection, domain := domain(t, libvirtd.Shared(t))
	m := dial(t, domain)
	ok(t, domain.Free())
	_, err := connection.Close()
	ok(t, err)

	outcome, err := copyDisk(t, d, m, 0).Abort(patience(t))
	if err != nil || (outcome != blockjob.Copied && outcome != blockjob.Cancelled) {
		t.Fatal(outcome, err)
	}
}

func TestB68TheLibraryLetsGo(t *testing.T) {
	_, connection, domain := domain(t, libvirtd.Shared(t))
	for round := 0; round < 10; round++ {
		m, err := libvirtjob.Dial(patience(t), domain)
		ok(t, err)
		ok(t, m.Close())
	}
	active, err := domain.IsActive()
	if err != nil || !active {
		t.Fatal(active, err)
	}
	ok(t, domain.Free())
	// References are given back some time after Close.
	libvirtd.Until(t, func() bool {
		ok(t, connection.Ref())
		left, err := connection.Close()
		ok(t, err)
		return left == 1
	})
	_, err = connection.Close()
	ok(t, err)
}

func TestB68TwoDomainsOfOneConnection(t *testing.T) {
	host := libvirtd.Shared(t)
	d, connection, one := domain(t, host)
	defer connection.Close()
	defer one.Free()
	e := host.Domain(t, "vm-")
	other, err := connection.LookupDomainByName(e.Name)
	ok(t, err)
	defer other.Free()

	m, n := dial(t, one), dial(t, other)
	jobs := []*blockjob.Job{copyDisk(t, d, m, 0), copyDisk(t, e, n, 0)}
	ok(t, blockjob.NewGroup(jobs...).Pivot(patience(t)))
}

func TestB65LibvirtdIsKilled(t *testing.T) {
	host := libvirtd.Start(t)
	d, connection, domain := domain(t, host)
	defer connection.Close()
	defer domain.Free()
	m := dial(t, domain)
	job := copyDisk(t, d, m, 1)
	host.Kill(t)
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected)
}

func TestWhatCanNotBeDialled(t *testing.T) {
	host := libvirtd.Shared(t)
	_, err := libvirtjob.Dial(patience(t), nil)
	fails(t, err, blockjob.ErrInvalid)

	d, connection, domain := domain(t, host)
	defer connection.Close()
	defer domain.Free()
	_, err = libvirtjob.Dial(patience(t), domain, blockjob.WithReconnect(time.Second))
	fails(t, err, blockjob.ErrInvalid)

	gone, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = libvirtjob.Dial(gone, domain)
	fails(t, err, blockjob.ErrCancelled)

	d.Destroy()
	_, err = libvirtjob.Dial(patience(t), domain)
	fails(t, err, blockjob.ErrConnect)
}

// example builds the manager, and returns what runs it on a disk of the domain.
func example(t testing.TB, d *libvirtd.Domain) func(disk ...string) *exec.Cmd {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kubevirt")
	build := exec.Command("go", "build", "-buildvcs=false", "-o", program, ".")
	build.Dir = filepath.Join("..", "..", "..", "examples", "kubevirt")
	if output, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	return func(disk ...string) *exec.Cmd {
		return exec.Command(program, append([]string{d.Host.Connection, d.Name}, disk...)...)
	}
}

func TestExample(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	manager := example(t, d)
	merge := func() string {
		output, err := manager("vda").Output()
		ok(t, err)
		return string(output)
	}

	middle := d.Snapshot("vda", "middle")
	d.Snapshot("vda", "overlay")
	for _, below := range []string{middle, d.Path("vda")} {
		output := merge()
		if !strings.HasSuffix(output, "without the overlay\n") || d.Source("vda") != below {
			t.Errorf("it says %q", output)
		}
	}
}

// killInPivot has a manager begin the pivot of a commit into the store, which can't end while that is
// stopped, and kills it there.
func killInPivot(t testing.TB, d *libvirtd.Domain, manager *exec.Cmd) {
	t.Helper()
	if _, err := d.Host.Virsh("blockcommit", d.Name, "vdc", "--active", "--shallow"); err != nil {
		t.Fatal(err)
	}
	d.AwaitReady("vdc")
	d.StopStore()
	ok(t, manager.Start())
	d.Await("vdc", "pivot")
	ok(t, manager.Process.Kill())
	_ = manager.Wait()
}

func TestExampleResumesAPivot(t *testing.T) {
	d := libvirtd.Shared(t).StoredDomain(t)
	manager := example(t, d)
	overlay := d.Snapshot("vdc", "overlay")
	killInPivot(t, d, manager("vdc", overlay))

	again := manager("vdc", overlay)
	output, err := again.StdoutPipe()
	ok(t, err)
	ok(t, again.Start())
	lines := bufio.NewScanner(output)
	if !lines.Scan() || lines.Text() != "started" { // it has found the job
		t.Fatalf("it says %q", lines.Text())
	}
	d.GoOnStore()
	last := ""
	for lines.Scan() {
		last = lines.Text()
	}
	ok(t, again.Wait())
	if last != "the guest runs without the overlay" || d.Source("vdc") == overlay {
		t.Errorf("it says %q, and the guest runs on %q", last, d.Source("vdc"))
	}
}

// The next overlay, if there is one, is not its own.
func TestExampleFindsItsPivotDone(t *testing.T) {
	d := libvirtd.Shared(t).StoredDomain(t)
	manager := example(t, d)
	overlay := d.Snapshot("vdc", "overlay")
	killInPivot(t, d, manager("vdc", overlay))
	d.GoOnStore()
	d.Await("vdc", "none")
	next := d.Snapshot("vdc", "next")

	output, err := manager("vdc", overlay).Output()
	ok(t, err)
	if string(output) != "the guest runs without the overlay\n" || d.Source("vdc") != next {
		t.Errorf("it says %q, and the guest runs on %q", output, d.Source("vdc"))
	}
}
