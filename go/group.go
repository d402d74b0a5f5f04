// SPDX-License-Identifier: MIT
// Groups: several jobs that are awaited, pivoted or given up together.

package blockjob

import (
	"context"
	"errors"
	"runtime"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Group is several jobs, of one monitor or of many, that are awaited, pivoted or aborted
// together. Where a wait fails, [Error.Job] is the job that decided it; the others have outcomes of their
// own. A context that ends stops the wait and nothing else.
type Group struct {
	jobs []*Job
}

// NewGroup makes a group. Its waits fail with ErrInvalid if there are no jobs, if one is nil, or if their monitors
// have different limits. A Group needs no closing.
func NewGroup(jobs ...*Job) *Group {
	return &Group{jobs: append([]*Job(nil), jobs...)}
}

// Jobs returns the jobs of the group, in the order given.
func (g *Group) Jobs() []*Job {
	if g == nil {
		return nil
	}
	return append([]*Job(nil), g.jobs...)
}

// WaitReady waits until all are ready. It fails as soon as one will not be, with the error that
// [Job.WaitReady] has for that one.
func (g *Group) WaitReady(ctx context.Context) error {
	_, err := g.ask(ctx, "waiting for a group to be ready", core.GroupReady)
	return err
}

// Wait waits until all are over. If some failed or were lost, the error is that of the first, as of
// [Job.Wait]. It returns ErrStalled as soon as an I/O error has stopped one.
func (g *Group) Wait(ctx context.Context) error {
	_, err := g.ask(ctx, "waiting for a group", func(group core.Group, timeout int64) core.Future {
		return core.GroupDone(group, core.DoneOver, timeout)
	})
	return err
}

// WaitReleased waits like Wait, and until QEMU has released the nodes of all.
func (g *Group) WaitReleased(ctx context.Context) error {
	_, err := g.ask(ctx, "waiting for the nodes of a group", func(group core.Group, timeout int64) core.Future {
		return core.GroupDone(group, core.DoneReleased, timeout)
	})
	return err
}

// WaitAny waits until any one is over and returns it, with the error of Job.Wait.
func (g *Group) WaitAny(ctx context.Context) (*Job, error) {
	return g.ask(ctx, "waiting for any of a group", func(group core.Group, timeout int64) core.Future {
		return core.GroupAny(group, core.DoneOver, timeout)
	})
}

// Pivot pivots all or none, and returns when all disks are switched: then all jobs are Pivoted.
//
// Nothing is completed before all are ready. When one ends, fails or stalls before that, all others are
// aborted (softly; by force where they are stalled), so that no disk is switched, and that one's error
// is returned once they are over. Once all are ready they are independent: if one fails in its pivot, the
// others stay pivoted, and its error is returned when all are over. ErrState if one is of a kind that
// cannot be pivoted; then nothing is aborted.
func (g *Group) Pivot(ctx context.Context) error {
	if err := begin(ctx, "pivoting a group"); err != nil {
		return err
	}
	_, err := g.ask(ctx, "pivoting a group", core.GroupPivot)
	return err
}

// Abort aborts all and returns when all are over; Async when QEMU has accepted all; Released when it has released all their
// nodes. Each job's
// Outcome is how it really ended. Errors as of Job.Abort; ErrInvalid with ForceAfter.
func (g *Group) Abort(ctx context.Context, options ...AbortOption) error {
	v, err := abortOptions(options)
	if err != nil {
		return err
	}
	if v.escalate {
		return invalid("ForceAfter is not for groups")
	}
	if err := begin(ctx, "aborting a group"); err != nil {
		return err
	}
	_, err = g.ask(ctx, "aborting a group", func(group core.Group, timeout int64) core.Future {
		return core.GroupAbort(group, v.flags, timeout)
	})
	return err
}

// ask returns the job that decided, which an error has as well.
func (g *Group) ask(ctx context.Context, what string,
	start func(group core.Group, timeout int64) core.Future) (*Job, error) {
	if ctx == nil {
		return nil, noContext(what)
	}
	handle, err := g.open()
	if err != nil {
		return nil, err
	}
	future := start(handle, timeout(ctx, core.TimeoutNone))
	core.GroupUnref(handle) // a wait keeps its jobs

	f := g.jobs[0].monitor.hub.await(future, what, g)
	defer f.free()

	_, err = f.wait(ctx)
	job := g.decider(f.handle)
	var e *Error
	if errors.As(err, &e) {
		e.Job = job
	}
	return job, err
}

func (g *Group) open() (core.Group, error) {
	defer runtime.KeepAlive(g)

	if g == nil || len(g.jobs) == 0 {
		return nil, invalid("the group is empty")
	}
	for _, job := range g.jobs {
		if job.use() == nil {
			return nil, errNoJob()
		}
	}
	first := g.jobs[0]
	handle, err := first.monitor.hub.newGroup()
	if err != nil {
		return nil, err
	}
	for _, job := range g.jobs {
		code := core.GroupAdd(handle, job.handle)
		if code == core.OK {
			continue
		}
		core.GroupUnref(handle)
		if Code(code) == ErrInvalid {
			return nil, invalid("jobs " + first.id + " and " + job.id +
				" can't be in one group: their monitors have different limits")
		}
		return nil, check("making a group", code)
	}
	return handle, nil
}

func (g *Group) decider(future core.Future) *Job {
	handle := core.FutureJob(future)
	defer core.JobUnref(handle)

	for _, job := range g.jobs {
		if handle != nil && job.handle == handle {
			return job
		}
	}
	return nil
}
