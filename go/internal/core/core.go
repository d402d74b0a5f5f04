// SPDX-License-Identifier: MIT

// Package core is the C library: its functions as SWIG wraps them (blockjob.go), and its constants
// and records as cgo reads them from the public header (this file).
//
// It adds nothing to the header and hides nothing of it: references are counted by hand, strings are
// the library's, and the comments of blockjob.h are its documentation.
//
// The library itself is here as well, in blockjob_core.c, which `make amalgamation` makes. With the
// build tag libblockjob_system the installed one is linked instead.
package core

// #include "core.h"
// #include <stdlib.h>
import "C"

import "unsafe"

// Errors of bj_error.
const (
	OK            = C.BJ_OK
	EInval        = C.BJ_E_INVAL
	ENomem        = C.BJ_E_NOMEM
	ESystem       = C.BJ_E_SYSTEM
	EForked       = C.BJ_E_FORKED
	EDeadlock     = C.BJ_E_DEADLOCK
	EPending      = C.BJ_E_PENDING
	ETimeout      = C.BJ_E_TIMEOUT
	ECancelled    = C.BJ_E_CANCELLED
	EClosed       = C.BJ_E_CLOSED
	EBusy         = C.BJ_E_BUSY
	EUnsupported  = C.BJ_E_UNSUPPORTED
	EConnect      = C.BJ_E_CONNECT
	EProtocol     = C.BJ_E_PROTOCOL
	EDisconnected = C.BJ_E_DISCONNECTED
	ERefused      = C.BJ_E_REFUSED
	ENoJob        = C.BJ_E_NO_JOB
	ENotReady     = C.BJ_E_NOT_READY
	EStalled      = C.BJ_E_STALLED
	EState        = C.BJ_E_STATE
	EJobFailed    = C.BJ_E_JOB_FAILED
	EJobLost      = C.BJ_E_JOB_LOST
	EJobEnded     = C.BJ_E_JOB_ENDED
)

// Outcomes of bj_outcome.
const (
	OutcomeNone      = C.BJ_OUTCOME_NONE
	OutcomeCompleted = C.BJ_OUTCOME_COMPLETED
	OutcomePivoted   = C.BJ_OUTCOME_PIVOTED
	OutcomeCopied    = C.BJ_OUTCOME_COPIED
	OutcomeCancelled = C.BJ_OUTCOME_CANCELLED
	OutcomeFailed    = C.BJ_OUTCOME_FAILED
	OutcomeLost      = C.BJ_OUTCOME_LOST
)

// Limits of bj_limit.
const (
	LimitMessageBytes   = C.BJ_LIMIT_MESSAGE_BYTES
	LimitMessageTokens  = C.BJ_LIMIT_MESSAGE_TOKENS
	LimitMessageNesting = C.BJ_LIMIT_MESSAGE_NESTING
	LimitInFlight       = C.BJ_LIMIT_IN_FLIGHT
	LimitQueued         = C.BJ_LIMIT_QUEUED
	LimitJobs           = C.BJ_LIMIT_JOBS
	LimitWatchRing      = C.BJ_LIMIT_WATCH_RING
	LimitConnectMS      = C.BJ_LIMIT_CONNECT_MS
	LimitCommandMS      = C.BJ_LIMIT_COMMAND_MS
	LimitStallMS        = C.BJ_LIMIT_STALL_MS
	LimitPollMS         = C.BJ_LIMIT_POLL_MS
	LimitConvergeMS     = C.BJ_LIMIT_CONVERGE_MS
	LimitCount          = LimitConvergeMS + 1
)

// Timeouts and flags.
const (
	TimeoutNone    = C.BJ_TIMEOUT_NONE
	TimeoutDefault = C.BJ_TIMEOUT_DEFAULT

	DoneOver         = C.BJ_DONE_OVER
	DoneReleased     = C.BJ_DONE_RELEASED
	PivotWaitReady   = C.BJ_PIVOT_WAIT_READY
	PivotOnlyIfReady = C.BJ_PIVOT_ONLY_IF_READY
	PivotAsync       = C.BJ_PIVOT_ASYNC
	PivotReleased    = C.BJ_PIVOT_RELEASED
	FinishOver       = C.BJ_FINISH_OVER
	FinishReleased   = C.BJ_FINISH_RELEASED
	AbortSoft        = C.BJ_ABORT_SOFT
	AbortForce       = C.BJ_ABORT_FORCE
	AbortAsync       = C.BJ_ABORT_ASYNC
	AbortReleased    = C.BJ_ABORT_RELEASED

	TransactionEach    = C.BJ_TRANSACTION_EACH
	TransactionGrouped = C.BJ_TRANSACTION_GROUPED

	TracePlain  = C.BJ_TRACE_PLAIN
	TraceMasked = C.BJ_TRACE_MASKED
)

// Kinds of bj_record.
const (
	RecordFuture       = C.BJ_RECORD_FUTURE
	RecordEvent        = C.BJ_RECORD_EVENT
	RecordDisconnected = C.BJ_RECORD_DISCONNECTED
	RecordReconnected  = C.BJ_RECORD_RECONNECTED
	RecordStatus       = C.BJ_RECORD_STATUS
	RecordReady        = C.BJ_RECORD_READY
	RecordStalled      = C.BJ_RECORD_STALLED
	RecordResumed      = C.BJ_RECORD_RESUMED
	RecordProgress     = C.BJ_RECORD_PROGRESS
	RecordEnded        = C.BJ_RECORD_ENDED
	RecordLagged       = C.BJ_RECORD_LAGGED
	RecordClosed       = C.BJ_RECORD_CLOSED
	RecordAppeared     = C.BJ_RECORD_APPEARED
	RecordReleased     = C.BJ_RECORD_RELEASED
	RecordSent         = C.BJ_RECORD_SENT
	RecordReceived     = C.BJ_RECORD_RECEIVED
	RecordMemo         = C.BJ_RECORD_MEMO
)

// String copies a string of the library; "" for NULL.
func String(s unsafe.Pointer) string {
	return C.GoString((*C.char)(s))
}

// Record is a bj_record, read in place: valid until the next Read of its Batch.
type Record struct {
	record *C.bj_record
}

func (r Record) Token() uint64      { return uint64(r.record.token) }
func (r Record) Kind() int          { return int(r.record.kind) }
func (r Record) Error() int         { return int(r.record.error) }
func (r Record) Outcome() int       { return int(r.record.outcome) }
func (r Record) Lost() uint64       { return uint64(r.record.lost) }
func (r Record) Current() int64     { return int64(r.record.current) }
func (r Record) Total() int64       { return int64(r.record.total) }
func (r Record) TimestampUS() int64 { return int64(r.record.timestamp_us) }
func (r Record) Name() string       { return C.GoString(r.record.name) }
func (r Record) Text() string       { return C.GoString(r.record.text) }
func (r Record) Job() Job           { return Job(r.record.job) }
func (r Record) Sequence() uint64   { return uint64(r.record.sequence) }
func (r Record) LostEnds() uint64   { return uint64(r.record.lost_ends) }
func (r Record) Started() bool      { return bool(r.record.started) }
func (r Record) Cause() int         { return int(r.record.cause) }
func (r Record) Resumed() bool      { return bool(r.record.resumed) }
func (r Record) Inferred() bool     { return bool(r.record.inferred) }

const batchSize = 128

// Batch is room for the records of one bj_queue_read. It is C's memory: the garbage collector must
// not look at the pointers in it, which the library may free and map anew.
type Batch struct {
	records *[batchSize]C.bj_record
}

// NewBatch returns a batch, to be given back with Free.
func NewBatch() Batch {
	return Batch{(*[batchSize]C.bj_record)(C.malloc(batchSize * C.sizeof_bj_record))}
}

// Read takes records out of the queue and returns how many, 0 if there are none.
func (b Batch) Read(queue Queue) int {
	return QueueRead(queue, unsafe.Pointer(b.records), C.sizeof_bj_record, batchSize)
}

// Record returns the i-th record of the last Read.
func (b Batch) Record(i int) Record {
	return Record{&b.records[i]}
}

// Free gives the memory back.
func (b Batch) Free() {
	C.free(unsafe.Pointer(b.records))
}

// WatchEvents is bj_monitor_watch_events.
func WatchEvents(monitor Monitor, names []string, watch *Watch) int {
	array := (*[1 << 20]*C.char)(C.calloc(C.size_t(len(names)+1), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	if array == nil {
		return ENomem
	}
	for i, name := range names {
		array[i] = C.CString(name)
	}
	code := C.bj_monitor_watch_events((*C.bj_monitor)(monitor), &array[0], C.size_t(len(names)),
		(**C.bj_watch)(unsafe.Pointer(watch)))
	for i := range names {
		C.free(unsafe.Pointer(array[i]))
	}
	C.free(unsafe.Pointer(array))
	return int(code)
}

// ConnectWith is bj_monitor_connect_with with the options one by one. A trace is wanted where `trace` is not nil. What
// C gets pointers to is C's memory.
func ConnectWith(ctx Ctx, uri, name string, waitMS int64, trace *Watch, traceFlags int, outOfBand bool, timeoutMS int64) Future {
	type memory struct {
		options C.bj_connect_options
		trace   *C.bj_watch
	}
	m := (*memory)(C.calloc(1, C.size_t(unsafe.Sizeof(memory{}))))
	cURI, cName := C.CString(uri), C.CString(name)
	defer C.free(unsafe.Pointer(m))
	defer C.free(unsafe.Pointer(cURI))
	defer C.free(unsafe.Pointer(cName))

	m.options.size = C.sizeof_bj_connect_options
	m.options.name = cName
	m.options.wait_ms = C.int64_t(waitMS)
	m.options.trace_flags = C.int(traceFlags)
	m.options.out_of_band = C.bool(outOfBand)
	if trace != nil {
		m.options.ret_trace = &m.trace
	}
	future := C.bj_monitor_connect_with((*C.bj_ctx)(ctx), cURI, &m.options, C.int64_t(timeoutMS))
	if trace != nil {
		*trace = Watch(m.trace)
	}
	return Future(future)
}

// Execute is MonitorExecuteWith with the options one by one.
func Execute(monitor Monitor, command, arguments string, fds []int32, outOfBand bool, timeout int64) Future {
	options := C.bj_execute_options{
		size:        C.sizeof_bj_execute_options,
		fd_count:    C.size_t(len(fds)),
		out_of_band: C.bool(outOfBand),
	}
	if len(fds) > 0 { // C must not find Go's memory in what it is passed
		memory := C.malloc(C.size_t(len(fds)) * C.sizeof_int)
		defer C.free(memory)
		copy(unsafe.Slice((*int32)(memory), len(fds)), fds)
		options.fds = (*C.int)(memory)
	}
	return MonitorExecuteWith(monitor, command, arguments, unsafe.Pointer(&options), timeout)
}

// WatchJobs is MonitorWatchJobs with the options one by one.
func WatchJobs(monitor Monitor, progressMS int64, remembered []string, memos bool, watch *Watch) int {
	options := C.bj_watch_jobs_options{
		size:             C.sizeof_bj_watch_jobs_options,
		progress_ms:      C.int64_t(progressMS),
		remembered_count: C.size_t(len(remembered)),
		memos:            C.bool(memos),
	}
	texts := newTexts(remembered)
	defer texts.free()
	if len(texts) > 0 {
		options.remembered = &texts[0]
	}
	return MonitorWatchJobs(monitor, unsafe.Pointer(&options), watch)
}

// texts are C's memory, as C may not have pointers to Go's pointers.
type texts []*C.char

func newTexts(from []string) texts {
	if len(from) == 0 {
		return nil
	}
	array := (**C.char)(C.calloc(C.size_t(len(from)), C.size_t(unsafe.Sizeof((*C.char)(nil)))))
	all := texts(unsafe.Slice(array, len(from)))
	for i, text := range from {
		all[i] = C.CString(text)
	}
	return all
}

func (t texts) free() {
	for _, text := range t {
		C.free(unsafe.Pointer(text))
	}
	if len(t) > 0 {
		C.free(unsafe.Pointer(&t[0]))
	}
}

// JobMemo is bj_job_memo.
func JobMemo(job Job) string {
	var buffer [C.BJ_MEMO_SIZE]C.char
	length := C.bj_job_memo((*C.bj_job)(job), &buffer[0], C.BJ_MEMO_SIZE)
	if length <= 0 {
		return ""
	}
	return C.GoString(&buffer[0])
}

// CheckMemo says why it is no memo; "" if it is one.
func CheckMemo(memo string) string {
	text := C.CString(memo)
	defer C.free(unsafe.Pointer(text))
	var why *C.char
	if C.bj_memo_check(text, &why) == C.BJ_OK {
		return ""
	}
	return C.GoString(why)
}

// Info is a bj_job_info.
type Info struct {
	ID, Type, Status, Error, IOStatus        string
	Current, Total, Speed                    int64
	Ready, Paused, AutoDismiss, AutoFinalize bool
}

// Infos copies the rows of a future.
func Infos(future Future) []Info {
	infos := make([]Info, FutureInfoCount(future))

	for i := range infos {
		row := (*C.bj_job_info)(FutureInfo(future, int64(i)))
		infos[i] = Info{
			ID:           C.GoString(row.id),
			Type:         C.GoString(row._type),
			Status:       C.GoString(row.status),
			Error:        C.GoString(row.error),
			IOStatus:     C.GoString(row.io_status),
			Current:      int64(row.current),
			Total:        int64(row.total),
			Speed:        int64(row.speed),
			Ready:        bool(row.ready),
			Paused:       bool(row.paused),
			AutoDismiss:  bool(row.auto_dismiss),
			AutoFinalize: bool(row.auto_finalize),
		}
	}
	return infos
}

// Timeline is all that bj_job_time tells, in microseconds since 1970.
type Timeline struct {
	StartSent, ReadyEvent, ReadySeen, CompleteSent, CompleteAccepted, EndEvent, EndSeen int64
}

// TimelineOf asks a job for its moments, the latest first: where one is known, those before it are.
func TimelineOf(job Job) (t Timeline) {
	for _, moment := range []struct {
		time  *int64
		which int
	}{
		{&t.EndSeen, C.BJ_MOMENT_END_SEEN},
		{&t.EndEvent, C.BJ_MOMENT_END_EVENT},
		{&t.CompleteAccepted, C.BJ_MOMENT_COMPLETE_ACCEPTED},
		{&t.CompleteSent, C.BJ_MOMENT_COMPLETE_SENT},
		{&t.ReadySeen, C.BJ_MOMENT_READY_SEEN},
		{&t.ReadyEvent, C.BJ_MOMENT_READY_EVENT},
		{&t.StartSent, C.BJ_MOMENT_START_SENT},
	} {
		if time := JobTime(job, moment.which); time > 0 {
			*moment.time = time
		}
	}
	return t
}
