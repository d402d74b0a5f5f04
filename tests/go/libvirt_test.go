// SPDX-License-Identifier: MIT
// Domains of libvirt's: real jobs, their ends, and what ends all of them.

package blockjob_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	blockjob "github.com/libblockjob/libblockjob/go"
	"github.com/libblockjob/libblockjob/tests/go/libvirtd"
	"github.com/libblockjob/libblockjob/tests/go/qemu"
)

func TestMain(m *testing.M) {
	status := m.Run()
	libvirtd.End()
	os.Exit(status)
}

// domain is a domain with the disks vda and vdb, and its monitor.
func domain(t testing.TB) (*libvirtd.Domain, *blockjob.Monitor) {
	t.Helper()
	d := libvirtd.Shared(t).Domain(t, "vm-")
	return d, dial(t, d.URI)
}

// copyDisk starts to copy vda to a new image, whose path it returns.
func copyDisk(t testing.TB, d *libvirtd.Domain, m *blockjob.Monitor, extra map[string]any) (*blockjob.Job, string) {
	t.Helper()
	target := d.MakeEmpty("copy")
	options := blockjob.MirrorOptions{Target: target, Extra: map[string]any{"format": "qcow2", "reuse": true}}
	for key, value := range extra {
		options.Extra[key] = value
	}
	job, err := m.Mirror(patience(t), "vda", options)
	ok(t, err)
	return job, target
}

// haltedCopy is one that copies a first piece and then stands still, until its speed is set to 0.
func haltedCopy(t testing.TB, d *libvirtd.Domain, m *blockjob.Monitor) *blockjob.Job {
	t.Helper()
	job, _ := copyDisk(t, d, m, map[string]any{"bandwidth": 1})
	return job
}

func TestB64PivotOfACopy(t *testing.T) {
	d, m := domain(t)
	job, target := copyDisk(t, d, m, nil)
	if job.ID() != "vda" || job.Type() != "mirror" {
		t.Errorf("it is the %s of %s", job.Type(), job.ID())
	}
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	if d.Source("vda") != target || !d.SameData(d.Path("vda"), target) {
		t.Error("it is not the copy that the domain runs on")
	}
}

func TestB64ReadyIsWhatLibvirtTakesAPivotAfter(t *testing.T) {
	d, m := domain(t)
	for round := 0; round < 10; round++ {
		job, _ := copyDisk(t, d, m, nil)
		<-job.Ready()
		ends(t, blockjob.Pivoted)(job.Pivot(patience(t), blockjob.OnlyIfReady()))
		// The next is a copy of the copy, to where the disk was before.
		ok(t, os.Remove(d.Path("vda")))
		ok(t, os.Rename(d.Path("copy"), d.Path("vda"))) // QEMU has it open
	}
}

func TestB31PivotOfACopyThatIsNotReady(t *testing.T) {
	d, m := domain(t)
	job := haltedCopy(t, d, m)
	_, err := job.Pivot(patience(t), blockjob.OnlyIfReady())
	fails(t, err, blockjob.ErrNotReady)
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
	release(t, job)
	a := <-pivot
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
}

func TestB64CommitOfASnapshot(t *testing.T) {
	d, m := domain(t)
	d.Snapshot("vda", "overlay")
	job, err := m.Commit(patience(t), "vda", blockjob.CommitOptions{})
	ok(t, err)
	ok(t, job.WaitReady(patience(t)))
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
	if source := d.Source("vda"); source != d.Path("vda") {
		t.Error("the domain runs on ", source)
	}
}

func TestB64CommitBelowTheDiskCompletes(t *testing.T) {
	d, m := domain(t)
	middle := d.Snapshot("vda", "middle")
	overlay := d.Snapshot("vda", "overlay")
	job, err := m.Commit(patience(t), "vda", blockjob.CommitOptions{Extra: map[string]any{"top": middle}})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	fails(t, job.WaitReady(patience(t)), blockjob.ErrJobEnded)
	if source := d.Source("vda"); source != overlay {
		t.Error("the domain runs on ", source)
	}
}

func TestB64PullCompletes(t *testing.T) {
	d, m := domain(t)
	overlay := d.Snapshot("vda", "overlay")
	job, err := m.Stream(patience(t), "vda", blockjob.StreamOptions{})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	if source := d.Source("vda"); source != overlay || job.Type() != "stream" {
		t.Error("the domain runs on ", source)
	}
}

func TestB64BackupCompletes(t *testing.T) {
	libvirtd.Shared(t).NeedBackups(t)
	d, m := domain(t)
	target := d.Path("backup")
	job, err := m.Backup(patience(t), "vdb", blockjob.BackupOptions{Target: target})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	if job.ID() != "backup" || job.Type() != "backup" || !d.SameData(d.Path("vdb"), target) {
		t.Errorf("the %s of %s is no copy", job.Type(), job.ID())
	}
}

// storedDomain is one whose disks vdc and vdd halt and fail the jobs that read them, and its monitor.
func storedDomain(t testing.TB) (*libvirtd.Domain, *blockjob.Monitor) {
	t.Helper()
	host := libvirtd.Shared(t)
	host.NeedBackups(t)
	d := host.StoredDomain(t)
	return d, dial(t, d.URI)
}

func backupXML(d *libvirtd.Domain, targets ...string) string {
	xml := "<domainbackup><disks>"
	for _, target := range targets {
		xml += "<disk name='" + target + "' type='file'><target file='" + d.Path("backup-"+target) + "'/></disk>"
	}
	return xml + "</disks></domainbackup>"
}

func TestC05BackupThatLeavesOutTheDiskIsNotStarted(t *testing.T) {
	d, m := domain(t)
	_, err := m.Start(patience(t), "virDomainBackupBegin", map[string]any{"disk": "vdb", "backupxml": backupXML(d, "vda")})
	fails(t, err, blockjob.ErrInvalid)
	if !strings.Contains(err.Error(), "vdb") {
		t.Error("it does not name the disk: ", err)
	}
}

func TestC12BackupIsOneJob(t *testing.T) {
	d, m := storedDomain(t)
	d.StopStore()
	d.BeginBackup(backupXML(d, "vdc", "vdd"))
	job, err := m.Attach(patience(t), "vdd")
	ok(t, err)
	same, err := m.Attach(patience(t), "backup")
	ok(t, err)
	if disks := strings.Join(job.Disks(), " "); same.ID() != "backup" || job.ID() != "backup" || disks != "vdc vdd" {
		t.Errorf("%v is of %s", job, disks)
	}
	rows, err := m.Jobs(patience(t))
	ok(t, err)
	if len(rows) != 1 || rows[0].ID != "backup" {
		t.Error("the jobs are ", rows)
	}
	d.GoOnStore()
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestC12DiskThatFailsFailsTheBackup(t *testing.T) {
	d, m := storedDomain(t)
	d.StopStore()
	job, err := m.Start(patience(t), "virDomainBackupBegin", map[string]any{"disk": "vdc", "backupxml": backupXML(d, "vdc", "vdd")})
	ok(t, err)
	d.KillStore()
	outcome, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobFailed)
	if outcome != blockjob.Failed || !strings.Contains(err.Error(), ": Input/output error") {
		t.Error("it ended ", outcome, ": ", err)
	}
}

func TestW03BackupByOptions(t *testing.T) {
	libvirtd.Shared(t).NeedBackups(t)
	d, m := domain(t)
	disks := map[string]string{"vda": d.Path("backup-vda"), "vdb": d.Path("backup-vdb")}
	job, err := m.Start(patience(t), "backup", map[string]any{"disks": disks, "checkpoint": "one"})
	ok(t, err)
	if names := strings.Join(job.Disks(), " "); job.ID() != "backup" || names != "vda vdb" {
		t.Errorf("%v is of %s", job, names)
	}
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
	for target, path := range disks {
		if !d.SameData(d.Path(target), path) {
			t.Errorf("%s is no copy of %s", path, target)
		}
	}
	disks = map[string]string{"vda": d.Path("incremental")}
	job, err = m.Start(patience(t), "backup", map[string]any{"disks": disks, "incremental": "one", "checkpoint": "two"})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestW03PullEndsByAnAbort(t *testing.T) {
	libvirtd.Shared(t).NeedBackups(t)
	d, m := domain(t)
	job, err := m.Start(patience(t), "backup", map[string]any{
		"mode": "pull", "disks": map[string]string{"vda": d.Path("scratch")}, "server": "unix:" + d.Path("nbd"),
	})
	ok(t, err)
	same, err := m.Attach(patience(t), "vda")
	ok(t, err)
	if same.ID() != "backup" {
		t.Error("vda leads to ", same)
	}
	ends(t, blockjob.Completed)(job.Abort(patience(t)))
}

func TestW03BadOptionsAreNamed(t *testing.T) {
	libvirtd.Shared(t).NeedBackups(t)
	d, m := domain(t)
	good := map[string]any{"vda": d.Path("backup")}
	for word, arguments := range map[string]map[string]any{
		"vdz":            {"disks": map[string]any{"vda": d.Path("backup"), "vdz": "/z"}},
		"disks":          {"disks": map[string]any{"vda": nil}},
		"no-such-option": {"disks": good, "no-such-option": 1},
		"server":         {"disks": good, "mode": "pull"},
	} {
		_, err := m.Start(patience(t), "backup", arguments)
		fails(t, err, blockjob.ErrInvalid)
		if !strings.Contains(err.Error(), word) {
			t.Error("it does not name ", word, ": ", err)
		}
	}
	_, err := m.Start(patience(t), "backup", map[string]any{"disks": good, "incremental": "nowhere"})
	fails(t, err, blockjob.ErrRefused)
}

func TestB64StartInLibvirtsWords(t *testing.T) {
	d, m := domain(t)
	d.Snapshot("vda", "overlay")
	job, err := m.Start(patience(t), "virDomainBlockPull", map[string]any{"disk": "vda"})
	ok(t, err)
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestB66AbortOfAReadyCopyIsCopied(t *testing.T) {
	d, m := domain(t)
	job, target := copyDisk(t, d, m, nil)
	<-job.Ready()
	ends(t, blockjob.Copied)(job.Abort(patience(t)))
	if d.Source("vda") != d.Path("vda") || !d.SameData(d.Path("vda"), target) {
		t.Error("the disk was switched, or the copy is none")
	}
}

func TestB66AbortOfARunningCopyIsCancelled(t *testing.T) {
	d, m := domain(t)
	ends(t, blockjob.Cancelled)(haltedCopy(t, d, m).Abort(patience(t)))
}

func TestC11MigrationTakesNoVerb(t *testing.T) {
	here := libvirtd.Shared(t)
	if !here.CanMigrate {
		t.Skip("the kernel gives nobody a host name of its own")
	}
	d := here.LargeDomain(t)
	m := dial(t, d.URI)
	d.Migrate(libvirtd.Start(t))
	job := attachToMigration(t, m)
	if job.Type() != "migration" {
		t.Errorf("it is a %s", job.Type())
	}
	if _, err := job.Pivot(patience(t)); !errors.Is(err, blockjob.ErrState) {
		t.Errorf("pivot: %v", err)
	}
	if _, err := job.Abort(patience(t)); !errors.Is(err, blockjob.ErrUnsupported) ||
		!strings.Contains(err.Error(), "virsh domjobabort") {
		t.Errorf("abort: %v", err)
	}
	d.AbortMigration()
	ends(t, blockjob.Cancelled)(job.Wait(patience(t)))
	if d.Source("vda") != d.Path("vda") {
		t.Error("the disk was switched")
	}
}

// attachToMigration waits until libvirt copies vda.
func attachToMigration(t testing.TB, m *blockjob.Monitor) *blockjob.Job {
	t.Helper()
	for {
		job, err := m.Attach(patience(t), "vda")
		if err == nil {
			return job
		}
		if !errors.Is(err, blockjob.ErrNoJob) {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestB66AbortAsync(t *testing.T) {
	d, m := domain(t)
	job, _ := copyDisk(t, d, m, nil)
	<-job.Ready()
	_, err := job.Abort(patience(t), blockjob.Async())
	ok(t, err)
	ends(t, blockjob.Copied)(job.Wait(patience(t)))
}

func TestB66ByAnotherClient(t *testing.T) {
	d, m := domain(t)
	job, _ := copyDisk(t, d, m, nil)
	<-job.Ready()
	d.Abort("vda")
	ends(t, blockjob.Copied)(job.Wait(patience(t)))

	job = haltedCopy(t, d, m)
	d.Abort("vda")
	ends(t, blockjob.Cancelled)(job.Wait(patience(t)))

	job, _ = copyDisk(t, d, m, nil)
	<-job.Ready()
	d.Pivot("vda")
	ends(t, blockjob.Pivoted)(job.Wait(patience(t)))
}

func TestB66ForceOfAReadyCopyIsNotToBeHad(t *testing.T) {
	d, m := domain(t)
	job, _ := copyDisk(t, d, m, nil)
	<-job.Ready()
	_, err := job.Abort(patience(t), blockjob.Force())
	fails(t, err, blockjob.ErrUnsupported)
	ends(t, blockjob.Copied)(job.Abort(patience(t)))

	ends(t, blockjob.Cancelled)(haltedCopy(t, d, m).Abort(patience(t), blockjob.Force()))
}

func TestC30AVerbBesideAnotherClients(t *testing.T) {
	outcomes := map[string]blockjob.Outcome{"pivot": blockjob.Pivoted, "abort": blockjob.Copied}
	for theirs, outcome := range outcomes {
		for ours := range outcomes {
			t.Run(ours+" beside "+theirs, func(t *testing.T) { verbBeside(t, ours, theirs, outcome) })
		}
	}
}

func verbBeside(t *testing.T, ours, theirs string, outcome blockjob.Outcome) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	m := dial(t, d.URI, blockjob.WithLimit(blockjob.LimitStallMS, 10))
	job, err := m.Mirror(patience(t), "vda", blockjob.MirrorOptions{
		Target: d.Store(), Extra: map[string]any{"reuse": true},
	})
	ok(t, err)
	ok(t, job.WaitReady(patience(t)))
	d.StopStore()
	d.BeginTo(theirs, "vda")

	verb := start(func() (blockjob.Outcome, error) {
		if ours == "pivot" {
			return job.Pivot(patience(t))
		}
		return job.Abort(patience(t))
	})
	select {
	case a := <-verb:
		t.Errorf("it was answered before the end: %v, %v", a.outcome, a.err)
	case <-time.After(200 * time.Millisecond):
	}
	d.GoOnStore()
	a := <-verb
	if ours == "pivot" && theirs == "abort" {
		fails(t, a.err, blockjob.ErrJobEnded)
	} else {
		ends(t, outcome)(a.outcome, a.err)
	}
	if job.Outcome() != outcome {
		t.Errorf("ended %v", job.Outcome())
	}
}

func TestB11LibvirtsCopyThatFailsSaysWhy(t *testing.T) {
	d, m := domain(t)
	job, err := m.Mirror(patience(t), "vda", blockjob.MirrorOptions{
		Target: d.FailingStore(), Extra: map[string]any{"reuse": true},
	})
	ok(t, err)
	_, err = job.Pivot(patience(t))
	fails(t, err, blockjob.ErrJobFailed, "No space left on device")
	if job.Outcome() != blockjob.Failed {
		t.Errorf("ended %v", job.Outcome())
	}
}

func TestB65DestroyedIsLost(t *testing.T) {
	d, m := domain(t)
	job := haltedCopy(t, d, m)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
	d.Destroy()
	fails(t, (<-waiting).err, blockjob.ErrJobLost, "destroyed")
	fails(t, (<-pivot).err, blockjob.ErrJobLost)
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected, "destroyed")
}

func TestB65KilledIsLost(t *testing.T) {
	d, m := domain(t)
	job, _ := copyDisk(t, d, m, nil)
	<-job.Ready()
	d.Kill()
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
	<-m.Done()
}

func TestB65DestroyedIsNotAwaitedAnew(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	m := dial(t, d.URI, blockjob.WithReconnect(blockjob.Forever))
	job := haltedCopy(t, d, m)
	d.Destroy()
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
}

func TestB65KilledLibvirtdIsLost(t *testing.T) {
	host := libvirtd.Start(t)
	d := host.Domain(t, "vm-")
	m := dial(t, d.URI)
	job := haltedCopy(t, d, m)
	waiting := start(func() (blockjob.Outcome, error) { return job.Wait(patience(t)) })
	host.Kill(t)
	fails(t, (<-waiting).err, blockjob.ErrJobLost)
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected)
}

func TestB70WaitsGoOnThroughARestart(t *testing.T) {
	host := libvirtd.Start(t)
	d := host.Domain(t, "vm-")
	m, events := reconnecting(t, d.URI)
	job := haltedCopy(t, d, m)
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })

	host.Kill(t)
	fails(t, awaitKind(t, events, blockjob.EventDisconnected).Err, blockjob.ErrDisconnected)
	host.Restart(t)
	awaitKind(t, events, blockjob.EventReconnected)
	release(t, job)
	a := <-pivot
	ends(t, blockjob.Pivoted)(a.outcome, a.err)
	if source := d.Source("vda"); source != d.Path("copy") {
		t.Error("the domain runs on ", source)
	}
}

func TestC19ACopyThatEndsWhileWeAreAway(t *testing.T) {
	outcomes := map[string]blockjob.Outcome{"pivot": blockjob.Pivoted, "abort": blockjob.Lost}
	for verb, outcome := range outcomes {
		t.Run(verb, func(t *testing.T) {
			host := libvirtd.Start(t)
			d, way := host.Domain(t, "vm-"), host.Way(t)
			m, events := reconnecting(t, way.URI(d))
			job, _ := copyDisk(t, d, m, nil)
			ok(t, job.WaitReady(patience(t)))
			way.Close(t)
			host.Kill(t)
			awaitKind(t, events, blockjob.EventDisconnected)
			host.Restart(t)
			if verb == "pivot" {
				d.Pivot("vda")
			} else {
				d.Abort("vda")
			}
			way.Open(t)
			_, _ = job.Wait(patience(t))
			if job.Outcome() != outcome {
				t.Errorf("ended %v, want %v", job.Outcome(), outcome)
			}
		})
	}
}

func TestC130AnotherClientsNextCopyIsNotPivoted(t *testing.T) {
	host := libvirtd.Start(t)
	d, way := host.Domain(t, "vm-"), host.Way(t)
	m, events := reconnecting(t, way.URI(d))
	job := haltedCopy(t, d, m)
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
	way.Close(t)
	host.Kill(t)
	awaitKind(t, events, blockjob.EventDisconnected)
	host.Restart(t)
	d.Abort("vda")
	d.Copy("vda", "theirs", false)
	d.AwaitReady("vda")
	way.Open(t)
	a := <-pivot
	fails(t, a.err, blockjob.ErrJobLost)
	if source := d.Source("vda"); source != d.Path("vda") {
		t.Error("the domain runs on ", source)
	}
}

func TestB70GoneWhileAwayIsLost(t *testing.T) {
	host := libvirtd.Start(t)
	d := host.Domain(t, "vm-")
	m, events := reconnecting(t, d.URI)
	job := haltedCopy(t, d, m)
	host.Kill(t)
	awaitKind(t, events, blockjob.EventDisconnected)
	d.Kill()
	host.Restart(t)
	_, err := job.Wait(patience(t))
	fails(t, err, blockjob.ErrJobLost)
}

func TestB67StuckDomainDelaysNobody(t *testing.T) {
	stuck, m := domain(t)
	other, n := domain(t)
	job := haltedCopy(t, stuck, m)
	stuck.Stop()
	defer stuck.GoOn()

	ctx, cancel := context.WithTimeout(patience(t), 100*time.Millisecond)
	defer cancel()
	_, err := job.Abort(ctx)
	fails(t, err, blockjob.ErrTimeout)
	quick, _ := copyDisk(t, other, n, nil)
	ends(t, blockjob.Pivoted)(quick.Pivot(patience(t)))

	stuck.GoOn()
	ends(t, blockjob.Cancelled)(job.Wait(patience(t))) // the abort had been sent
}

func TestB69NamesOfADisk(t *testing.T) {
	d, m := domain(t)
	d.Copy("vda", "copy", true)
	byTarget, err := m.Attach(patience(t), "vda")
	ok(t, err)
	byPath, err := m.Attach(patience(t), d.Path("vda"))
	ok(t, err)
	if byPath.ID() != "vda" {
		t.Errorf("the path leads to %s", byPath.ID())
	}
	jobs, err := m.Jobs(patience(t))
	ok(t, err)
	if len(jobs) != 1 || jobs[0].ID != "vda" || jobs[0].Type != "mirror" || jobs[0].Ready {
		t.Errorf("jobs %+v", jobs)
	}
	release(t, byTarget)
	<-byPath.Ready()
	ends(t, blockjob.Pivoted)(byPath.Pivot(patience(t)))
	ends(t, blockjob.Pivoted)(byTarget.Wait(patience(t)))

	// The disk has another path now.
	d.Copy("vda", "vda", true)
	job, err := m.Attach(patience(t), d.Path("copy"))
	ok(t, err)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
}

func TestB69StartByPath(t *testing.T) {
	d, m := domain(t)
	d.Snapshot("vda", "overlay")
	job, err := m.Stream(patience(t), d.Path("overlay"), blockjob.StreamOptions{})
	ok(t, err)
	if job.ID() != "vda" {
		t.Errorf("it is the job of %s", job.ID())
	}
	ends(t, blockjob.Completed)(job.Wait(patience(t)))
}

func TestB51NoJobOfADomain(t *testing.T) {
	d, m := domain(t)
	for _, name := range []string{"vda", "vdz", d.Path("vda"), ""} {
		_, err := m.Attach(patience(t), name)
		if !errors.Is(err, blockjob.ErrNoJob) && !errors.Is(err, blockjob.ErrInvalid) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

func TestLibvirtUnknownDomain(t *testing.T) {
	host := libvirtd.Shared(t)
	_, err := blockjob.Dial(patience(t), host.URI("nobody"))
	fails(t, err, blockjob.ErrConnect, "nobody")
	_, err = blockjob.Dial(patience(t), host.Connection)
	fails(t, err, blockjob.ErrInvalid, "names no domain")
	noGoroutines(t)
}

func TestLibvirtInactiveDomain(t *testing.T) {
	d := libvirtd.Shared(t).InactiveDomain(t)
	_, err := blockjob.Dial(patience(t), d.URI)
	fails(t, err, blockjob.ErrConnect, "not running")
}

func TestLibvirtNobodyThere(t *testing.T) {
	libvirtd.Shared(t) // or skipped
	path := filepath.Join(qemu.TempDir(t), "nobody")
	_, err := blockjob.Dial(patience(t), "qemu+unix:///session?socket="+path+"#vm1")
	fails(t, err, blockjob.ErrConnect, path)
	noGoroutines(t)
}

func TestLibvirtUnknownDisk(t *testing.T) {
	d, m := domain(t)
	target := d.MakeEmpty("copy")
	_, err := m.Mirror(patience(t), "vdz", blockjob.MirrorOptions{Target: target})
	var e *blockjob.Error
	if !errors.As(err, &e) || !strings.Contains(e.Text, "vdz") {
		t.Fatal(err)
	}
	jobs, err := m.Jobs(patience(t))
	ok(t, err)
	if len(jobs) != 0 {
		t.Errorf("jobs %+v", jobs)
	}
}

func TestLibvirtSecondJobOnADisk(t *testing.T) {
	d, m := domain(t)
	job := haltedCopy(t, d, m)
	_, err := m.Mirror(patience(t), "vda", blockjob.MirrorOptions{Target: d.MakeEmpty("other")})
	fails(t, err, blockjob.ErrRefused)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
}

func TestLibvirtByUUIDAndByAnOddName(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "odd #1 %41 ")
	ok(t, dial(t, d.URI).Close())
	m := dial(t, d.Host.URI(d.UUID))
	job, _ := copyDisk(t, d, m, nil)
	ends(t, blockjob.Pivoted)(job.Pivot(patience(t)))
}

func TestLibvirtWhatThereIsNot(t *testing.T) {
	d, m := domain(t)
	fails(t, m.Execute(patience(t), "query-jobs", nil, nil), blockjob.ErrUnsupported)
	_, err := m.Start(patience(t), "drive-mirror", map[string]any{"device": "vda"})
	fails(t, err, blockjob.ErrUnsupported, "drive-mirror")
	job := haltedCopy(t, d, m)
	fails(t, job.Pause(patience(t)), blockjob.ErrUnsupported)
	fails(t, job.Resume(patience(t)), blockjob.ErrUnsupported)
	ends(t, blockjob.Cancelled)(job.Abort(patience(t)))
}

func TestLibvirtHandsOnQEMUsEvents(t *testing.T) {
	d, m := domain(t)
	events, err := m.Events(patience(t))
	ok(t, err)
	job, _ := copyDisk(t, d, m, nil)
	<-job.Ready()
	for event := range events {
		if event.Name == "BLOCK_JOB_READY" {
			break
		}
	}
	ends(t, blockjob.Copied)(job.Abort(patience(t)))
}

func TestLibvirtProgress(t *testing.T) {
	d, m := domain(t)
	job := haltedCopy(t, d, m)
	progress := job.Progress(patience(t), 10*time.Millisecond)
	p := <-progress
	if p.Total != libvirtd.DiskBytes || p.Current >= p.Total { // equal is ready (B25)
		t.Errorf("progress %+v", p)
	}
	release(t, job)
	<-job.Ready()
	ends(t, blockjob.Copied)(job.Abort(patience(t)))
	for p = range progress {
	}
}

func TestB75LibvirtsConnectionsAreClosed(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	dialAndClose := func() {
		m, err := blockjob.Dial(patience(t), d.URI)
		ok(t, err)
		_, err = m.Jobs(patience(t))
		ok(t, err)
		ok(t, m.Close())
	}
	dialAndClose() // libvirt's loop stays
	files := countFiles(t, "/proc/self/fd")
	for round := 0; round < 50; round++ {
		dialAndClose()
	}
	// References to libvirt's things are given back some time after Close.
	libvirtd.Until(t, func() bool { return countFiles(t, "/proc/self/fd") <= files })
	noGoroutines(t)
}

func TestB74CloseWhileLibvirtIsStuck(t *testing.T) {
	d, m := domain(t)
	job := haltedCopy(t, d, m)
	d.Stop()
	defer d.GoOn()
	abort := start(func() (blockjob.Outcome, error) { return job.Abort(patience(t)) })
	_, err := job.Query(briefly(t))
	fails(t, err, blockjob.ErrTimeout)
	ok(t, m.Close())
	fails(t, (<-abort).err, blockjob.ErrClosed)
	noGoroutines(t)
}

func TestB74CancelledDialOfALibvirtdThatIsSilent(t *testing.T) {
	host := libvirtd.Start(t)
	d := host.Domain(t, "vm-")
	host.Suspend(t)
	defer host.GoOn(t)
	_, err := blockjob.Dial(briefly(t), d.URI)
	fails(t, err, blockjob.ErrTimeout)
	noGoroutines(t)
}

func TestLibvirtExample(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	binary := filepath.Join(qemu.TempDir(t), "commit")
	run(t, filepath.Join(root(t), "examples", "go"), nil, "go", "build", "-o", binary, "./commit")

	middle := d.Snapshot("vda", "middle")
	d.Snapshot("vda", "overlay")
	output := run(t, root(t), nil, binary, d.URI, "vda", middle)
	if !strings.HasSuffix(output, "ready\nPIVOTED\n") || d.Source("vda") != middle {
		t.Errorf("it says %q", output)
	}
	output = run(t, root(t), nil, binary, d.URI, "vda")
	if !strings.HasSuffix(output, "PIVOTED\n") || d.Source("vda") != d.Path("vda") {
		t.Errorf("it says %q", output)
	}
}

func TestW08ReaderWatchesAndSteersNothing(t *testing.T) {
	d := libvirtd.Shared(t).Domain(t, "vm-")
	m := dial(t, d.URI+"?readonly")
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	d.Copy("vda", "theirs", true)
	job, err := m.Attach(patience(t), "vda")
	ok(t, err)
	_, err = job.Pivot(patience(t))
	fails(t, err, blockjob.ErrRefused, "read only", "?readonly")
	_, err = job.Abort(patience(t))
	fails(t, err, blockjob.ErrRefused, "read only")
	fails(t, job.SetSpeed(patience(t), 0), blockjob.ErrRefused, "read only")
	_, err = m.Stream(patience(t), "vdb", blockjob.StreamOptions{})
	fails(t, err, blockjob.ErrRefused, "read only")
	d.Abort("vda")
	ends(t, blockjob.Cancelled)(job.Wait(patience(t)))
	nextChange(t, changes, blockjob.JobAppeared)
	nextChange(t, changes, blockjob.JobEnded)
	_, err = blockjob.Dial(patience(t), d.URI+"?ro")
	fails(t, err, blockjob.ErrInvalid, "%3F")
}

func TestW08DomainThatIsStartedAgain(t *testing.T) {
	d := libvirtd.Shared(t).PersistentDomain(t)
	m, events := reconnecting(t, d.URI)
	job, _ := copyDisk(t, d, m, map[string]any{"bandwidth": 1, "transient": true})
	pivot := start(func() (blockjob.Outcome, error) { return job.Pivot(patience(t)) })
	d.Destroy()
	awaitKind(t, events, blockjob.EventDisconnected)
	fails(t, (<-pivot).err, blockjob.ErrJobLost, "destroyed")
	d.Begin()
	awaitKind(t, events, blockjob.EventReconnected)
	if job.Outcome() != blockjob.Lost {
		t.Errorf("%v", job)
	}
	next, _ := copyDisk(t, d, m, map[string]any{"transient": true})
	ends(t, blockjob.Pivoted)(next.Pivot(patience(t)))
}

func TestW08DomainThatNobodyStarts(t *testing.T) {
	d := libvirtd.Shared(t).PersistentDomain(t)
	m := dial(t, d.URI, blockjob.WithReconnect(300*time.Millisecond))
	d.Destroy()
	<-m.Done()
	fails(t, m.Err(), blockjob.ErrDisconnected, "not started again")
}

func TestB60AllJobsOfADomain(t *testing.T) {
	d, m := domain(t)
	changes := watchJobs(t, m, blockjob.WatchJobsOptions{})
	job, _ := copyDisk(t, d, m, nil)
	appeared := nextChange(t, changes, blockjob.JobAppeared)
	if appeared.Job.ID() != "vda" || appeared.Type != "mirror" || !appeared.Started {
		t.Errorf("%+v", appeared)
	}
	nextChange(t, changes, blockjob.JobReady)
	ends(t, blockjob.Pivoted)(appeared.Job.Pivot(patience(t)))
	if ended := nextChange(t, changes, blockjob.JobEnded); ended.Outcome != blockjob.Pivoted || ended.Err != nil {
		t.Errorf("%+v", ended)
	}
	nextChange(t, changes, blockjob.JobReleased)
	if job.Outcome() != blockjob.Pivoted {
		t.Errorf("%v", job)
	}
}
