// SPDX-License-Identifier: MIT

// Package blockjob awaits QEMU's block jobs.
//
// A hypervisor copies, merges or backs up the disk of a running guest with a block job. This package
// turns the moments of such a job (ready, pivot, abort, end) into channels and calls with a context, and
// reports truthfully how it ended. It does not poll where QEMU has an event.
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
// A [Monitor] is the control channel to one QEMU, qemu-storage-daemon or libvirt domain. [Dial] makes it from an
// address, [DialDomain] from a domain that the program already has. A [Job] is one run of one block job: started by
// Mirror, Commit, Stream, Backup or Start, or found by Attach. If its id is used again, that is another Job. A job
// ends with an [Outcome], which is latched once.
//
// A job that is gone has not succeeded. One that failed is Failed, with QEMU's text. One that vanished, or
// whose connection ended, is Lost, with the reason. A ready mirror that was aborted softly is Copied, not Pivoted.
//
// # Waiting
//
// Whatever waits for the effect of a command is armed before the command is sent, so nothing is missed. Waits are
// level-triggered: they return at once for what has already happened. Any number of goroutines may wait for
// the same thing:
//
//	select {
//	case <-job.Ready():
//	case <-job.Done(): // job.Outcome() is how it ended
//	case <-ctx.Done():
//	}
//
// A context that is cancelled, or whose deadline passes, ends the caller's wait and nothing else: the job goes on, and
// so do other waits for it. The one exception is a pivot that no caller awaits any more: it is not started.
//
// Without a deadline in the context, Dial has 10 seconds; a command, a start, a list or an attach has 60. A wait on a
// job or a verb has none.
//
// A [Group] awaits, pivots or aborts several jobs together. A monitor with [WithReconnect] carries waits
// through the end of its connection.
//
// # Errors
//
// Every error is an *[Error] with a [Code], a sentence and, for what QEMU refused, QEMU's error class:
//
//	if errors.Is(err, blockjob.ErrStalled) { ... }
//
//	var e *blockjob.Error
//	if errors.As(err, &e) && e.Outcome == blockjob.Cancelled { ... }
//
// Invalid arguments do not panic. A nil context, option or job, a [Monitor] or [Job] that this package did not make,
// and text that is not valid UTF-8 (which JSON, and so QEMU, cannot represent) make the call fail with ErrInvalid. Only
// the path of a socket may contain any bytes.
//
// Where a context ended the wait, errors.Is(err, context.DeadlineExceeded) or context.Canceled holds as well;
// from Go 1.20 on, so does errors.Is(err, context.Cause(ctx)).
//
// # Events
//
// [Monitor.Events] delivers all events of a QEMU, [Job.Watch] everything that happens to one job, and [Job.Progress]
// how far it is. [Monitor.WatchJobs] delivers what happens to all jobs of a QEMU, whoever starts them: each with its outcome,
// however short it was. Each call opens a stream of its own, which has every event once and in order, whoever caused
// it. The channel is closed when nothing more will come. What waits for a slow receiver is bounded, in
// number and in bytes; the receiver learns how much was dropped, and other receivers are not affected.
//
// # Printing
//
// Outcomes, jobs, monitors, groups and all records print as text (%v), and as attributes in log/slog (from Go 1.21
// on). This uses what is known, without asking QEMU. Any goroutine may print a Job or a Monitor at any time.
//
// # Goroutines, threads and files
//
// All methods may be called from any goroutine, also while another calls Close. The monitors of a process
// that have the same limits share one thread of the C library, one goroutine, which is parked in the
// runtime's poller, and one eventfd. Each monitor adds a socket, each stream a goroutine. The first Dial starts these,
// the last Close ends them: nothing outlives the monitors. CloseAsync does not wait for that. libvirt domains need more: a pool of threads for libvirt's
// blocking calls, and libvirt's event loop, which stays, unless the program runs one itself.
//
// A Monitor without references is closed when it is collected, but Close is the way to end it. It is not
// collected while a wait is under way, or while a stream or a channel of [Monitor.Done] or [Job.Done] is open.
//
// # Building
//
// The C library is part of the module: go build needs cgo, with a C compiler and pkg-config, and the development
// files of libev and jansson, such as Debian's libev-dev and libjansson-dev. With the build tag libblockjob_system the
// installed libblockjob is linked, which pkg-config must know. Without cgo the build fails and says what is missing.
//
// Building needs nothing of libvirt. The driver for libvirt's domains is compiled into programs that import the module
// go/libvirtjob; others load an installed one, libblockjob-libvirt.so.0 of the same version. A static program can only do
// the former.
package blockjob
