// SPDX-License-Identifier: MIT
// Monitors: connecting, commands, events, and the jobs of one QEMU.

package blockjob

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
	"unsafe"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Monitor is the control channel to one QEMU, qemu-storage-daemon or libvirt domain. Its methods
// may be called from any goroutine, also while another calls Close.
type Monitor struct {
	hub     *hub
	uri     string
	name    string
	version string
	end     *ending        // of the connection
	token   uint64         // under which the hub has the end
	closing chan struct{}  // closed by Close
	streams sync.WaitGroup // their goroutines
	gone    chan struct{}  // closed when nothing of it is left
	tracer  *tracer        // nil without a trace

	mu     sync.RWMutex // held for the moment that the handle is used
	handle core.Monitor // nil once closed
}

// An ending is the end of a connection. It doesn't know its Monitor, which can so be collected; Done has
// the hub keep that, too.
type ending struct {
	done chan struct{}
	err  error // written before done is closed
}

func (e *ending) receive(record core.Record) bool {
	e.err = &Error{Code: Code(record.Error()), Text: record.Text()}
	close(e.done)
	return false
}

func (m *Monitor) receive(record core.Record) bool {
	return m.end.receive(record)
}

// Dial connects to a QEMU, or to a libvirt domain, and negotiates. The URI is
//
//	unix:/path          a UNIX socket (a bare path that starts with / will do)
//	tcp:host:port       [::1]:4444 for an IPv6 address
//	fd:N                a connected socket; it is duplicated, N stays the caller's
//	qemu:///system#vm1  a libvirt domain: the URI of a connection and, after #, the domain's name or
//	                    UUID (special characters are encoded by url.PathEscape); any libvirt URI of QEMU
//	                    will do, as qemu+ssh://host/system#vm1; libvirt:vm1 for the default connection.
//	                    With ?readonly behind the name (qemu:///system#vm1?readonly) the connection is a
//	                    read-only one: it lists, attaches, watches and waits; starts and verbs are ErrRefused
//
// One deadline, the context's or else 10 seconds, covers connecting, the greeting and the negotiation.
// QEMU serves one client per socket: while another holds it, connecting succeeds, but no greeting arrives,
// and the error is ErrTimeout. libvirt holds the sockets of its domains: use a libvirt URI for those, or
// give such a QEMU a second -qmp.
//
// The libvirt driver is a separate library, libblockjob-libvirt.so.0, which is loaded for the first
// domain. The id of a domain's job is its disk ("vda", or a path), that of a backup "backup". Jobs are started with libvirt's arguments;
// those without a field go into Extra. There is no Execute, Transaction, Pause, Resume, Finalize or Change, and Force only
// before a copy is ready: all ErrUnsupported. A domain that stops ends its monitor, unless it is persistent and the
// monitor reconnects: see SetReconnect.
//
// Errors: ErrConnect, ErrTimeout, ErrProtocol, ErrDisconnected, ErrInvalid; ErrUnsupported where the
// libvirt driver, or libvirt, is not installed.
func Dial(ctx context.Context, uri string, options ...DialOption) (*Monitor, error) {
	if err := noNUL("the URI", uri); err != nil {
		return nil, err
	}
	return dial(ctx, "connecting to "+uri, options, func(h *hub, d *dialing) (core.Future, *tracer, error) {
		wait, timeout := d.times(ctx)
		var trace *core.Watch
		if d.trace != nil {
			trace = new(core.Watch)
		}
		flags := core.TracePlain
		if d.mask {
			flags = core.TraceMasked
		}
		future := core.ConnectWith(h.ctx, uri, d.name, wait, trace, flags, d.outOfBand, timeout)
		if trace == nil || *trace == nil {
			return future, nil, nil
		}
		return future, h.startTracer(*trace, d.trace), nil
	})
}

// times are how long the library is to wait for the peer, and then to connect. Both end with the context.
func (d *dialing) times(ctx context.Context) (waitMS, timeoutMS int64) {
	rest := timeout(ctx, core.TimeoutDefault)
	wait := milliseconds(d.wait)
	switch {
	case d.wait == 0:
		return 0, rest
	case d.wait == Forever && rest == core.TimeoutDefault:
		return core.TimeoutNone, core.TimeoutNone
	case rest == core.TimeoutDefault:
		return wait, rest
	case wait >= rest:
		return core.TimeoutNone, rest
	}
	return wait, rest - wait
}

// DialDomain connects as Dial does, to a domain that the program already has. The pointer is C's
// virDomainPtr, from any binding; for libvirt.org/go/libvirt's *Domain use the module
// github.com/libblockjob/libblockjob/go/libvirtjob.
//
// The domain's own connection is used. If the program has registered an event loop with libvirt, it must run that
// loop; otherwise the library registers and runs one. A connection that was opened before any loop was registered
// delivers no events: the library then opens a second one if the loop is its own; a program with its own loop
// must register it before it opens connections.
//
// DialDomain takes a reference to the domain before it returns: from then on the program may free its domain and
// close its connection at any time. The reference is dropped some time after Close. Such a monitor does not
// reconnect.
//
// Errors as of Dial.
func DialDomain(ctx context.Context, domain unsafe.Pointer, options ...DialOption) (*Monitor, error) {
	if domain == nil {
		return nil, invalid("DialDomain needs a domain, not nil")
	}
	return dial(ctx, "connecting to a domain", options, func(h *hub, d *dialing) (core.Future, *tracer, error) {
		if d.wait != 0 || d.name != "" || d.trace != nil {
			return nil, nil, invalid("WithWait, WithName and WithTrace are for Dial, not for DialDomain")
		}
		return core.MonitorConnectDomain(h.ctx, domain, timeout(ctx, core.TimeoutDefault)), nil, nil
	})
}

// A connecting asks the library for a monitor, and begins its trace.
type connecting func(h *hub, d *dialing) (core.Future, *tracer, error)

func dial(ctx context.Context, what string, options []DialOption, connect connecting) (*Monitor, error) {
	if err := begin(ctx, what); err != nil {
		return nil, err
	}
	var d dialing
	for _, option := range options {
		if option == nil {
			return nil, invalid("a DialOption is nil")
		}
		if err := option(&d); err != nil {
			return nil, err
		}
	}

	h, err := joinHub(d.limits)
	if err != nil {
		return nil, err
	}
	m, err := h.dial(ctx, what, &d, connect)
	if err != nil {
		h.leave()
		return nil, err
	}
	if d.reconnect > 0 {
		if err := m.SetReconnect(d.reconnect); err != nil {
			m.Close()
			return nil, err
		}
	}
	return m, nil
}

func (h *hub) dial(ctx context.Context, what string, d *dialing, connect connecting) (*Monitor, error) {
	future, tracer, err := connect(h, d)
	if err != nil {
		return nil, err
	}
	f := h.await(future, what, nil)
	defer f.free()

	m, err := h.join(ctx, f)
	if err != nil {
		tracer.stop()
		return nil, err
	}
	m.tracer = tracer
	return m, nil
}

// join waits for a connection, and makes a Monitor of it.
func (h *hub) join(ctx context.Context, f *future) (*Monitor, error) {
	if _, err := f.wait(ctx); err != nil {
		return nil, err
	}
	m := &Monitor{
		hub:     h,
		end:     &ending{done: make(chan struct{})},
		closing: make(chan struct{}),
		gone:    make(chan struct{}),
		handle:  core.FutureMonitor(f.handle),
	}
	m.uri = core.String(core.MonitorUri(m.handle))
	m.name = core.String(core.MonitorName(m.handle))
	m.version = core.String(core.MonitorQemuVersion(m.handle))

	over := core.MonitorClosed(m.handle)
	defer core.FutureUnref(over)

	token, ok := h.deliver(m.end, func(queue core.Queue, token uint64) int {
		return core.FutureDeliver(over, queue, token)
	})
	if !ok {
		core.MonitorUnref(m.handle)
		return nil, check("connecting", core.ENomem)
	}
	m.token = token
	// A safety net only: whoever dials closes.
	runtime.SetFinalizer(m, func(m *Monitor) { go m.Close() })
	return m, nil
}

// use calls with the handle, which stays valid meanwhile.
func (m *Monitor) use(with func(handle core.Monitor) error) error {
	if m == nil || m.hub == nil {
		return errNoMonitor()
	}
	m.mu.RLock()
	defer m.mu.RUnlock()

	if m.handle == nil {
		return errClosed()
	}
	return with(m.handle)
}

// URI returns what was dialled; of DialDomain, what leads to the same domain.
func (m *Monitor) URI() string {
	if m == nil {
		return ""
	}
	return m.uri
}

// Name returns the name of WithName, or the URI.
func (m *Monitor) Name() string {
	if m == nil {
		return ""
	}
	return m.name
}

// QEMUVersion returns the version of the greeting, as "7.2.22"; for display: never decide by it. It is ""
// for a libvirt domain, which does not report it.
func (m *Monitor) QEMUVersion() string {
	if m == nil {
		return ""
	}
	return m.version
}

// HasCommand reports whether this QEMU has that command. It fails once the connection is over.
func (m *Monitor) HasCommand(command string) (has bool, err error) {
	if err := isText("the command", command); err != nil {
		return false, err
	}
	err = m.use(func(handle core.Monitor) error {
		code := core.MonitorHasCommand(handle, command)
		has = code == 1
		return check("HasCommand", code)
	})
	return has, err
}

// SetReconnect makes the monitor connect again whenever its connection ends, and sets for how long it tries each
// time. Forever never gives up; 0, the default, never tries.
//
// Waits on jobs, their contexts and their channels continue meanwhile. After reconnecting, QEMU is asked
// for each job: one that is listed goes on; one that has concluded has its outcome; one that is gone, or
// any if another process has the socket, is Lost, never a success. Commands in flight, and those given
// before the connection is back, fail with ErrDisconnected. Events reports both moments; what QEMU sends in
// between is lost.
//
// A libvirt domain is known by its UUID. When a persistent one stops, its jobs are Lost at once, and the monitor waits, within the
// same limit, until it is started again. One that was transient, was undefined or has migrated is gone, and the
// monitor with it.
//
// Errors: ErrInvalid for a monitor of "fd:N" or of DialDomain, which cannot be connected again, or for a
// negative time; ErrClosed, ErrDisconnected or ErrProtocol when the monitor is already over.
func (m *Monitor) SetReconnect(giveUpAfter time.Duration) error {
	if giveUpAfter < 0 {
		return invalid("SetReconnect needs a time that is not negative")
	}
	limit := milliseconds(giveUpAfter)
	if giveUpAfter == Forever {
		limit = core.TimeoutNone
	}
	return m.use(func(handle core.Monitor) error {
		code := core.MonitorSetReconnect(handle, limit)
		if Code(code) == ErrInvalid {
			return invalid("a connection of " + m.name + " can't be made again")
		}
		return check("reconnecting to "+m.name, code)
	})
}

// Done returns a channel that is closed when the connection is over for good, for whatever reason: see Err. While the
// channel is open, the monitor is not collected, even if the program keeps nothing but the channel.
func (m *Monitor) Done() <-chan struct{} {
	if m == nil || m.end == nil {
		return closedChannel
	}
	m.hub.keep(m.token, m)
	return m.end.done
}

// Err returns nil while the connection lasts, then ErrClosed, ErrDisconnected or ErrProtocol.
func (m *Monitor) Err() error {
	if m == nil || m.end == nil {
		return errNoMonitor()
	}
	select {
	case <-m.end.done:
		return m.end.err
	default:
		return nil
	}
}

// Close closes the connection. All waits on it end with ErrClosed, and the channels of
// Events, WatchJobs, Watch and Progress are closed. No goroutine of the monitor is left when Close returns.
// Closing twice is harmless.
//
// Jobs go on in QEMU, and Attach finds them again; one that this program has started stays listed as
// "concluded" when it ends, until a client dismisses it. Those that are already over are still
// dismissed, and QEMU's replies are still awaited: if this is the last monitor, Close waits for
// that, for a second at most; CloseAsync does not.
func (m *Monitor) Close() error {
	if m == nil || m.end == nil {
		return errNoMonitor()
	}
	if handle := m.beginClose(); handle != nil {
		m.endClose(handle)
	}
	<-m.gone
	return nil
}

// CloseAsync closes the connection as Close does, and returns at once: for a program that must not wait for a QEMU, with a
// lock held for example. What Close waits for goes on in a goroutine; the channel is closed when nothing of the monitor is
// left. Close, after it, waits for that.
func (m *Monitor) CloseAsync() <-chan struct{} {
	if m == nil || m.end == nil {
		return closedChannel
	}
	if handle := m.beginClose(); handle != nil {
		go m.endClose(handle)
	}
	return m.gone
}

// beginClose returns the handle to the first who closes.
func (m *Monitor) beginClose() core.Monitor {
	m.mu.Lock()
	handle := m.handle
	m.handle = nil
	m.mu.Unlock()

	if handle != nil {
		runtime.SetFinalizer(m, nil)
		core.MonitorClose(handle)
		close(m.closing)
	}
	return handle
}

func (m *Monitor) endClose(handle core.Monitor) {
	m.streams.Wait()
	<-m.end.done
	m.tracer.stop()
	core.MonitorUnref(handle)
	m.hub.leave()
	close(m.gone)
}

// await asks the monitor for something that a future answers.
func (m *Monitor) await(ctx context.Context, what string,
	ask func(monitor core.Monitor, timeout int64) core.Future) (f *future, err error) {
	if err := begin(ctx, what); err != nil {
		return nil, err
	}
	err = m.use(func(handle core.Monitor) error {
		f = m.hub.await(ask(handle, timeout(ctx, core.TimeoutDefault)), what, m)
		return nil
	})
	return f, err
}

// Execute sends any command. The arguments are nil, or encoding/json makes a JSON object of them; a
// json.RawMessage is sent as it is. The reply's "return" value is decoded into reply, if that is not
// nil. Integers are exact in both directions: where reply holds an any, they are json.Number. Text that is not valid
// UTF-8 is ErrInvalid, and not replaced as encoding/json does.
//
// The deadline is the context's, or else 60 seconds. When it passes, a late reply is dropped, but QEMU
// may still execute the command. For jobs use the other methods: a verb sent this way is sent
// even if the job is not ready.
//
// Options: [WithFiles] sends files along, [OutOfBand] overtakes other commands.
//
// Errors: ErrRefused with QEMU's class and text, ErrInvalid, ErrBusy, ErrDisconnected; those of the options.
func (m *Monitor) Execute(ctx context.Context, command string, arguments, reply any, options ...ExecuteOption) error {
	if err := isText("the command", command); err != nil {
		return err
	}
	text, err := marshal(arguments)
	if err != nil {
		return err
	}
	var all ExecuteOption
	for _, option := range options {
		all.files = append(all.files, option.files...)
		all.outOfBand = all.outOfBand || option.outOfBand
	}

	var f *future
	bad := withDescriptors(all.files, nil, func(fds []int32) {
		f, err = m.await(ctx, command, func(monitor core.Monitor, timeout int64) core.Future {
			return core.Execute(monitor, command, text, fds, all.outOfBand, timeout)
		})
	})
	if bad != nil {
		return invalid("the files of " + command + ": " + bad.Error())
	}
	if err != nil {
		return err
	}
	defer f.free()

	a, err := f.wait(ctx)
	if err != nil || reply == nil {
		return err
	}
	decoder := json.NewDecoder(strings.NewReader(a.text))
	decoder.UseNumber()
	if err := decoder.Decode(reply); err != nil {
		return invalid("the reply to " + command + " doesn't fit: " + err.Error())
	}
	return nil
}

// withDescriptors calls with the descriptors of the files, which stay open meanwhile. File.Fd would make them blocking.
func withDescriptors(files []*os.File, fds []int32, do func(fds []int32)) error {
	if len(files) == 0 {
		do(fds)
		return nil
	}
	connection, err := files[0].SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	err = connection.Control(func(fd uintptr) {
		inner = withDescriptors(files[1:], append(fds, int32(fd)), do)
	})
	if err != nil {
		return err
	}
	return inner
}

// Start starts a job by any command that starts one ("blockdev-mirror", "block-commit",
// "blockdev-create", ...). The arguments are as those of Execute.
//
// On a libvirt domain also libvirt's own calls ("virDomainBlockCopy", ...), and "backup", a backup of several
// disks: map[string]any{"disks": map[string]string{"vda": "/b/vda", "vdb": "/b/vdb"}}, and "mode" ("push" or
// "pull"), "server", "incremental", "checkpoint", "format", "target-type", "reuse". A pull that is aborted is
// Completed: that is how its client ends it.
//
// The library adds what they leave out: a unique "job-id" where this QEMU has ids, and "auto-dismiss":
// false where it has that; it then dismisses the job itself when the outcome is stored. The job
// is followed from before the command is sent, so nothing is missed.
//
// Errors: ErrRefused with QEMU's reason, ErrUnsupported, ErrInvalid, ErrBusy. An answer that has arrived when ctx
// ends counts. When ctx ends before, the job may start all the same: Attach finds it by its id, so give it one
// ("job-id", or the JobID of the options) if ctx can end.
func (m *Monitor) Start(ctx context.Context, command string, arguments any) (*Job, error) {
	if err := isText("the command", command); err != nil {
		return nil, err
	}
	text, err := marshal(arguments)
	if err != nil {
		return nil, err
	}
	return m.start(ctx, command, func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorStart(monitor, command, text, timeout)
	})
}

// Mirror starts a blockdev-mirror: it copies a node or device to the node options.Target and keeps them
// equal from ready on, until it is pivoted or aborted. Errors as of Start.
func (m *Monitor) Mirror(ctx context.Context, device string, options MirrorOptions) (*Job, error) {
	if err := isText("the node", device, options.Target, options.Sync); err != nil {
		return nil, err
	}
	text, err := options.marshal()
	if err != nil {
		return nil, err
	}
	return m.start(ctx, "blockdev-mirror", func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorMirror(monitor, device, options.Target, or(options.Sync, "full"), text, timeout)
	})
}

// Commit starts a block-commit: it merges overlays down. Of the active layer, unless options.TopNode
// says otherwise: that kind becomes ready and is to be pivoted; an intermediate one just completes.
// Errors as of Start.
func (m *Monitor) Commit(ctx context.Context, device string, options CommitOptions) (*Job, error) {
	if err := isText("the node", device); err != nil {
		return nil, err
	}
	text, err := options.marshal()
	if err != nil {
		return nil, err
	}
	return m.start(ctx, "block-commit", func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorCommit(monitor, device, text, timeout)
	})
}

// Stream starts a block-stream: it pulls the data of backing files up. Errors as of Start.
func (m *Monitor) Stream(ctx context.Context, device string, options StreamOptions) (*Job, error) {
	if err := isText("the node", device); err != nil {
		return nil, err
	}
	text, err := options.marshal()
	if err != nil {
		return nil, err
	}
	return m.start(ctx, "block-stream", func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorStream(monitor, device, text, timeout)
	})
}

// Backup starts a blockdev-backup: a copy of one point in time to the node options.Target. On a libvirt
// domain the job's id is "backup"; several disks, pull mode and checkpoints are arguments of
// Start(ctx, "backup", ...). Errors as of Start.
func (m *Monitor) Backup(ctx context.Context, device string, options BackupOptions) (*Job, error) {
	if err := isText("the node", device, options.Target, options.Sync); err != nil {
		return nil, err
	}
	text, err := options.marshal()
	if err != nil {
		return nil, err
	}
	return m.start(ctx, "blockdev-backup", func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorBackup(monitor, device, options.Target, or(options.Sync, "full"), text, timeout)
	})
}

// Transaction starts several jobs at once, all or none. The actions may include some that start no job (a
// bitmap, a snapshot). The jobs are returned in the order of the actions that started them, and the
// library adds to each what Start adds. Their outcomes are independent, unless the transaction is Grouped.
// Errors as of Start; if it is refused, no job is left behind.
func (m *Monitor) Transaction(ctx context.Context, actions []Action, options ...TransactionOption) ([]*Job, error) {
	text, err := marshal(actions)
	if err != nil {
		return nil, err
	}
	flags := core.TransactionEach
	for _, o := range options {
		flags |= o.flag
	}
	f, err := m.await(ctx, "transaction", func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorTransaction(monitor, text, flags, timeout)
	})
	if err != nil {
		return nil, err
	}
	defer f.free()

	if _, err := f.wait(ctx); err != nil {
		return nil, err
	}
	jobs := make([]*Job, core.FutureJobCount(f.handle))
	for i := range jobs {
		jobs[i] = newJob(m, core.FutureJobAt(f.handle, int64(i)))
	}
	return jobs, nil
}

// Attach finds a job that another client, or an earlier process, started. Before QEMU 2.7 the id is
// the device's name. The library does not dismiss such a job; use Dismiss. Errors: ErrNoJob, also if it ends meanwhile
// and QEMU forgets it; ErrBusy if more jobs than LimitJobs are followed.
func (m *Monitor) Attach(ctx context.Context, id string) (*Job, error) {
	if err := isText("the id", id); err != nil {
		return nil, err
	}
	return m.start(ctx, "attaching to job "+id, func(monitor core.Monitor, timeout int64) core.Future {
		return core.MonitorAttach(monitor, id, timeout)
	})
}

func (m *Monitor) start(ctx context.Context, what string,
	ask func(monitor core.Monitor, timeout int64) core.Future) (*Job, error) {
	f, err := m.await(ctx, what, ask)
	if err != nil {
		return nil, err
	}
	defer f.free()

	if _, err := f.wait(ctx); err != nil {
		return nil, err
	}
	return newJob(m, core.FutureJob(f.handle)), nil
}

// Jobs asks QEMU for a list of all its jobs.
func (m *Monitor) Jobs(ctx context.Context) ([]JobInfo, error) {
	f, err := m.await(ctx, "listing jobs", core.MonitorList)
	if err != nil {
		return nil, err
	}
	defer f.free()

	if _, err := f.wait(ctx); err != nil {
		return nil, err
	}
	return infos(f.handle), nil
}

// An EventKind is where an [Event] comes from.
type EventKind int

// The kinds of events.
const (
	EventQEMU         EventKind = core.RecordEvent        // QEMU's
	EventDisconnected EventKind = core.RecordDisconnected // the connection has ended, for the reason in Err; it is being made again
	EventReconnected  EventKind = core.RecordReconnected  // the connection is back; events that QEMU sent meanwhile are lost
)

// An Event is one of QEMU's own; or, of a monitor that reconnects, the end of its connection and the
// beginning of the next, which have no name.
type Event struct {
	Kind    EventKind
	Name    string          // "" but for EventQEMU
	Data    json.RawMessage // an object, or nil
	Err     error           // of EventDisconnected
	Time    time.Time       // QEMU's; the zero time if it gave none
	Dropped uint64          // events lost just before this one, because the receiver was slow
}

// Events returns a stream of all events that QEMU sends after Events has returned, in order, each once. The channel
// is closed when the connection is over for good (see Monitor.Err), or when ctx is done. A receiver that has seen enough cancels ctx: until then the stream holds its
// memory and a goroutine, and keeps the monitor open even if nothing else refers to it.
//
// Events wait for a slow receiver, up to LimitWatchRing of them and LimitMessageBytes of their names and data,
// one event at least. Beyond that the oldest are dropped, and the next one counts them in Dropped; nobody
// else is affected.
//
// With names, as QEMU spells them ("SHUTDOWN", "DEVICE_DELETED"), the stream has only those events, and those of the connection.
// All others take no room in it: none of the named is dropped because of them. A name that this QEMU does not have is
// never seen. ErrInvalid for an empty name, or for more than 1,024.
func (m *Monitor) Events(ctx context.Context, names ...string) (<-chan Event, error) {
	if err := eventNames(names); err != nil {
		return nil, err
	}
	all := func(int) bool { return true }
	watch := func(handle core.Monitor, watch *core.Watch) int {
		return core.WatchEvents(handle, names, watch)
	}
	return open(ctx, m, newStream(0, all), watch, func(n *notice) Event {
		e := Event{Kind: EventKind(n.kind), Name: n.name, Time: n.time, Dropped: n.dropped}
		switch {
		case n.code != core.OK:
			e.Err = &Error{Code: Code(n.code), Text: n.text}
		case n.text != "":
			e.Data = json.RawMessage(n.text)
		}
		return e
	})
}

func eventNames(names []string) error {
	for _, name := range names {
		if name == "" {
			return invalid("the name of an event is empty")
		}
	}
	if len(names) > 1024 {
		return invalid(fmt.Sprintf("%d names of events are too many: 1,024 at most", len(names)))
	}
	return isText("the name of an event", names...)
}

// marshal makes the JSON text that the library wants of what the caller gave.
func marshal(arguments any) (string, error) {
	if arguments == nil {
		return "", nil
	}
	text, err := json.Marshal(arguments)
	if err != nil {
		return "", invalid("the arguments can't be made JSON: " + err.Error())
	}
	if string(text) == "null" {
		return "", nil
	}
	if !isUTF8(arguments, text) {
		return "", invalid("the arguments contain text that is not valid UTF-8")
	}
	return string(text), nil
}

// isUTF8 reports whether JSON made by encoding/json has all the text that it was made of: for bytes that
// are not UTF-8 it writes the escape \ufffd, and never for a U+FFFD. What a caller made itself is judged
// by its bytes.
func isUTF8(from any, text []byte) bool {
	if _, own := from.(json.Marshaler); own {
		return utf8.Valid(text)
	}
	for {
		escape := bytes.IndexByte(text, '\\')
		if escape < 0 {
			return true
		}
		if text = text[escape:]; bytes.HasPrefix(text, []byte(`\ufffd`)) {
			return false
		}
		text = text[2:] // also past a backslash that is escaped
	}
}

// isText refuses what JSON can't hold, or C.
func isText(what string, values ...string) error {
	for _, value := range values {
		if !utf8.ValidString(value) {
			return invalid(fmt.Sprintf("%s %q is not valid UTF-8", what, value))
		}
	}
	return noNUL(what, values...)
}

// noNUL refuses what would be cut short on its way into C.
func noNUL(what string, values ...string) error {
	for _, value := range values {
		if strings.IndexByte(value, 0) >= 0 {
			return invalid(fmt.Sprintf("%s %q must not contain a NUL byte", what, value))
		}
	}
	return nil
}

func or(value, otherwise string) string {
	if value == "" {
		return otherwise
	}
	return value
}
