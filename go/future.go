// SPDX-License-Identifier: MIT
// One answer of the library, awaited together with a context.

package blockjob

import (
	"context"
	"runtime"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A future owns one bj_future. Its answer comes through the hub's queue.
type future struct {
	hub    *hub
	handle core.Future
	token  uint64
	answer chan answer // room for one; nil if the hub was closed
	what   string      // it is about, for the text of an error
	owner  any         // a monitor or a job, that must not be collected meanwhile
}

type answer struct {
	code    int
	cause   int
	outcome Outcome
	class   string
	text    string
}

// await takes over a bj_future; free gives it back.
func (h *hub) await(handle core.Future, what string, owner any) *future {
	f := &future{hub: h, handle: handle, what: what, owner: owner, answer: make(chan answer, 1)}

	token, ok := h.deliver(f, func(queue core.Queue, token uint64) int {
		return core.FutureDeliver(handle, queue, token)
	})
	if !ok {
		f.answer = nil
	}
	f.token = token
	return f
}

func (f *future) receive(record core.Record) bool {
	f.answer <- answer{
		code:    record.Error(),
		cause:   record.Cause(),
		outcome: Outcome(record.Outcome()),
		class:   record.Name(),
		text:    record.Text(),
	}
	return false
}

func (f *future) free() {
	f.hub.forget(f.token)
	core.FutureUnref(f.handle)
	runtime.KeepAlive(f.owner)
}

// The library's own timer runs out when the context does, and its text is better, for instance that
// another client may hold the monitor (B47). This is how late that text may come on a busy machine.
const grace = time.Second

// wait returns the answer, or the context's error when that ends first: then nobody listens to the
// future any more, and the job goes on (B07).
func (f *future) wait(ctx context.Context) (answer, error) {
	if a, ok := f.delivered(ctx); ok {
		return f.judge(ctx, a)
	}
	// An answer that came just before the cancel counts: it may be a job that has started.
	core.FutureCancel(f.handle)
	a := answer{
		code:    core.FutureError(f.handle),
		cause:   core.FutureCause(f.handle),
		outcome: Outcome(core.FutureOutcome(f.handle)),
		class:   core.String(core.FutureErrorClass(f.handle)),
		text:    core.String(core.FutureText(f.handle)),
	}
	if a.code == core.OK {
		a.text = core.String(core.FutureJson(f.handle))
	}
	if a.code == core.ECancelled {
		if f.answer == nil {
			return a, errClosed()
		}
		return a, ended(ctx, f.what)
	}
	return f.judge(ctx, a)
}

// delivered waits until the context ends; false if the answer did not come, or won't come.
func (f *future) delivered(ctx context.Context) (answer, bool) {
	if f.answer == nil {
		return answer{}, false
	}
	select {
	case a := <-f.answer:
		return a, true
	case <-ctx.Done():
	}
	if _, ok := ctx.Deadline(); !ok || ctx.Err() != context.DeadlineExceeded {
		return answer{}, false
	}
	timer := time.NewTimer(grace)
	defer timer.Stop()

	select {
	case a := <-f.answer:
		return a, true
	case <-timer.C:
		return answer{}, false
	}
}

func (f *future) judge(ctx context.Context, a answer) (answer, error) {
	if a.code == core.OK {
		return a, nil
	}
	e := &Error{Code: Code(a.code), Text: a.text, Class: a.class, Outcome: a.outcome, lostBy: Code(a.cause)}
	if _, ok := ctx.Deadline(); ok && e.Code == ErrTimeout {
		return a, e.because(context.DeadlineExceeded, lateness(ctx))
	}
	return a, e
}

// lateness is why a deadline was set, of a context whose own timer may be a moment behind the library's.
func lateness(ctx context.Context) error {
	timer := time.NewTimer(grace)
	defer timer.Stop()

	select {
	case <-ctx.Done():
	case <-timer.C:
	}
	if ctx.Err() == context.DeadlineExceeded {
		return cause(ctx)
	}
	return context.DeadlineExceeded
}

// timeout is what the library is given: the time that is left to the context, or else `without`.
func timeout(ctx context.Context, without int64) int64 {
	deadline, ok := ctx.Deadline()
	if !ok {
		return without
	}
	return milliseconds(time.Until(deadline))
}

// milliseconds rounds up, so that a short time is not none; what has passed is 0.
func milliseconds(d time.Duration) int64 {
	if d <= 0 {
		return 0
	}
	ms := int64(d / time.Millisecond)
	if d%time.Millisecond != 0 {
		ms++
	}
	return ms
}
