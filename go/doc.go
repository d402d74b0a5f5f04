// SPDX-License-Identifier: MIT

// Package blockjob awaits QEMU's block jobs.
//
// A hypervisor copies, merges or backs up the disk of a running guest with a block job. This package
// turns the moments of such a job (ready, pivot, abort, end) into channels and calls with a context, and
// says truthfully how it ended. Nothing is polled: QEMU's own events decide.
//
//	monitor, err := blockjob.Dial(ctx, "unix:/run/vm1.qmp")
//	if err != nil {
//		return err
//	}
//	defer monitor.Close()
//
//	job, err := monitor.Mirror(ctx, "drive0", blockjob.MirrorOptions{Target: "copy0"})
//	if err != nil {
//		return err
//	}
//	outcome, err := job.Pivot(ctx) // waits for ready, switches to the copy, waits for that
//
// # Concepts
//
// A [Monitor] is the control channel to one QEMU, qemu-storage-daemon or domain of libvirt's, made by
// [Dial], or by [DialDomain] from what the program has of libvirt. A [Job] is one run of one block job,
// started by Mirror, Commit, Stream, Backup or Start, or found by Attach; an id used again is another
// Job. A job ends with an [Outcome], which is latched once.
//
// Gone is not success (B10): a job that failed is Failed with QEMU's text (B11); one that vanished, or
// whose connection ended, is Lost with the reason (B45); a ready mirror that was aborted softly is
// Copied, which is not Pivoted (B14).
//
// # Waiting
//
// What waits for the effect of a command is armed before the command is sent (B01), so nothing is
// missed. Waits are level-triggered: for what has happened already they return at once (B04). Any number
// of goroutines wait for the same thing (B05):
//
//	select {
//	case <-job.Ready():
//	case <-job.Done(): // job.Outcome() says how
//	case <-ctx.Done():
//	}
//
// A context that is cancelled, or whose deadline passes, means "I no longer listen". It never aborts a
// job and never disturbs another waiter (B06, B07). A pivot that nobody listens to any more is not
// started, though.
//
// Where no context sets a deadline, connecting has 10 seconds, and a command, a start, a list or an attach 60;
// a wait on a job or a verb has none.
//
// A [Group] awaits, pivots or aborts several jobs together (B08). A monitor that was told to reconnect,
// by [WithReconnect], carries waits through the end of its connection (B45).
//
// # Errors
//
// Every error is an *[Error] with a [Code], a sentence, and for what QEMU refused its error class:
//
//	if errors.Is(err, blockjob.ErrStalled) { ... }
//
//	var e *blockjob.Error
//	if errors.As(err, &e) && e.Outcome == blockjob.Cancelled { ... }
//
// Nothing panics: a nil context, option or job, a [Monitor] or [Job] that this package did not make, and text
// that is not valid UTF-8 (which JSON, and so QEMU, cannot hold) are an ErrInvalid of the call. Only the path of
// a socket may be any bytes.
//
// Where a context ended the wait, errors.Is(err, context.DeadlineExceeded), or context.Canceled, holds as well,
// and from Go 1.20 on also errors.Is(err, context.Cause(ctx)).
//
// # Events
//
// [Monitor.Events] brings all events of a QEMU, [Job.Watch] all that happens to one job, [Job.Progress]
// how far it is. Each call makes a stream of its own, in which every event comes in order, once, whoever
// caused it. The channel is closed when nothing more comes. What waits for a slow receiver is bounded, in
// number and in bytes; a receiver learns how much it missed, and disturbs nobody.
//
// # Printing
//
// Outcomes, jobs, monitors, groups and all records print as text (%v), and as attributes in log/slog (from Go 1.21
// on). What is known is printed; QEMU is not asked. Any goroutine may print a Job or a Monitor at any time.
//
// # Goroutines, threads and files
//
// All methods may be called from any goroutine, also while another calls Close. All monitors of a
// process, as far as they have the same limits, share one thread of the C library, one goroutine that is
// parked in the runtime's poller, and an eventfd; a monitor adds its socket, a stream its goroutine. The
// first Dial makes them, the last Close ends them: nothing outlives the monitors (B74, B75). For
// libvirt's domains there are more: its event loop, unless the program has one, which stays, and a pool that
// makes libvirt's blocking calls. A Monitor
// that is forgotten is closed when it is collected, but don't count on it.
//
// # Building
//
// The C library libblockjob is found by pkg-config when this package is built with cgo. Nothing of libvirt
// is needed to build it.
package blockjob
