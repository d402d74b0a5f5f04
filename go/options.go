// SPDX-License-Identifier: MIT
// Options: limits of a monitor, arguments of the usual jobs, and how to pivot and abort.

package blockjob

import (
	"fmt"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Limit bounds what a peer, or a slow receiver, can make the library use.
type Limit int

// The limits, and what they are without WithLimit.
const (
	LimitMessageBytes   Limit = core.LimitMessageBytes   // of one message from QEMU; 16 MiB
	LimitMessageTokens  Limit = core.LimitMessageTokens  // of one message; 1,048,576
	LimitMessageNesting Limit = core.LimitMessageNesting // of one message; 256, at most 1,024
	LimitInFlight       Limit = core.LimitInFlight       // commands sent and not answered; 64
	LimitQueued         Limit = core.LimitQueued         // commands not sent yet; 1,024
	LimitJobs           Limit = core.LimitJobs           // runs that are kept track of; 4,096
	LimitWatchRing      Limit = core.LimitWatchRing      // events and updates kept for a receiver; 256
	LimitConnectMS      Limit = core.LimitConnectMS      // connect, greeting and negotiation; 10,000
	LimitCommandMS      Limit = core.LimitCommandMS      // a command, where the context has no deadline; 60,000
	LimitStallMS        Limit = core.LimitStallMS        // how long a job may stand still before a pivot is told ErrStalled; 1,000
)

// limits are what Dial was given; 0 stands for the library's own.
type limits [core.LimitCount]uint64

// A DialOption changes what Dial makes.
type DialOption func(*limits) error

// WithLimit sets a limit of this monitor. Monitors of equal limits share the thread and the goroutine
// of the library. Error of Dial: ErrInvalid for an unknown limit, or for a value that makes no sense.
func WithLimit(limit Limit, value uint64) DialOption {
	return func(l *limits) error {
		if limit < 0 || int(limit) >= len(l) || value == 0 {
			return invalid(fmt.Sprintf("there is no limit %d of %d", limit, value))
		}
		l[limit] = value
		return nil
	}
}

// MirrorOptions are the arguments of blockdev-mirror, in QEMU's words.
type MirrorOptions struct {
	Target         string // a node; needed
	Sync           string // "full" (if empty), "top" or "none"
	JobID          string // a unique one if empty
	Replaces       string
	Speed          int64 // bytes a second; 0 is no limit
	Granularity    int64
	BufSize        int64
	OnSourceError  string
	OnTargetError  string
	FilterNodeName string
	CopyMode       string
	ManualFinalize bool           // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any // further arguments; they win over the fields
}

func (o *MirrorOptions) marshal() (string, error) {
	a := arguments{}
	a.common(o.JobID, o.Speed, o.FilterNodeName, o.ManualFinalize, o.ManualDismiss)
	a.text("replaces", o.Replaces)
	a.number("granularity", o.Granularity)
	a.number("buf-size", o.BufSize)
	a.text("on-source-error", o.OnSourceError)
	a.text("on-target-error", o.OnTargetError)
	a.text("copy-mode", o.CopyMode)
	return a.marshal(o.Extra)
}

// CommitOptions are the arguments of block-commit, in QEMU's words.
type CommitOptions struct {
	TopNode        string // the active layer if empty
	BaseNode       string // the bottom of the chain if empty
	BackingFile    string
	JobID          string // a unique one if empty
	Speed          int64  // bytes a second; 0 is no limit
	OnError        string
	FilterNodeName string
	ManualFinalize bool           // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any // further arguments; they win over the fields
}

func (o *CommitOptions) marshal() (string, error) {
	a := arguments{}
	a.common(o.JobID, o.Speed, o.FilterNodeName, o.ManualFinalize, o.ManualDismiss)
	a.text("top-node", o.TopNode)
	a.text("base-node", o.BaseNode)
	a.text("backing-file", o.BackingFile)
	a.text("on-error", o.OnError)
	return a.marshal(o.Extra)
}

// StreamOptions are the arguments of block-stream, in QEMU's words.
type StreamOptions struct {
	BaseNode       string // all backing files are pulled up if empty
	Bottom         string
	BackingFile    string
	JobID          string // a unique one if empty
	Speed          int64  // bytes a second; 0 is no limit
	OnError        string
	FilterNodeName string
	ManualFinalize bool           // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any // further arguments; they win over the fields
}

func (o *StreamOptions) marshal() (string, error) {
	a := arguments{}
	a.common(o.JobID, o.Speed, o.FilterNodeName, o.ManualFinalize, o.ManualDismiss)
	a.text("base-node", o.BaseNode)
	a.text("bottom", o.Bottom)
	a.text("backing-file", o.BackingFile)
	a.text("on-error", o.OnError)
	return a.marshal(o.Extra)
}

// BackupOptions are the arguments of blockdev-backup, in QEMU's words.
type BackupOptions struct {
	Target         string // a node; needed
	Sync           string // "full" (if empty), "top", "none", "incremental" or "bitmap"
	Bitmap         string
	BitmapMode     string
	Compress       bool
	JobID          string // a unique one if empty
	Speed          int64  // bytes a second; 0 is no limit
	OnSourceError  string
	OnTargetError  string
	FilterNodeName string
	ManualFinalize bool           // "auto-finalize": false: the job waits, pending, for Finalize
	ManualDismiss  bool           // "auto-dismiss": false: the job stays, concluded, until Dismiss
	Extra          map[string]any // further arguments; they win over the fields
}

func (o *BackupOptions) marshal() (string, error) {
	a := arguments{}
	a.common(o.JobID, o.Speed, o.FilterNodeName, o.ManualFinalize, o.ManualDismiss)
	a.text("bitmap", o.Bitmap)
	a.text("bitmap-mode", o.BitmapMode)
	a.flag("compress", o.Compress)
	a.text("on-source-error", o.OnSourceError)
	a.text("on-target-error", o.OnTargetError)
	return a.marshal(o.Extra)
}

// arguments leaves out what was not set.
type arguments map[string]any

func (a arguments) text(key, value string) {
	if value != "" {
		a[key] = value
	}
}

func (a arguments) number(key string, value int64) {
	if value != 0 {
		a[key] = value
	}
}

func (a arguments) flag(key string, value bool) {
	if value {
		a[key] = value
	}
}

func (a arguments) common(id string, speed int64, filter string, finalize, dismiss bool) {
	a.text("job-id", id)
	a.number("speed", speed)
	a.text("filter-node-name", filter)
	if finalize {
		a["auto-finalize"] = false
	}
	if dismiss {
		a["auto-dismiss"] = false
	}
}

func (a arguments) marshal(extra map[string]any) (string, error) {
	for key, value := range extra {
		a[key] = value
	}
	if len(a) == 0 {
		return "", nil
	}
	return marshal(map[string]any(a))
}

// A PivotOption changes how Job.Pivot works.
type PivotOption struct {
	flag int
}

// OnlyIfReady has Pivot fail with ErrNotReady, and send nothing, on a job that is not ready now.
func OnlyIfReady() PivotOption {
	return PivotOption{core.PivotOnlyIfReady}
}

// An AbortOption changes how Job.Abort works.
type AbortOption struct {
	flag       int
	escalate   bool
	forceAfter time.Duration
}

// Force aborts also what is ready or stalled. The outcome is Cancelled: the target is worthless.
func Force() AbortOption {
	return AbortOption{flag: core.AbortForce}
}

// Async has Abort return when QEMU has accepted. The end follows: Wait, Done, Watch.
func Async() AbortOption {
	return AbortOption{flag: core.AbortAsync}
}

// ForceAfter makes a soft abort a forced one when the job is not over after d (B36).
func ForceAfter(d time.Duration) AbortOption {
	return AbortOption{escalate: true, forceAfter: d}
}
