// SPDX-License-Identifier: MIT

// Package libvirtd is the Go client of tests/support/libvirtd: private libvirtds for the tests, with
// domains whose guests never run. A step that fails ends the test.
package libvirtd

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libblockjob/libblockjob/tests/go/helper"
)

const program = "tests/support/libvirtd"

// DiskBytes is how large the disks are: enough for a job to be seen in the middle of it.
const DiskBytes = 4 << 20

// A Host is a libvirtd with a folder and a socket of its own. It belongs to the test's goroutine.
type Host struct {
	Connection string // its URI
	CanMigrate bool   // to another

	can    []string
	helper *helper.Helper
}

// shared is the libvirtd of Shared, and what this machine lacks.
var shared struct {
	look, start sync.Once
	lack        string
	host        *Host
	err         error
}

// Shared is the libvirtd of all tests that leave it as they find it; End ends it.
func Shared(t testing.TB) *Host {
	t.Helper()
	skip(t)
	shared.start.Do(func() { shared.host, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.host
}

// End ends what Shared started, if it did; for TestMain.
func End() {
	if shared.host != nil {
		shared.host.helper.Close()
	}
}

// Start starts a libvirtd for one test, which ends it.
func Start(t testing.TB) *Host {
	t.Helper()
	skip(t)
	host, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(host.helper.Close)
	return host
}

func skip(t testing.TB) {
	t.Helper()
	shared.look.Do(func() {
		lack, _ := exec.Command("python3", filepath.Join(helper.Root, program), "--missing").Output()
		shared.lack = strings.TrimSpace(string(lack))
	})
	if shared.lack != "" {
		t.Skip("libvirt: " + shared.lack)
	}
}

func start() (*Host, error) {
	running, err := helper.Start(program)
	if err != nil {
		return nil, err
	}
	var where struct {
		URI        string
		CanMigrate bool `json:"can_migrate"`
		Can        []string
	}
	if err := running.Do("host", nil, &where); err != nil {
		running.Close()
		return nil, err
	}
	return &Host{where.URI, where.CanMigrate, where.Can, running}, nil
}

// NeedBackups skips the test where there are none.
func (h *Host) NeedBackups(t testing.TB) {
	t.Helper()
	for _, ability := range h.can {
		if ability == "back up" {
			return
		}
	}
	t.Skip("this libvirt, or its QEMU, cannot back up")
}

func (h *Host) do(t testing.TB, verb string, fields helper.Fields, result any) {
	t.Helper()
	if err := h.helper.Do(verb, fields, result); err != nil {
		t.Fatal(err)
	}
}

// Kill kills the daemon without a word to anyone; the domains run on.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	h.do(t, "signal", helper.Fields{"name": "KILL"}, nil)
}

// Restart starts the daemon again; it has found its domains when this returns.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	h.do(t, "start", nil, nil)
}

// A Way leads to a libvirtd, as long as it is open.
type Way struct {
	host         *Host
	path, socket string
}

// Way makes one, which is open.
func (h *Host) Way(t testing.TB) *Way {
	t.Helper()
	_, socket, _ := strings.Cut(h.Connection, "socket=")
	way := &Way{h, filepath.Join(t.TempDir(), "way"), socket}
	way.Open(t)
	return way
}

// Open opens it.
func (w *Way) Open(t testing.TB) {
	t.Helper()
	if err := os.Symlink(w.socket, w.path); err != nil {
		t.Fatal(err)
	}
}

// Close closes it: no monitor comes back by it.
func (w *Way) Close(t testing.TB) {
	t.Helper()
	if err := os.Remove(w.path); err != nil {
		t.Fatal(err)
	}
}

// URI is the address of the domain's monitor by this way.
func (w *Way) URI(d *Domain) string {
	return strings.Replace(d.URI, w.socket, w.path, 1)
}

// Suspend stops the daemon: it is there, but silent.
func (h *Host) Suspend(t testing.TB) {
	t.Helper()
	h.do(t, "signal", helper.Fields{"name": "STOP"}, nil)
}

// GoOn ends a Suspend.
func (h *Host) GoOn(t testing.TB) {
	t.Helper()
	h.do(t, "signal", helper.Fields{"name": "CONT"}, nil)
}

// Virsh returns what virsh prints for a command; the error is libvirt's.
func (h *Host) Virsh(words ...string) (string, error) {
	var result struct{ Output string }
	err := h.helper.Do("virsh", helper.Fields{"words": words}, &result)
	return result.Output, err
}

// URI is the address of the monitor of that domain, which may not exist.
func (h *Host) URI(domain string) string {
	return h.Connection + "#" + url.PathEscape(domain)
}

// A Domain has the disks vda and vdb, qcow2 images that are full of data. It belongs to one test, but
// ends with its libvirtd: that handles the block job events of all domains on one thread, which has no
// time for them for more than a second after the end of any.
type Domain struct {
	Host *Host
	Name string
	UUID string
	URI  string // of its monitor

	t      testing.TB
	prefix string
}

// Domain makes one, paused, whose name begins so.
func (h *Host) Domain(t testing.TB, beginning string) *Domain {
	t.Helper()
	return h.makeDomain(t, helper.Fields{"beginning": beginning})
}

// LargeDomain makes one whose only disk, vda, is large.
func (h *Host) LargeDomain(t testing.TB) *Domain {
	t.Helper()
	return h.makeDomain(t, helper.Fields{"targets": []string{"vda"}, "large": true})
}

// StoredDomain makes one with two more disks, vdc and vdd, whose data are in a network store.
func (h *Host) StoredDomain(t testing.TB) *Domain {
	t.Helper()
	return h.makeDomain(t, helper.Fields{"targets": []string{"vda", "vdb", "vdc", "vdd"}, "stored": []string{"vdc", "vdd"}})
}

// InactiveDomain defines one that does not run.
func (h *Host) InactiveDomain(t testing.TB) *Domain {
	t.Helper()
	return h.makeDomain(t, helper.Fields{"running": false})
}

// PersistentDomain makes one that stays defined when it stops.
func (h *Host) PersistentDomain(t testing.TB) *Domain {
	t.Helper()
	return h.makeDomain(t, helper.Fields{"persistent": true})
}

func (h *Host) makeDomain(t testing.TB, options helper.Fields) *Domain {
	t.Helper()
	var made struct{ Name, UUID, URI, Prefix string }
	h.do(t, "domain", options, &made)
	return &Domain{h, made.Name, made.UUID, made.URI, t, made.Prefix}
}

// result holds what any step of a domain can return.
type result struct {
	Path, XML string
	Reason    string
	Chain     []string
	Same      bool
}

func (d *Domain) do(verb string, fields helper.Fields) (r result) {
	d.t.Helper()
	if fields == nil {
		fields = helper.Fields{}
	}
	fields["domain"] = d.Name
	d.Host.do(d.t, verb, fields, &r)
	return r
}

// Kill kills its QEMU without a word to anyone.
func (d *Domain) Kill() {
	d.t.Helper()
	d.do("signal", helper.Fields{"name": "KILL"})
}

// Stop stops its QEMU: it is there, but silent.
func (d *Domain) Stop() {
	d.t.Helper()
	d.do("signal", helper.Fields{"name": "STOP"})
}

// GoOn ends a Stop.
func (d *Domain) GoOn() {
	d.t.Helper()
	d.do("signal", helper.Fields{"name": "CONT"})
}

// Destroy is what another client does to end it.
func (d *Domain) Destroy() {
	d.t.Helper()
	d.do("destroy", nil)
}

// Begin starts a persistent one again.
func (d *Domain) Begin() {
	d.t.Helper()
	d.do("begin", nil)
}

// IsRunning tells what libvirt thinks; a libvirtd that was killed may have lost it.
func (d *Domain) IsRunning() bool {
	state, err := d.Host.Virsh("domstate", d.Name)
	return err == nil && state == "paused"
}

// Path is that of a file of that name; of a target, its first image.
func (d *Domain) Path(name string) string {
	return d.prefix + "-" + name
}

// MakeEmpty makes an image of that name, for a copy that reuses it, and returns its path.
func (d *Domain) MakeEmpty(name string) string {
	d.t.Helper()
	return d.do("image", helper.Fields{"name": name}).Path
}

// Store starts a network store, and returns it as a disk of libvirt's XML.
func (d *Domain) Store() string {
	d.t.Helper()
	return d.do("store", nil).XML
}

// StopStore stops it: jobs that read from it or write into it halt, and can't end.
func (d *Domain) StopStore() {
	d.t.Helper()
	d.do("signal", helper.Fields{"name": "STOP", "store": true})
}

// GoOnStore ends a StopStore.
func (d *Domain) GoOnStore() {
	d.t.Helper()
	d.do("signal", helper.Fields{"name": "CONT", "store": true})
}

// FailingStore starts a network store to which no write succeeds, and returns it as a disk of
// libvirt's XML.
func (d *Domain) FailingStore() string {
	d.t.Helper()
	return d.do("store", helper.Fields{"failing": true}).XML
}

// KillStore fails the jobs that need it.
func (d *Domain) KillStore() {
	d.t.Helper()
	d.do("kill_store", helper.Fields{})
}

// BeginBackup is what another client does.
func (d *Domain) BeginBackup(xml string) {
	d.t.Helper()
	d.do("begin_backup", helper.Fields{"xml": xml})
}

// SameData tells whether two images have the same content; QEMU may have them open.
func (d *Domain) SameData(one, other string) bool {
	d.t.Helper()
	var r result
	d.Host.do(d.t, "same_data", helper.Fields{"one": one, "other": other}, &r)
	return r.Same
}

// Source is the path of the image that is the disk now.
func (d *Domain) Source(target string) string {
	d.t.Helper()
	return d.do("disk", helper.Fields{"disk": target}).Chain[0]
}

// Snapshot makes a new overlay of that name the disk, and returns its path.
func (d *Domain) Snapshot(target, name string) string {
	d.t.Helper()
	return d.do("snapshot", helper.Fields{"disk": target, "name": name}).Path
}

// Copy is what another client does: it starts a copy into a new image of that name, which after a first
// piece stands still if it is halted.
func (d *Domain) Copy(target, name string, halted bool) {
	d.t.Helper()
	d.do("copy", helper.Fields{"disk": target, "name": name, "halted": halted})
}

// Abort is what another client does to the job on a disk; Pivot is the other thing.
func (d *Domain) Abort(target string) {
	d.t.Helper()
	d.do("job", helper.Fields{"disk": target, "action": "abort"})
}

// Pivot is what another client does to a job that is ready.
func (d *Domain) Pivot(target string) {
	d.t.Helper()
	d.do("job", helper.Fields{"disk": target, "action": "pivot"})
}

// Migrate begins to move a domain with large disks, and the content of those, to another host; that takes
// minutes.
func (d *Domain) Migrate(to *Host) {
	d.t.Helper()
	var disks struct {
		Targets []string
		Size    int64
	}
	var place struct{ URI, Prefix string }
	d.Host.do(d.t, "disks", helper.Fields{"domain": d.Name}, &disks)
	to.do(d.t, "expect", helper.Fields{"targets": disks.Targets, "size": disks.Size}, &place)
	d.do("migrate", helper.Fields{"uri": place.URI, "prefix": place.Prefix, "slowly": true})
}

// AbortMigration cancels it, and waits until it is over; it must not have succeeded.
func (d *Domain) AbortMigration() {
	d.t.Helper()
	if _, err := d.Host.Virsh("domjobabort", d.Name); err != nil {
		d.t.Fatal(err)
	}
	if d.do("migrated", nil).Reason == "" {
		d.t.Fatal("it has migrated")
	}
}

// BeginTo has libvirt take another client's "pivot" or "abort", and waits for no end.
func (d *Domain) BeginTo(verb, target string) {
	d.t.Helper()
	if _, err := d.Host.Virsh("blockjob", d.Name, target, "--"+verb, "--async"); err != nil {
		d.t.Fatal(err)
	}
}

// AwaitReady waits until a copy or an active commit is ready, by libvirt's XML.
func (d *Domain) AwaitReady(target string) {
	d.t.Helper()
	d.Await(target, "ready")
}

// Await waits for a state of it: "none", "running", "ready", "pivot" or "abort".
func (d *Domain) Await(target, state string) {
	d.t.Helper()
	d.do("await_mirror", helper.Fields{"disk": target, "state": state})
}

// Until asks until it is so.
func Until(t testing.TB, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it never came about")
		}
	}
}
