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
	LimitConvergeMS     Limit = core.LimitConvergeMS     // how long what is left to copy may fail to shrink before a Watch with an interval reports UpdateStalled; 10,000
)

// limits are what Dial was given; 0 stands for the library's own.
type limits [core.LimitCount]uint64

// dialing is what the options of Dial say.
type dialing struct {
	limits    limits
	reconnect time.Duration
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

// A PivotOption changes how Job.Pivot works.
type PivotOption struct {
	flag int
}

// OnlyIfReady makes Pivot fail with ErrNotReady, without sending anything, if the job is not ready now.
func OnlyIfReady() PivotOption {
	return PivotOption{core.PivotOnlyIfReady}
}

// An AbortOption changes how Job.Abort works.
type AbortOption struct {
	flag       int
	escalate   bool
	forceAfter time.Duration
}

// Force also aborts a job that is ready or stalled. The outcome is Cancelled: the target is worthless.
func Force() AbortOption {
	return AbortOption{flag: core.AbortForce}
}

// Async makes Abort return when QEMU has accepted the request. The end follows: see Wait, Done and Watch.
func Async() AbortOption {
	return AbortOption{flag: core.AbortAsync}
}

// ForceAfter makes a soft abort a forced one if the job is not over after d, which must be positive.
func ForceAfter(d time.Duration) AbortOption {
	return AbortOption{escalate: true, forceAfter: d}
}
