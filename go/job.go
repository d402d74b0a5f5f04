// SPDX-License-Identifier: MIT
// Jobs: what can be awaited of one, and what can be asked of it.

package blockjob

import (
	"context"
	"runtime"
	"sync"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Job is one run of one block job; an id used again is another Job. Its methods may be called from
// any goroutine, also after the monitor is closed. A Job needs no closing: dropping it does nothing to what runs
// in QEMU. It keeps its Monitor from being collected.
type Job struct {
	monitor *Monitor
	handle  core.Job
	id      string

	once     sync.Once // of channels
	channels *channels
}

// channels are Ready and Done, closed by the reader of the queue. While they are open they keep the
// monitor, which is all that the receiver of a channel may have left.
type channels struct {
	monitor *Monitor
	ready   chan struct{}
	done    chan struct{}
}

// JobInfo is one row of QEMU's job list. Fields that this QEMU does not report are "", -1 or false; libvirt
// reports ID, Type, Current, Total, Speed and Ready.
type JobInfo struct {
	ID           string
	Type         string // "mirror", "commit", "stream", "backup", "create", ...; of a libvirt domain also "migration"
	Status       string // "running", "ready", "paused", ...; "" before QEMU 2.12
	Error        string // of a job that has concluded
	IOStatus     string // "ok", "failed", "nospace"
	Current      int64  // bytes, or another unit for jobs that copy none
	Total        int64  // grows while a guest writes; never equals Current before the job is ready, except with libvirt
	Speed        int64  // limit in bytes per second, 0 is none
	Ready        bool
	Paused       bool
	AutoDismiss  bool
	AutoFinalize bool
}

// Progress is how far a job is, in bytes, or in another unit for jobs that copy none. Total grows
// while a guest writes; it never equals Current before the job is ready.
type Progress struct {
	Current, Total int64
}

// A Timeline is when things happened; the zero time if they have not. The Event times are the timestamps of QEMU's
// events; the others were taken by this process, on the same clock.
type Timeline struct {
	StartSent        time.Time
	ReadyEvent       time.Time
	ReadySeen        time.Time
	CompleteSent     time.Time
	CompleteAccepted time.Time
	EndEvent         time.Time
	EndSeen          time.Time
}

func newJob(m *Monitor, handle core.Job) *Job {
	j := &Job{monitor: m, handle: handle, id: core.String(core.JobId(handle))}

	// A handle is a little memory, which nobody should have to give back by hand.
	runtime.SetFinalizer(j, func(j *Job) { core.JobUnref(j.handle) })
	return j
}

// ID returns the job's id.
func (j *Job) ID() string {
	if j == nil {
		return ""
	}
	return j.id
}

// use returns the C library's handle, NULL for a job that was not made by a Monitor. It is valid until
// runtime.KeepAlive.
func (j *Job) use() core.Job {
	if j == nil {
		return nil
	}
	return j.handle
}

// Same reports whether both are the same run of a job. One run can be more than one *Job: what Start or Attach has returned,
// and the Job of a [JobChange].
func (j *Job) Same(other *Job) bool {
	defer runtime.KeepAlive(j)
	defer runtime.KeepAlive(other)

	return j.use() != nil && j.use() == other.use()
}

// Type returns "mirror", "commit", ...; "" while it is unknown. A "migration" is a copy that libvirt makes to
// migrate the domain: it can only be awaited.
func (j *Job) Type() string {
	defer runtime.KeepAlive(j)
	return core.String(core.JobType(j.use()))
}

// Memo returns what a program keeps of the job to find it again in its next life, by WatchJobsOptions.Remembered: a line
// of at most 8,191 printable ASCII characters. It changes while the job goes on: keep the latest (JobMemo), from the start
// on until QEMU has let go of the job: JobReleased, and the memo is "". A job whose connection has ended, or was closed,
// keeps its memo.
func (j *Job) Memo() string {
	defer runtime.KeepAlive(j)
	return core.JobMemo(j.use())
}

// Disks returns the disks of a libvirt domain that the job works on, by their targets: one, or those of a
// backup, which is one job. Of a job in QEMU there are none.
func (j *Job) Disks() []string {
	defer runtime.KeepAlive(j)
	var disks []string
	for {
		disk := core.JobDisk(j.use(), int64(len(disks)))
		if disk == nil {
			return disks
		}
		disks = append(disks, core.String(disk))
	}
}

// IsReady reports whether the job has been ready; once true it stays true. It does not ask QEMU.
func (j *Job) IsReady() bool {
	defer runtime.KeepAlive(j)
	return core.JobIsReady(j.use())
}

// Outcome returns how the job ended, NoOutcome if it has not ended. It does not ask QEMU.
func (j *Job) Outcome() Outcome {
	defer runtime.KeepAlive(j)
	return Outcome(core.JobOutcome(j.use()))
}

// Err returns an ErrJobFailed with QEMU's text for a job that Failed, an ErrJobLost with the reason for
// one that is Lost, otherwise nil. It does not ask QEMU.
func (j *Job) Err() error {
	defer runtime.KeepAlive(j)

	outcome := j.Outcome()
	code := ErrJobFailed
	switch outcome {
	case Failed:
	case Lost:
		code = ErrJobLost
	default:
		return nil
	}
	text := core.String(core.JobText(j.handle))
	return &Error{Code: code, Outcome: outcome, Text: text, lostBy: Code(core.JobCause(j.handle))}
}

// Timeline returns when things happened.
func (j *Job) Timeline() Timeline {
	defer runtime.KeepAlive(j)

	t := core.TimelineOf(j.use())
	return Timeline{
		StartSent:        fromMicroseconds(t.StartSent),
		ReadyEvent:       fromMicroseconds(t.ReadyEvent),
		ReadySeen:        fromMicroseconds(t.ReadySeen),
		CompleteSent:     fromMicroseconds(t.CompleteSent),
		CompleteAccepted: fromMicroseconds(t.CompleteAccepted),
		EndEvent:         fromMicroseconds(t.EndEvent),
		EndSeen:          fromMicroseconds(t.EndSeen),
	}
}

// Ready returns a channel that is closed once the job is ready: source and target are equal and stay
// so. A job that ends without ever being ready leaves it open: select on Done too. Neither is closed
// while an I/O error has stopped the job; WaitReady and Watch report that. Until the job is over, the monitor is
// not collected.
func (j *Job) Ready() <-chan struct{} {
	return j.follow().ready
}

// Done returns a channel that is closed once the job is over, or its monitor is closed. Outcome is how the job
// ended; NoOutcome if it goes on without this program. While the channel is open, the monitor is not collected.
func (j *Job) Done() <-chan struct{} {
	return j.follow().done
}

// follow makes the channels, and the watch that closes them, the first time one is asked for.
func (j *Job) follow() *channels {
	if j.use() == nil {
		return &channels{done: closedChannel}
	}
	j.once.Do(func() {
		j.channels = &channels{monitor: j.monitor, ready: make(chan struct{}), done: make(chan struct{})}

		if !j.listen() {
			j.listenLater()
		}
	})
	return j.channels
}

// listen has the reader of the queue close the channels; false if there is no memory for that now.
func (j *Job) listen() bool {
	defer runtime.KeepAlive(j)

	var watch core.Watch
	if core.JobWatch(j.handle, 0, &watch) == core.ENomem {
		return false
	}
	defer core.WatchUnref(watch)

	_, ok := j.monitor.hub.deliver(j.channels, func(queue core.Queue, token uint64) int {
		return core.WatchDeliver(watch, queue, token)
	})
	if !ok {
		j.channels.leave(j.IsReady())
	}
	return true
}

// listenLater tries again: a job that goes on is not done because memory is short.
func (j *Job) listenLater() {
	err := j.monitor.use(func(core.Monitor) error {
		j.monitor.streams.Add(1)
		return nil
	})
	if err != nil {
		j.channels.leave(j.IsReady())
		return
	}
	go func() {
		defer j.monitor.streams.Done()

		again := time.NewTicker(memoryPause)
		defer again.Stop()
		for {
			select {
			case <-again.C:
				if j.listen() {
					return
				}
			case <-j.monitor.closing:
				j.channels.leave(j.IsReady())
				return
			}
		}
	}()
}

// memoryPause is how long to wait for memory.
const memoryPause = 100 * time.Millisecond

// leave closes the channels as of a closed monitor: nothing will happen any more.
func (c *channels) leave(ready bool) {
	if ready {
		close(c.ready)
	}
	close(c.done)
}

func (c *channels) receive(record core.Record) bool {
	switch record.Kind() {
	case core.RecordReady:
		close(c.ready)
	case core.RecordEnded, core.RecordClosed:
		// Closed alone if the monitor was closed; else Ended, and nothing that matters after it.
		close(c.done)
		return false
	}
	return true
}

// WaitReady waits until the job is ready; at once if it is. A ctx that ends stops the wait, not the
// job.
//
// Errors: ErrJobEnded when it ended without ever being ready (so does an intermediate
// commit, which only its end distinguishes from an active one), ErrJobFailed, ErrJobLost; ErrState for a kind
// that never is ready (stream, backup, ...); ErrStalled when an I/O error has stopped it.
func (j *Job) WaitReady(ctx context.Context) error {
	_, err := j.ask(ctx, "waiting for READY of", core.JobReady)
	return err
}

// Wait waits until the job is over and returns how it ended; at once if it is over. A ctx that
// ends stops the wait, not the job.
//
// Errors: ErrJobFailed with QEMU's text, ErrJobLost with the reason; ErrStalled when an I/O error has
// stopped the job: nothing will happen until someone resumes or aborts it.
func (j *Job) Wait(ctx context.Context) (Outcome, error) {
	return j.ask(ctx, "waiting for", func(job core.Job, timeout int64) core.Future {
		return core.JobDone(job, core.DoneOver, timeout)
	})
}

// WaitReleased waits like Wait, and until QEMU has released the job's nodes, so that the next command
// on them does not fail with "node is busy". A job that this package does not dismiss may keep them until
// somebody else does: that is ErrStalled, if it lasts.
func (j *Job) WaitReleased(ctx context.Context) (Outcome, error) {
	return j.ask(ctx, "waiting for the nodes of", func(job core.Job, timeout int64) core.Future {
		return core.JobDone(job, core.DoneReleased, timeout)
	})
}

// Pivot switches the disk to the copy (mirror) or to the base (active commit), and returns when that
// is over. The error is nil if the outcome is Pivoted, and only then. Pivot waits for a job that is
// not ready; with the option OnlyIfReady it fails instead. The command is sent once, however many callers there
// are; if the contexts of all of them end before the job is ready, it is not sent.
//
// With Async it returns as soon as QEMU has accepted the command, with NoOutcome if the job still goes on, and the deadline
// of ctx is one for that: from then on the switch is under way, whoever still waits. With Released it returns when QEMU has
// released the job's nodes as well.
//
// Errors: ErrNotReady; ErrStalled (paused, or stopped by an I/O error); ErrState (a kind that has no
// pivot, or an abort is under way); ErrRefused; ErrJobEnded (it was cancelled, by anyone); ErrJobFailed,
// ErrJobLost; ErrInvalid (options that exclude each other).
func (j *Job) Pivot(ctx context.Context, options ...PivotOption) (Outcome, error) {
	var v verbOptions
	for _, o := range options {
		if o == nil {
			return NoOutcome, invalid("a PivotOption is nil")
		}
		o.pivot(&v)
	}
	if err := v.check(); err != nil {
		return NoOutcome, err
	}
	return j.verb(ctx, "pivoting", func(job core.Job, timeout int64) core.Future {
		return core.JobPivot(job, core.PivotWaitReady|v.flags, timeout)
	})
}

// Finish has the job end as it is meant to, whatever its kind, and returns when that is over: a mirror or a commit of the
// active layer is pivoted when it is ready; of any other job, an intermediate commit for example, the end is waited for.
// So the program need not know which it is. The error is nil if the outcome is Pivoted, or Completed of a job that switches
// no disk, and only then.
//
// The pivot is that of [Job.Pivot], shared with its callers, and so are the errors. Two things differ: a kind that has no
// pivot is no error, and a Completed of which it is unknown whether it has switched the disk is an ErrJobEnded that says so.
// A job of any kind that is paused, or pending, is ErrStalled.
func (j *Job) Finish(ctx context.Context, options ...FinishOption) (Outcome, error) {
	var v verbOptions
	for _, o := range options {
		if o == nil {
			return NoOutcome, invalid("a FinishOption is nil")
		}
		o.finish(&v)
	}
	return j.verb(ctx, "finishing", func(job core.Job, timeout int64) core.Future {
		return core.JobFinish(job, core.FinishOver|v.flags, timeout)
	})
}

// Abort aborts the job and returns when it is over. The outcome is how it really ended: it may have
// completed, pivoted or failed first, none of which is an error here. Aborting a job that is over returns its
// outcome.
//
// It is soft without options: a ready mirror ends as Copied, anything else as Cancelled. QEMU
// accepts within milliseconds, but the end can take as long as a flush that hangs: give ctx a deadline, or use ForceAfter,
// or Async. With Released it returns when QEMU has released the job's nodes as well, with the errors of WaitReleased.
//
// Errors: ErrStalled (a soft abort of a paused or stopped job, which QEMU refuses), ErrRefused, ErrState
// (soft and Async while a pivot is under way), ErrJobLost, ErrInvalid (options that exclude each other).
func (j *Job) Abort(ctx context.Context, options ...AbortOption) (Outcome, error) {
	v, err := abortOptions(options)
	if err != nil {
		return NoOutcome, err
	}
	return j.verb(ctx, "aborting", func(job core.Job, timeout int64) core.Future {
		if v.escalate {
			return core.JobAbortEscalate(job, milliseconds(v.forceAfter), timeout)
		}
		return core.JobAbort(job, v.flags, timeout)
	})
}

func abortOptions(options []AbortOption) (v verbOptions, err error) {
	for _, o := range options {
		if o == nil {
			return v, invalid("an AbortOption is nil")
		}
		o.abort(&v)
	}
	return v, v.check()
}

// Pause pauses the job, and returns when QEMU has accepted. ErrState if the job is over.
func (j *Job) Pause(ctx context.Context) error {
	return j.command(ctx, "pausing", core.JobPause)
}

// Resume continues a job that was paused, or that an I/O error has stopped.
func (j *Job) Resume(ctx context.Context) error {
	return j.command(ctx, "resuming", core.JobResume)
}

// SetSpeed limits the job to this many bytes per second; 0 is no limit.
func (j *Job) SetSpeed(ctx context.Context, bytesPerSecond int64) error {
	return j.command(ctx, "setting the speed of", func(job core.Job, timeout int64) core.Future {
		return core.JobSetSpeed(job, bytesPerSecond, timeout)
	})
}

// Finalize finalizes a job of "auto-finalize": false that is pending, and returns when it is over, with
// the errors of Wait.
func (j *Job) Finalize(ctx context.Context) (Outcome, error) {
	return j.verb(ctx, "finalizing", core.JobFinalize)
}

// Dismiss dismisses a concluded job of "auto-dismiss": false that the library does not dismiss itself.
// Dismissing what is gone is no error.
func (j *Job) Dismiss(ctx context.Context) error {
	return j.command(ctx, "dismissing", core.JobDismiss)
}

// Change changes how the job works (block-job-change, QEMU 8.2): a CopyMode of "write-blocking" makes a
// mirror converge that otherwise would not. ErrUnsupported before 8.2.
func (j *Job) Change(ctx context.Context, options ChangeOptions) error {
	text, err := options.marshal()
	if err != nil {
		return err
	}
	return j.command(ctx, "changing", func(job core.Job, timeout int64) core.Future {
		return core.JobChange(job, text, timeout)
	})
}

// Query asks QEMU how far the job is. ErrNoJob once it is gone.
func (j *Job) Query(ctx context.Context) (JobInfo, error) {
	f, err := j.send(ctx, "querying", core.TimeoutDefault, core.JobQuery)
	if err != nil {
		return JobInfo{}, err
	}
	defer f.free()

	if _, err := f.wait(ctx); err != nil {
		return JobInfo{}, err
	}
	return infos(f.handle)[0], nil
}

// A request asks the library for something of a job, which a future answers.
type request func(job core.Job, timeout int64) core.Future

func (j *Job) await(ctx context.Context, what string, without int64, ask request) (*future, error) {
	if j.use() == nil {
		return nil, errNoJob()
	}
	what += " job " + j.id
	if ctx == nil {
		return nil, noContext(what)
	}
	return j.monitor.hub.await(ask(j.handle, timeout(ctx, without)), what, j), nil
}

// send is for what makes a command. A context that has ended sends nothing.
func (j *Job) send(ctx context.Context, what string, without int64, ask request) (*future, error) {
	if err := begin(ctx, what+" job "+j.ID()); err != nil {
		return nil, err
	}
	return j.await(ctx, what, without, ask)
}

// ask is for waits. They are level-triggered: also a context that has ended learns what is already so.
func (j *Job) ask(ctx context.Context, what string, ask request) (Outcome, error) {
	f, err := j.await(ctx, what, core.TimeoutNone, ask)
	if err != nil {
		return NoOutcome, err
	}
	defer f.free()

	a, err := f.wait(ctx)
	return a.outcome, err
}

// verb is for verbs that end the job.
func (j *Job) verb(ctx context.Context, what string, ask request) (Outcome, error) {
	f, err := j.send(ctx, what, core.TimeoutNone, ask)
	if err != nil {
		return j.Outcome(), err
	}
	defer f.free()

	a, err := f.wait(ctx)
	return a.outcome, err
}

// command is for verbs that QEMU only has to accept.
func (j *Job) command(ctx context.Context, what string, verb request) error {
	f, err := j.send(ctx, what, core.TimeoutDefault, verb)
	if err != nil {
		return err
	}
	defer f.free()

	_, err = f.wait(ctx)
	return err
}

// An UpdateKind is what an [Update] reports.
type UpdateKind int

// The kinds of updates.
const (
	UpdateStatus   UpdateKind = core.RecordStatus   // QEMU's own status, in Status
	UpdateReady    UpdateKind = core.RecordReady    // ready, once
	UpdateStalled  UpdateKind = core.RecordStalled  // paused, stopped by an error, or without progress for LimitConvergeMS; Text names the cause and the remedy
	UpdateResumed  UpdateKind = core.RecordResumed  // no longer stalled
	UpdateProgress UpdateKind = core.RecordProgress // Progress
	UpdateEnded    UpdateKind = core.RecordEnded    // the last: Outcome, Err
)

// An Update is one thing that happened to a job.
type Update struct {
	Kind     UpdateKind
	Status   string    // "running", "paused", ...
	Progress Progress  // of UpdateProgress
	Outcome  Outcome   // of UpdateEnded
	Err      error     // of UpdateEnded: what Wait returns
	Text     string    // why it stalled, failed or was lost; of a Completed job: that it is unknown whether the disk was switched, where it is
	Time     time.Time // QEMU's; the zero time if it gave none
	Dropped  uint64    // updates lost just before this one, because the receiver was slow
}

// Watch returns a stream of everything that happens to the job, beginning with what is already true (ready,
// stalled, ended). The channel is closed after UpdateEnded; or when ctx is done, or the monitor is closed. Until then the
// stream keeps the monitor open, as that of [Monitor.Events] does.
//
// Updates wait for a slow receiver within the same limits. UpdateReady, the latest UpdateStalled and UpdateEnded
// are never dropped.
//
// With an interval there is an UpdateProgress when progress was made, at most once per interval. QEMU sends no event
// for progress: it is asked while such a stream is open. With 0 it is not asked.
func (j *Job) Watch(ctx context.Context, interval time.Duration) (<-chan Update, error) {
	all := func(int) bool { return true }

	return watch(ctx, j, interval, newStream(0, all), func(n *notice) Update {
		u := Update{
			Kind:     UpdateKind(n.kind),
			Status:   n.name,
			Progress: Progress{n.current, n.total},
			Outcome:  n.outcome,
			Text:     n.text,
			Time:     n.time,
			Dropped:  n.dropped,
		}
		if n.code != core.OK {
			u.Err = n.err()
		}
		return u
	})
}

// Progress returns a stream of how far the job is, when that changed and at most once per interval, which is a
// millisecond at least. A slow receiver gets only the latest. The channel is closed when the job is
// over; or when ctx is done, or the monitor is closed.
//
//	for p := range job.Progress(ctx, time.Second) {
//		fmt.Printf("%d of %d bytes\n", p.Current, p.Total)
//	}
func (j *Job) Progress(ctx context.Context, interval time.Duration) <-chan Progress {
	if interval < time.Millisecond {
		interval = time.Millisecond
	}
	progress := func(kind int) bool { return kind == core.RecordProgress }

	out, err := watch(ctx, j, interval, newStream(1, progress), func(n *notice) Progress {
		return Progress{n.current, n.total}
	})
	if err != nil {
		nothing := make(chan Progress)
		close(nothing)
		return nothing
	}
	return out
}

func watch[T any](ctx context.Context, j *Job, interval time.Duration, s *stream,
	convert func(*notice) T) (<-chan T, error) {
	defer runtime.KeepAlive(j)

	if j.use() == nil {
		return nil, errNoJob()
	}
	if interval < 0 {
		return nil, invalid("the interval must not be negative")
	}
	return open(ctx, j.monitor, s, func(_ core.Monitor, watch *core.Watch) int {
		return core.JobWatch(j.handle, milliseconds(interval), watch)
	}, convert)
}

func infos(handle core.Future) []JobInfo {
	rows := core.Infos(handle)
	infos := make([]JobInfo, len(rows))
	for i, row := range rows {
		infos[i] = JobInfo(row)
	}
	return infos
}
