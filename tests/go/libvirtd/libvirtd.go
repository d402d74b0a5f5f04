// SPDX-License-Identifier: MIT

// Package libvirtd starts private libvirtds for the tests, and domains whose QEMU emulates the processor.
//
// What a test does behind the library's back, and what it takes for the truth, goes through virsh: a
// process of its own, which shares no connection and no event loop with the library under test.
package libvirtd

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// root is the top of the tree.
var root = findRoot()

func findRoot() string {
	dir, _ := os.Getwd() // that of the package under test
	for dir != "/" {
		if _, err := os.Stat(filepath.Join(dir, "core", "include")); err == nil {
			return dir
		}
		dir = filepath.Dir(dir)
	}
	return "."
}

// Missing says what there is not on this machine, "" if libvirt can be tested.
func Missing() string {
	if os.Getenv("BLOCKJOB_WITHOUT_LIBVIRT") != "" {
		return "these tests are to run without" // for a QEMU that libvirt would not know
	}
	os.Setenv("PATH", os.Getenv("PATH")+":/usr/sbin:/sbin")
	for _, program := range []string{"libvirtd", "virsh", "qemu-system-x86_64"} {
		if _, err := exec.LookPath(program); err != nil {
			return "there is no " + program
		}
	}
	build := os.Getenv("BUILD")
	if build == "" {
		build = "build"
	}
	if !filepath.IsAbs(build) {
		build = filepath.Join(root, build)
	}
	if _, err := os.Stat(filepath.Join(build, "libblockjob-libvirt.so.0")); err != nil {
		return "the library was built without libvirt"
	}
	return ""
}

// A Host is a libvirtd with a folder and a socket of its own (tests/support/libvirtd). It belongs to the
// test's goroutine.
type Host struct {
	Folder     string
	Connection string // its URI

	script  *exec.Cmd
	stdin   io.WriteCloser
	stdout  *bufio.Reader
	full    []byte // an image full of data
	domains int
}

var shared struct {
	sync.Once
	host *Host
	err  error
}

// Shared is the libvirtd of all tests that leave it as they find it; End ends it.
func Shared(t testing.TB) *Host {
	t.Helper()
	skip(t)
	shared.Do(func() { shared.host, shared.err = start() })
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.host
}

// End ends what Shared started, if it did; for TestMain.
func End() {
	if shared.host != nil {
		shared.host.close()
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
	t.Cleanup(host.close)
	return host
}

func skip(t testing.TB) {
	t.Helper()
	if what := Missing(); what != "" {
		t.Skip("libvirt: " + what)
	}
}

func start() (*Host, error) {
	h := &Host{script: exec.Command(filepath.Join(root, "tests", "support", "libvirtd"))}
	h.script.Stderr = os.Stderr
	var err error
	if h.stdin, err = h.script.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := h.script.StdoutPipe()
	if err != nil {
		return nil, err
	}
	h.stdout = bufio.NewReader(stdout)
	if err := h.script.Start(); err != nil {
		return nil, err
	}
	line, err := h.stdout.ReadString('\n')
	if err != nil {
		h.script.Wait()
		return nil, fmt.Errorf("libvirtd did not start: %w", err)
	}
	h.Folder = strings.TrimSuffix(line, "\n")
	h.Connection = "qemu+unix:///session?socket=" + filepath.Join(h.Folder, "run/libvirt/libvirt-sock")
	return h, nil
}

// close ends all: the daemon, its domains and its folder.
func (h *Host) close() {
	h.stdin.Close()
	io.Copy(io.Discard, h.stdout)
	h.script.Wait()
}

func (h *Host) tell(t testing.TB, command string) {
	t.Helper()
	fmt.Fprintln(h.stdin, command)
	if line, err := h.stdout.ReadString('\n'); line != "ok\n" {
		t.Fatalf("%s: %q, %v", command, line, err)
	}
}

// Kill kills the daemon without a word to anyone; the domains run on.
func (h *Host) Kill(t testing.TB) {
	t.Helper()
	h.tell(t, "kill")
}

// Restart starts the daemon again; it has found its domains when this returns.
func (h *Host) Restart(t testing.TB) {
	t.Helper()
	h.tell(t, "start")
}

// Suspend stops the daemon: it is there, but silent.
func (h *Host) Suspend(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGSTOP)
}

// GoOn ends a Suspend.
func (h *Host) GoOn(t testing.TB) {
	t.Helper()
	h.signal(t, syscall.SIGCONT)
}

func (h *Host) signal(t testing.TB, signal syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.Folder, "run/libvirt/libvirtd.pid"))
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	syscall.Kill(pid, signal)
}

// Virsh runs a command of virsh's and returns what it says; the error is libvirt's.
func (h *Host) Virsh(arguments ...string) (string, error) {
	command := exec.Command("virsh", append([]string{"-q", "-c", h.Connection}, arguments...)...)
	var complaint strings.Builder
	command.Stderr = &complaint
	output, err := command.Output()
	if err != nil {
		err = fmt.Errorf("virsh %s: %w: %s", strings.Join(arguments, " "), err, complaint.String())
	}
	return strings.TrimSpace(string(output)), err
}

// URI is the address of the monitor of that domain.
func (h *Host) URI(domain string) string {
	return h.Connection + "#" + url.PathEscape(domain)
}

// DiskBytes is how large the disks are: enough for a job to be seen in the middle of it.
const DiskBytes = 4 << 20

// A Domain's guest never runs; its disks vda and vdb are qcow2 images that are full of data. It belongs
// to one test, but ends with its libvirtd: that handles the block job events of all domains on one thread,
// which has no time for them for more than a second after the end of any.
type Domain struct {
	Host *Host
	Name string
	UUID string
	URI  string // of its monitor

	t      testing.TB
	prefix string
	pid    int // of its QEMU; 0: ended
}

// Domain makes one, paused, whose name begins so.
func (h *Host) Domain(t testing.TB, name string) *Domain {
	t.Helper()
	h.domains++
	prefix := fmt.Sprintf("d%d", h.domains)
	name += prefix
	d := &Domain{Host: h, Name: name, URI: h.URI(name), t: t, prefix: prefix}
	for _, target := range []string{"vda", "vdb"} {
		d.makeFull(d.Path(target))
	}
	var id [16]byte
	_, err := rand.Read(id[:])
	d.must(err)
	d.UUID = fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	definition := d.Path("xml")
	d.must(os.WriteFile(definition, []byte(d.describe()), 0o644))
	d.virsh("create", definition, "--paused")
	text, err := os.ReadFile(filepath.Join(h.Folder, "run/libvirt/qemu/run", name+".pid"))
	d.must(err)
	d.pid, err = strconv.Atoi(strings.TrimSpace(string(text)))
	d.must(err)
	return d
}

func (d *Domain) describe() string {
	disks := ""
	for _, target := range []string{"vda", "vdb"} {
		disks += fmt.Sprintf("<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>"+
			"<source file='%s'/><target dev='%s' bus='virtio'/></disk>", d.Path(target), target)
	}
	return fmt.Sprintf("<domain type='qemu'><name>%s</name><uuid>%s</uuid><memory unit='MiB'>16</memory>"+
		"<os><type arch='x86_64' machine='pc'>hvm</type></os>"+
		"<devices>%s<memballoon model='none'/></devices></domain>", d.Name, d.UUID, disks)
}

// makeFull makes an image full of data. QEMU's programs make the first; each takes its time to start.
func (d *Domain) makeFull(path string) {
	d.t.Helper()
	if d.Host.full == nil {
		d.MakeEmpty("full")
		d.run("qemu-io", "-f", "qcow2", "-c", fmt.Sprintf("write -q -P 1 0 %d", DiskBytes), d.Path("full"))
		full, err := os.ReadFile(d.Path("full"))
		d.must(err)
		d.Host.full = full
	}
	d.must(os.WriteFile(path, d.Host.full, 0o600))
	d.must(os.Chmod(path, 0o666))
}

func (d *Domain) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

func (d *Domain) run(program string, arguments ...string) {
	d.t.Helper()
	if output, err := exec.Command(program, arguments...).CombinedOutput(); err != nil {
		d.t.Fatalf("%s: %v\n%s", program, err, output)
	}
}

func (d *Domain) virsh(arguments ...string) string {
	d.t.Helper()
	output, err := d.Host.Virsh(arguments...)
	d.must(err)
	return output
}

func (d *Domain) signal(signal syscall.Signal) {
	if d.pid != 0 {
		syscall.Kill(d.pid, signal)
	}
}

// Kill kills its QEMU without a word to anyone.
func (d *Domain) Kill() {
	d.signal(syscall.SIGKILL)
	d.pid = 0 // soon another's
}

// Stop stops its QEMU: it is there, but silent.
func (d *Domain) Stop() {
	d.signal(syscall.SIGSTOP)
}

// GoOn ends a Stop.
func (d *Domain) GoOn() {
	d.signal(syscall.SIGCONT)
}

// Destroy is what another client does to end it.
func (d *Domain) Destroy() {
	d.t.Helper()
	d.virsh("destroy", d.Name)
	d.pid = 0
}

// IsRunning tells what libvirt thinks; a libvirtd that was killed may have lost it.
func (d *Domain) IsRunning() bool {
	state, err := d.Host.Virsh("domstate", d.Name)
	return err == nil && state == "paused"
}

// Path is that of a file of that name; of a target, its first image.
func (d *Domain) Path(name string) string {
	return filepath.Join(d.Host.Folder, "disks", d.prefix+"-"+name)
}

// MakeEmpty makes an image of that name, for a copy that reuses it, and returns its path.
func (d *Domain) MakeEmpty(name string) string {
	d.t.Helper()
	path := d.Path(name)
	d.run("qemu-img", "create", "-q", "-f", "qcow2", path, fmt.Sprint(DiskBytes))
	d.must(os.Chmod(path, 0o666))
	return path
}

// SameData tells whether two images have the same content; QEMU may have them open.
func (d *Domain) SameData(one, other string) bool {
	return exec.Command("qemu-img", "compare", "-q", "-U", one, other).Run() == nil
}

// Snapshot makes a new overlay of that name the disk, and returns its path.
func (d *Domain) Snapshot(target, name string) string {
	d.t.Helper()
	path := d.Path(name)
	other := map[string]string{"vda": "vdb", "vdb": "vda"}[target]
	d.virsh("snapshot-create-as", d.Name, "--disk-only", "--no-metadata",
		"--diskspec", target+",snapshot=external,file="+path, "--diskspec", other+",snapshot=no")
	return path
}

// Source is the path of the image that is the disk now.
func (d *Domain) Source(target string) string {
	d.t.Helper()
	for _, line := range strings.Split(d.virsh("domblklist", d.Name), "\n") {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == target {
			return fields[1]
		}
	}
	d.t.Fatal("there is no disk ", target)
	return ""
}

// Copy is what another client does: it starts a copy into a new image of that name, which after a first
// piece stands still if it is halted.
func (d *Domain) Copy(target, name string, halted bool) {
	d.t.Helper()
	arguments := []string{"blockcopy", d.Name, target, d.MakeEmpty(name), "--format", "qcow2",
		"--reuse-external"}
	if halted {
		arguments = append(arguments, "--bandwidth", "1", "--bytes")
	}
	d.virsh(arguments...)
}

// Abort is what another client does to the job on a disk; Pivot is the other thing.
func (d *Domain) Abort(target string) {
	d.t.Helper()
	d.virsh("blockjob", d.Name, target, "--abort")
}

// Pivot is what another client does to a job that is ready.
func (d *Domain) Pivot(target string) {
	d.t.Helper()
	d.virsh("blockjob", d.Name, target, "--pivot")
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
