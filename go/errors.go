// SPDX-License-Identifier: MIT
// Errors: what kind, whose text, and how they fit errors.Is and errors.As.

package blockjob

import (
	"context"
	"errors"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A Code is the kind of an [Error]. It is an error itself, so that
//
//	errors.Is(err, blockjob.ErrStalled)
//
// asks for a kind.
type Code int

// The kinds of errors.
const (
	ErrInvalid      Code = core.EInval        // an argument is invalid
	ErrNoMemory     Code = core.ENomem        // out of memory; nothing was done
	ErrSystem       Code = core.ESystem       // the operating system refused a thread, an fd, ...
	ErrForked       Code = core.EForked       // the object belongs to the parent process
	ErrTimeout      Code = core.ETimeout      // a deadline passed; nothing was done to the job, and the text says what is amiss, if anything is
	ErrCancelled    Code = core.ECancelled    // the context was cancelled; the job goes on
	ErrClosed       Code = core.EClosed       // this program closed the monitor
	ErrBusy         Code = core.EBusy         // a limit was reached; nothing was sent
	ErrUnsupported  Code = core.EUnsupported  // QEMU, or libvirt, has no such command; or there is no libvirt driver
	ErrConnect      Code = core.EConnect      // no connection could be made
	ErrProtocol     Code = core.EProtocol     // the peer sent something that is not QMP, or more than the limits allow
	ErrDisconnected Code = core.EDisconnected // the connection ended before the answer came
	ErrRefused      Code = core.ERefused      // QEMU refused the command; class and text are QEMU's
	ErrNoJob        Code = core.ENoJob        // no job of that id
	ErrNotReady     Code = core.ENotReady     // OnlyIfReady, and it is not
	ErrStalled      Code = core.EStalled      // the job is paused, or an I/O error stopped it: resume it, or abort it with Force
	ErrState        Code = core.EState        // the verb does not fit what the job is or does
	ErrJobFailed    Code = core.EJobFailed    // the job failed; the text is QEMU's
	ErrJobLost      Code = core.EJobLost      // how the job ended is unknown; the text gives the reason
	ErrJobEnded     Code = core.EJobEnded     // the job ended differently from what was requested; see Error.Outcome
)

// Error returns a short sentence for the kind.
func (c Code) Error() string {
	return "blockjob: " + core.String(core.ErrorText(int(c)))
}

// An Error is what every function of this package returns on failure.
//
// errors.Is compares it with a [Code]; where a context ended the wait, also with context.DeadlineExceeded or
// context.Canceled, and with the cause that the program gave to the context (context.Cause, Go 1.20).
type Error struct {
	Code    Code
	Text    string  // a sentence that names the thing and the remedy; QEMU's own words where there are any
	Class   string  // QEMU's error class ("GenericError", ...) of an ErrRefused, or libvirt's error number ("83"); else ""
	Outcome Outcome // how the job ended, NoOutcome if it has not, or if the error is not about a job
	Job     *Job    // of a wait on a Group: the job that decided it, else nil

	context error // that the context had, or nil
	cause   error // of the context's end, or nil
}

// Error returns the text, with the name of the package before it.
func (e *Error) Error() string {
	if e.Text == "" {
		return e.Code.Error()
	}
	return "blockjob: " + e.Text
}

// Is reports whether target is the error's [Code], or the context's error where that ended the wait.
func (e *Error) Is(target error) bool {
	if code, ok := target.(Code); ok {
		return code == e.Code
	}
	return errors.Is(e.context, target)
}

// Unwrap returns the cause of the context's end where that ended the wait, otherwise nil.
func (e *Error) Unwrap() error {
	return e.cause
}

// Timeout reports whether a deadline passed, as net.Error does.
func (e *Error) Timeout() bool {
	return e.Code == ErrTimeout
}

// An Outcome is how a job ended. It is latched once and never changes afterwards.
type Outcome int

// The outcomes.
const (
	NoOutcome Outcome = core.OutcomeNone      // it has not ended
	Completed Outcome = core.OutcomeCompleted // finished; of a mirror or an active commit: perhaps by another client's verb, and whether the disk was switched is unknown
	Pivoted   Outcome = core.OutcomePivoted   // the disk was switched to the copy, or to the base
	Copied    Outcome = core.OutcomeCopied    // a ready mirror was aborted softly: the target is a consistent copy, the disk was not switched
	Cancelled Outcome = core.OutcomeCancelled // cancelled; the target is worthless
	Failed    Outcome = core.OutcomeFailed    // failed; Job.Err has QEMU's text
	Lost      Outcome = core.OutcomeLost      // unknown: the connection ended, or the job vanished unseen; Job.Err has the reason
)

// String returns the outcome as "PIVOTED".
func (o Outcome) String() string {
	return core.String(core.OutcomeName(int(o)))
}

// check makes an error of what a function that is no future has returned.
func check(what string, code int) error {
	if code >= 0 {
		return nil
	}
	return &Error{Code: Code(code), Text: what + ": " + core.String(core.ErrorText(code))}
}

// invalid is for arguments that are refused before the library sees them.
func invalid(text string) error {
	return &Error{Code: ErrInvalid, Text: text}
}

// ended is what a call returns once its context has ended.
func ended(ctx context.Context, what string) error {
	e := &Error{Code: ErrCancelled, Text: what + ": " + ctx.Err().Error()}
	if ctx.Err() == context.DeadlineExceeded {
		e.Code = ErrTimeout
	}
	return e.because(ctx.Err(), cause(ctx))
}

// because adds the context's error, and the cause where that is another.
func (e *Error) because(context, cause error) error {
	e.context, e.cause = context, cause
	if !errors.Is(context, cause) {
		e.Text += ": " + cause.Error()
	}
	return e
}

// begin refuses what is not to be begun.
func begin(ctx context.Context, what string) error {
	if ctx == nil {
		return noContext(what)
	}
	if ctx.Err() != nil {
		return ended(ctx, what)
	}
	return nil
}

func noContext(what string) error {
	return invalid(what + ": the context is nil")
}

var closedChannel = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

func errNoMonitor() error {
	return invalid("a Monitor is made by Dial")
}

func errNoJob() error {
	return invalid("a Job comes from a Monitor: it is started, or attached to")
}

func errClosed() error {
	return &Error{Code: ErrClosed, Text: "the monitor is closed"}
}
