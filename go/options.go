// SPDX-License-Identifier: MIT
// Options: how to dial, arguments of the usual jobs, and how to pivot and abort.

package blockjob

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strings"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Limit bounds the resources that a peer or a slow receiver can make the library use.
type Limit int

// The limits, and what they are without WithLimit.
const (
	LimitMessageBytes   Limit = core.LimitMessageBytes   // of one message from QEMU, and of all that waits for a receiver of events, updates or changes; 16 MiB
	LimitMessageTokens  Limit = core.LimitMessageTokens  // of one message; 1,048,576
	LimitMessageNesting Limit = core.LimitMessageNesting // of one message; 256, at most 1,024
	LimitInFlight       Limit = core.LimitInFlight       // commands sent and not answered, per monitor; 64
	LimitQueued         Limit = core.LimitQueued         // commands not sent yet, per monitor; 1,024
	LimitJobs           Limit = core.LimitJobs           // jobs that are followed, per monitor; 4,096
	LimitWatchRing      Limit = core.LimitWatchRing      // events, updates or changes that wait for a receiver; 256
	LimitConnectMS      Limit = core.LimitConnectMS      // connect, greeting and negotiation; 10,000
	LimitCommandMS      Limit = core.LimitCommandMS      // a command, where the context has no deadline; 60,000
	LimitStallMS        Limit = core.LimitStallMS        // how long a job may be paused before a pivot fails with ErrStalled; 1,000
	LimitPollMS         Limit = core.LimitPollMS         // how often a QEMU that has no event for what is awaited (RHEL 6; a new job before 3.0) is polled; 500
	LimitConvergeMS     Limit = core.LimitConvergeMS     // how long a job may make no progress before UpdateStalled and JobStalled say why, and how often QEMU is asked for that; 10,000
)

// limits are what Dial was given; 0 stands for the library's own.
type limits [core.LimitCount]uint64

// dialing is what the options of Dial say.
type dialing struct {
	limits    limits
	reconnect time.Duration
	wait      time.Duration
	name      string
	trace     func(TraceLine)
	mask      bool
	outOfBand bool
}

// A DialOption configures the monitor that Dial makes.
type DialOption func(*dialing) error

// WithLimit sets a limit of this monitor. Monitors of equal limits share the thread and the goroutine
// of the library. Error of Dial: ErrInvalid for an unknown limit, or for a value of 0 or one that an int does
// not hold.
func WithLimit(limit Limit, value uint64) DialOption {
	return func(d *dialing) error {
		if limit < 0 || int(limit) >= len(d.limits) || value == 0 || value > math.MaxInt {
			return invalid(fmt.Sprintf("invalid limit %d or value %d", limit, value))
		}
		d.limits[limit] = value
		return nil
	}
}

// Forever makes a monitor try to reconnect without limit.
const Forever time.Duration = math.MaxInt64

// WithReconnect makes the monitor connect again whenever its connection ends, as Monitor.SetReconnect does. Error of Dial:
// ErrInvalid for "fd:N", or for a negative time.
func WithReconnect(giveUpAfter time.Duration) DialOption {
	return func(d *dialing) error {
		if giveUpAfter < 0 {
			return invalid("WithReconnect needs a time that is not negative")
		}
		d.reconnect = giveUpAfter
		return nil
	}
}

// WithOutOfBand negotiates out-of-band execution with a QEMU that offers it (4.0 and later, on a socket), also when the
// monitor reconnects; dialling another does not fail. See [OutOfBand]. QEMU then reads commands ahead of those that it
// executes, so the library sends seven at a time, and one with files alone: leave it out unless you need it.
func WithOutOfBand() DialOption {
	return func(d *dialing) error {
		d.outOfBand = true
		return nil
	}
}

// WithWait makes Dial wait for a peer that is not there yet, for d or as long as its context lasts: a socket that does not
// exist or that nobody listens on, a libvirtd that does not run, a domain that libvirt does not know or that does not run.
// Connecting then has the rest of the context's time, or else 10 seconds. What waiting does not mend (a bad address, no
// permission, no QMP) fails at once. Forever waits as long as the context lasts.
//
// Error of Dial: ErrConnect, with what was waited for and how long; where the context ends first, ErrTimeout. ErrInvalid
// for "fd:N" and DialDomain, which are there or not, or for a negative time.
func WithWait(d time.Duration) DialOption {
	return func(o *dialing) error {
		if d < 0 {
			return invalid("WithWait needs a time that is not negative")
		}
		o.wait = d
		return nil
	}
}

// WithName gives the monitor a name, which errors and traces have beside its address: "fd:7" says little. At most 200
// bytes of UTF-8; not with DialDomain.
func WithName(name string) DialOption {
	return func(o *dialing) error {
		if err := isText("the name", name); err != nil {
			return err
		}
		o.name = name
		return nil
	}
}

// WithTrace has each line that goes over the wire handed to a function, from QEMU's greeting on, in order. It is called by
// one goroutine of its own, a moment after the line, and must not close the monitor: Close waits for it. While
// it is busy, sixteen times LimitWatchRing lines are kept; the next line counts those that were lost. A monitor that
// reconnects is traced through it.
//
// Error of Dial: ErrUnsupported for a libvirt domain, whose wire is libvirt's; ErrInvalid with DialDomain.
func WithTrace(trace func(TraceLine)) DialOption {
	return func(o *dialing) error {
		if trace == nil {
			return invalid("WithTrace needs a function, not nil")
		}
		o.trace = trace
		return nil
	}
}

// WithSecretsMasked makes a trace have *** instead of passwords, the data of secret objects and the like: blockjob.h
// has the list.
func WithSecretsMasked() DialOption {
	return func(o *dialing) error {
		o.mask = true
		return nil
	}
}

// An ExecuteOption changes how Monitor.Execute works.
type ExecuteOption struct {
	files     []*os.File
	outOfBand bool
}

// WithFiles sends the descriptors of open files with the command ("getfd", "add-fd"), 16 at most, through a UNIX socket.
// They are duplicated before Execute waits: the files stay the program's, to be closed whenever it likes. "getfd" and
// "add-fd" take the first and QEMU closes the others: give them one each. QEMU makes a file that it receives blocking
// (O_NONBLOCK), for all who share it. Errors of Execute: ErrInvalid for a file that is closed or nil, for too many, or
// together with OutOfBand; ErrUnsupported over TCP.
func WithFiles(files ...*os.File) ExecuteOption {
	return ExecuteOption{files: files}
}

// OutOfBand has the command executed at once, before those that wait, also by a QEMU that hangs in another command. QEMU
// has a few commands for that ("migrate-pause", "migrate-recover", "yank") and refuses the others. Error of Execute:
// ErrUnsupported unless the monitor was dialled with WithOutOfBand, or where QEMU does not offer it.
func OutOfBand() ExecuteOption {
	return ExecuteOption{outOfBand: true}
}

// MirrorOptions are the arguments of blockdev-mirror, named as in QMP.
//
// For a libvirt domain use Target (a path, or a whole <disk> in XML), Sync ("full" or "top"), Granularity, BufSize
// and CopyMode; libvirt's other arguments go into Extra: "format", "reuse", "transient", "target-type",
// "bandwidth".
type MirrorOptions struct {
	Target         string         `json:"-"`                // a node; needed
	Sync           string         `json:"-"`                // "full" (if empty), "top" or "none"
	JobID          string         `json:"job-id,omitempty"` // a unique one if empty
	Replaces       string         `json:"replaces,omitempty"`
	Speed          int64          `json:"speed,omitempty"` // bytes per second; 0 is no limit
	Granularity    int64          `json:"granularity,omitempty"`
	BufSize        int64          `json:"buf-size,omitempty"`
	OnSourceError  string         `json:"on-source-error,omitempty"`
	OnTargetError  string         `json:"on-target-error,omitempty"`
	FilterNodeName string         `json:"filter-node-name,omitempty"`
	CopyMode       string         `json:"copy-mode,omitempty"`
	ManualFinalize bool           `json:"-"` // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           `json:"-"` // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any `json:"-"` // further arguments; they win over the fields
}

func (o *MirrorOptions) marshal() (string, error) {
	return arguments(o, o.ManualFinalize, o.ManualDismiss, o.Extra)
}

// CommitOptions are the arguments of block-commit, named as in QMP. For a libvirt domain use only Extra:
// "base" and "top" (paths), "active", "shallow", "relative", "delete", "bandwidth".
type CommitOptions struct {
	TopNode        string         `json:"top-node,omitempty"`  // the active layer if empty
	BaseNode       string         `json:"base-node,omitempty"` // the bottom of the chain if empty
	BackingFile    string         `json:"backing-file,omitempty"`
	JobID          string         `json:"job-id,omitempty"` // a unique one if empty
	Speed          int64          `json:"speed,omitempty"`  // bytes per second; 0 is no limit
	OnError        string         `json:"on-error,omitempty"`
	FilterNodeName string         `json:"filter-node-name,omitempty"`
	ManualFinalize bool           `json:"-"` // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           `json:"-"` // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any `json:"-"` // further arguments; they win over the fields
}

func (o *CommitOptions) marshal() (string, error) {
	return arguments(o, o.ManualFinalize, o.ManualDismiss, o.Extra)
}

// StreamOptions are the arguments of block-stream, named as in QMP. For a libvirt domain use only Extra:
// "base" (a path), "relative", "bandwidth".
type StreamOptions struct {
	BaseNode       string         `json:"base-node,omitempty"` // all backing files are pulled up if empty
	Bottom         string         `json:"bottom,omitempty"`
	BackingFile    string         `json:"backing-file,omitempty"`
	JobID          string         `json:"job-id,omitempty"` // a unique one if empty
	Speed          int64          `json:"speed,omitempty"`  // bytes per second; 0 is no limit
	OnError        string         `json:"on-error,omitempty"`
	FilterNodeName string         `json:"filter-node-name,omitempty"`
	ManualFinalize bool           `json:"-"` // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           `json:"-"` // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any `json:"-"` // further arguments; they win over the fields
}

func (o *StreamOptions) marshal() (string, error) {
	return arguments(o, o.ManualFinalize, o.ManualDismiss, o.Extra)
}

// BackupOptions are the arguments of blockdev-backup, named as in QMP. For a libvirt domain use Target (a path), Sync
// ("full"), and in Extra "format", "reuse" and "target-type".
type BackupOptions struct {
	Target         string         `json:"-"` // a node; needed
	Sync           string         `json:"-"` // "full" (if empty), "top", "none", "incremental" or "bitmap"
	Bitmap         string         `json:"bitmap,omitempty"`
	BitmapMode     string         `json:"bitmap-mode,omitempty"`
	Compress       bool           `json:"compress,omitempty"`
	JobID          string         `json:"job-id,omitempty"` // a unique one if empty
	Speed          int64          `json:"speed,omitempty"`  // bytes per second; 0 is no limit
	OnSourceError  string         `json:"on-source-error,omitempty"`
	OnTargetError  string         `json:"on-target-error,omitempty"`
	FilterNodeName string         `json:"filter-node-name,omitempty"`
	ManualFinalize bool           `json:"-"` // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           `json:"-"` // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any `json:"-"` // further arguments; they win over the fields
}

func (o *BackupOptions) marshal() (string, error) {
	return arguments(o, o.ManualFinalize, o.ManualDismiss, o.Extra)
}

// ChangeOptions are the arguments of block-job-change, named as in QMP.
type ChangeOptions struct {
	CopyMode string         `json:"copy-mode,omitempty"` // "write-blocking"
	Extra    map[string]any `json:"-"`                   // further arguments; they win over the fields
}

func (o *ChangeOptions) marshal() (string, error) {
	return arguments(o, false, false, o.Extra)
}

// arguments makes the JSON object of the fields that are set, and of what goes beyond them.
func arguments(fields any, manualFinalize, manualDismiss bool, extra map[string]any) (string, error) {
	text, err := marshal(fields)
	if err != nil {
		return "", err
	}
	all := make(map[string]any)
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&all); err != nil {
		return "", invalid(err.Error())
	}

	if manualFinalize {
		all["auto-finalize"] = false
	}
	if manualDismiss {
		all["auto-dismiss"] = false
	}
	for key, value := range extra {
		all[key] = value
	}
	if len(all) == 0 {
		return "", nil
	}
	return marshal(all)
}

// An Action is one action of a transaction, named as in QMP.
type Action struct {
	Type string `json:"type"` // "blockdev-backup", ...
	Data any    `json:"data"` // its arguments; encoding/json makes a JSON object of them
}

// A TransactionOption changes how Monitor.Transaction works.
type TransactionOption struct {
	flag int
}

// Grouped makes QEMU cancel all jobs of a transaction when one fails or is cancelled: the others
// then end as Cancelled.
func Grouped() TransactionOption {
	return TransactionOption{core.TransactionGrouped}
}

// A PivotOption changes how Job.Pivot works: OnlyIfReady, Async or Released.
type PivotOption interface {
	pivot(*verbOptions)
}

// An AbortOption changes how Job.Abort and Group.Abort work: Force, ForceAfter, Async or Released.
type AbortOption interface {
	abort(*verbOptions)
}

// A FinishOption changes how Job.Finish works: Released.
type FinishOption interface {
	finish(*verbOptions)
}

// verbOptions are what the options of a verb that ends a job say.
type verbOptions struct {
	flags           int
	async, released bool
	escalate        bool
	forceAfter      time.Duration
}

// check refuses options that exclude each other.
func (v *verbOptions) check() error {
	if v.async && v.released {
		return invalid("Async returns before Released begins to wait: they exclude each other")
	}
	if v.escalate && v.flags != core.AbortSoft {
		return invalid("ForceAfter is a soft abort that is waited for: it goes with none of Force, Async and Released")
	}
	if v.escalate && v.forceAfter <= 0 {
		return invalid("ForceAfter needs a positive time")
	}
	return nil
}

type onlyIfReady struct{}

func (onlyIfReady) pivot(v *verbOptions) { v.flags |= core.PivotOnlyIfReady }

// OnlyIfReady makes Pivot fail with ErrNotReady, without sending anything, if the job is not ready now.
func OnlyIfReady() PivotOption {
	return onlyIfReady{}
}

type force struct{}

func (force) abort(v *verbOptions) { v.flags |= core.AbortForce }

// Force also aborts a job that is ready or stalled. The outcome is Cancelled: the target is worthless.
func Force() AbortOption {
	return force{}
}

type forceAfter time.Duration

func (d forceAfter) abort(v *verbOptions) { v.escalate, v.forceAfter = true, time.Duration(d) }

// ForceAfter makes a soft abort a forced one if the job is not over after d, which must be positive.
func ForceAfter(d time.Duration) AbortOption {
	return forceAfter(d)
}

// An AsyncOption is a PivotOption and an AbortOption.
type AsyncOption struct{}

func (AsyncOption) pivot(v *verbOptions) { v.async, v.flags = true, v.flags|core.PivotAsync }
func (AsyncOption) abort(v *verbOptions) { v.async, v.flags = true, v.flags|core.AbortAsync }

// Async makes Pivot and Abort return when QEMU has accepted the request. The end follows: see Wait, Done and Watch.
// A pivot that was accepted is under way, and nothing withdraws it.
func Async() AsyncOption {
	return AsyncOption{}
}

// A ReleasedOption is a PivotOption, an AbortOption and a FinishOption.
type ReleasedOption struct{}

func (ReleasedOption) pivot(v *verbOptions)  { v.released, v.flags = true, v.flags|core.PivotReleased }
func (ReleasedOption) abort(v *verbOptions)  { v.released, v.flags = true, v.flags|core.AbortReleased }
func (ReleasedOption) finish(v *verbOptions) { v.released, v.flags = true, v.flags|core.FinishReleased }

// Released makes Pivot, Abort and Finish return when the job is over and QEMU has released its nodes, so that the next
// command on them does not fail with "node is busy"; with the errors of WaitReleased.
func Released() ReleasedOption {
	return ReleasedOption{}
}
