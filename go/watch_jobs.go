// SPDX-License-Identifier: MIT
// All jobs of a monitor on one channel.

package blockjob

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// WatchJobsOptions say how to watch all jobs; the zero value will do.
type WatchJobsOptions struct {
	Progress   time.Duration // how often progress is asked for, of all jobs together; 0: never
	Remembered []string      // memos of jobs (Job.Memo) that an earlier life of the program has kept
	Memos      bool          // each job's memo comes as well, when the job appears and when it changes: JobMemo
}

// A JobChangeKind is what a [JobChange] reports.
type JobChangeKind int

// The kinds of changes.
const (
	JobAppeared      JobChangeKind = core.RecordAppeared     // the first of each run: Type, Started
	JobReady         JobChangeKind = core.RecordReady        // ready, once
	JobStalled       JobChangeKind = core.RecordStalled      // paused, stopped by an error, or without progress for LimitConvergeMS; Reason names the cause and the remedy
	JobResumed       JobChangeKind = core.RecordResumed      // no longer stalled
	JobProgress      JobChangeKind = core.RecordProgress     // Progress has changed
	JobEnded         JobChangeKind = core.RecordEnded        // over: Outcome, Err
	JobReleased      JobChangeKind = core.RecordReleased     // the last of each run: QEMU has let go of it, and its id may be used again; or the connection is over for good
	JobsDisconnected JobChangeKind = core.RecordDisconnected // of a monitor that reconnects: the connection has ended, for the reason in Err; it is being made again
	JobsReconnected  JobChangeKind = core.RecordReconnected  // the connection is back, and what became of the jobs has been reported
	JobMemo          JobChangeKind = core.RecordMemo         // Memo has changed; only with WatchJobsOptions.Memos
)

// A JobChange is one thing that happened to one job of a monitor, or to its connection.
type JobChange struct {
	Kind     JobChangeKind
	Job      *Job    // whose it is, to act upon; nil for JobsDisconnected and JobsReconnected. One run is the same Job in all changes of a stream, unless some were dropped; Job.Same compares it with what Start has returned
	Type     string  // "mirror", "commit", ...; "" while it is unknown
	Started  bool    // of JobAppeared: this program started it, by this monitor
	Outcome  Outcome // of JobEnded
	Err      error   // of JobEnded: what Wait returns; of JobsDisconnected: why
	Reason   string  // why it stalled, failed or was lost, or the connection has ended; of a Completed job: that it is unknown whether the disk was switched, where it is
	Progress         // of JobProgress: Current and Total
	Memo     string  // of JobMemo: to be kept, see Job.Memo; of JobAppeared: what was remembered, "" of other jobs
	Resumed  bool    // of JobAppeared: a remembered job that goes on
	Inferred bool    // of JobAppeared with Resumed, of JobEnded: no event proves it, but all that is known speaks for it

	Time        time.Time // QEMU's; the zero time if it gave none
	Sequence    uint64    // 1 for the first change of the stream, and one more for each, those that were dropped included
	Dropped     uint64    // changes lost just before this one, because the receiver was slow
	DroppedEnds uint64    // how many JobEnded are among them
}

// WatchJobs returns a stream of what happens to all jobs of this QEMU, whoever starts them: those that it has already,
// then those to come. Each run of a job has JobAppeared, first; JobReady, JobStalled and JobResumed; JobEnded with its
// outcome, however short it was; and JobReleased, last.
//
//	changes, err := monitor.WatchJobs(ctx, blockjob.WatchJobsOptions{})
//	if err != nil {
//		return err
//	}
//	for change := range changes {
//		fmt.Println(change.Job.ID(), change.Kind, change.Outcome)
//	}
//
// The Job of a change can be acted upon and asked for its Timeline; a job that this program did not start is not dismissed
// by the library. With options.Progress QEMU is asked for the progress of all jobs together, that often and while the
// stream is open; JobProgress is sent of the jobs where it has changed.
//
// Changes wait for a slow receiver: JobReady and JobEnded of up to LimitJobs runs (two changes per run) and
// LimitMessageBytes of text; of the other kinds up to LimitWatchRing. Beyond that the oldest of them are dropped,
// and the next change counts them, in Dropped, and the ends among them in DroppedEnds. Jobs that appear while QEMU has more
// than LimitJobs are not followed, and are counted, too.
//
// Where the monitor reconnects, the stream has JobsDisconnected, what became of each job, those that began meanwhile,
// and JobsReconnected. The channel is closed when the connection is over for good (see Monitor.Err), after a JobEnded,
// with Lost, for each job that went on; or when ctx is done, or the monitor is closed. Until then the
// stream keeps the monitor open, as that of [Monitor.Events] does.
//
// A program that was away gives the memos that it has kept of its jobs in options.Remembered, and what became of each comes
// first: JobAppeared with the Memo, and then what is true of the run now. It goes on (Resumed), as if the program had not
// been away; or JobEnded says how it ended, Lost where nothing proves it: because QEMU has ended, the id is another run's
// by now, or the job left no trace.
//
// QEMU reports a new job from 3.0 on. An older one, and libvirt, are asked for their list every LimitPollMS while
// such a stream is open: a job that begins and ends in between appears with its end, if that is reported.
//
// Errors: ErrInvalid for a negative time and for what is not a memo, ErrClosed.
func (m *Monitor) WatchJobs(ctx context.Context, options WatchJobsOptions) (<-chan JobChange, error) {
	if err := checkMemos(options.Remembered); err != nil {
		return nil, err
	}
	if options.Progress < 0 {
		return nil, invalid("the time between two looks at progress must not be negative")
	}
	s := newStream(0, func(int) bool { return true })
	s.ofJobs = true
	jobs := seenJobs{monitor: m, of: make(map[core.Job]*Job)}

	return open(ctx, m, s, func(handle core.Monitor, watch *core.Watch) int {
		return core.WatchJobs(handle, milliseconds(options.Progress), options.Remembered, options.Memos, watch)
	}, jobs.change)
}

func checkMemos(memos []string) error {
	for i, memo := range memos {
		why := core.CheckMemo(memo)
		if strings.IndexByte(memo, 0) >= 0 {
			why = "it has a zero byte in it"
		}
		if why != "" {
			return invalid(fmt.Sprintf("Remembered[%d]: %s", i, why))
		}
	}
	return nil
}

// seenJobs are the jobs of a stream's changes, from the first change that the receiver got to the last. They belong
// to the stream's goroutine.
type seenJobs struct {
	monitor *Monitor
	of      map[core.Job]*Job
}

func (s *seenJobs) change(n *notice) JobChange {
	c := JobChange{
		Kind:        JobChangeKind(n.kind),
		Job:         s.job(n),
		Started:     n.started,
		Resumed:     n.resumed,
		Inferred:    n.inferred,
		Outcome:     n.outcome,
		Reason:      n.text,
		Progress:    Progress{n.current, n.total},
		Time:        n.time,
		Sequence:    n.number,
		Dropped:     n.dropped,
		DroppedEnds: n.droppedEnds,
	}
	if c.Kind == JobAppeared || c.Kind == JobMemo {
		c.Memo, c.Reason = c.Reason, ""
	}
	if c.Job != nil {
		c.Type = c.Job.Type()
	}
	if n.code != core.OK {
		c.Err = n.err()
	}
	return c
}

// job takes over the notice's reference.
func (s *seenJobs) job(n *notice) *Job {
	if n.job == nil {
		return nil
	}
	job := s.of[n.job]
	if job == nil {
		job = newJob(s.monitor, n.job)
	} else {
		core.JobUnref(n.job)
	}
	if n.kind == core.RecordReleased {
		delete(s.of, n.job)
	} else {
		s.of[n.job] = job
		s.sweep()
	}
	return job
}

// sweep forgets jobs whose last change may have been dropped.
func (s *seenJobs) sweep() {
	if uint64(len(s.of)) <= s.monitor.hub.jobs {
		return
	}
	for handle, job := range s.of {
		if job.Outcome() != NoOutcome {
			delete(s.of, handle)
		}
	}
}
