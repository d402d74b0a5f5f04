// SPDX-License-Identifier: MIT
// The C context that the monitors of the process share, and the goroutine that reads its queue.

package blockjob

import (
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A hub is a context with its loop thread, one queue and one goroutine. The first Dial makes it, the
// last Close ends it. All monitors share one, unless their limits differ.
type hub struct {
	limits   limits
	ring     uint64 // of a stream
	bytes    uint64 // of a stream, too
	jobs     uint64 // of a monitor
	monitors int    // guarded by hubs

	ctx   core.Ctx
	queue core.Queue
	fd    *os.File      // a duplicate of the queue's, for the runtime's poller
	done  chan struct{} // closed when the goroutine has ended

	mu     sync.Mutex
	closed bool // nothing is delivered any more
	token  uint64
	sinks  map[uint64]sink
}

// A sink is where the records of one token go. receive runs on the reader's goroutine and must not
// block; false means that this was the last record.
type sink interface {
	receive(record core.Record) bool
}

var hubs = struct {
	sync.Mutex
	of map[limits]*hub
}{of: make(map[limits]*hub)}

// joinHub returns the hub of these limits, to be given back with leave.
func joinHub(l limits) (*hub, error) {
	hubs.Lock()
	defer hubs.Unlock()

	h := hubs.of[l]
	if h == nil {
		var err error
		if h, err = newHub(l); err != nil {
			return nil, err
		}
		hubs.of[l] = h
	}
	h.monitors++
	return h, nil
}

// leave ends the hub with its last monitor. What is still pending is answered then.
func (h *hub) leave() {
	hubs.Lock()
	h.monitors--
	last := h.monitors == 0
	if last {
		delete(hubs.of, h.limits)
	}
	hubs.Unlock()

	if last {
		h.close()
	}
}

func newHub(l limits) (*hub, error) {
	ctx, err := newContext(l)
	if err != nil {
		return nil, err
	}
	defer core.CtxUnref(ctx)

	queue, err := newQueue(ctx)
	if err != nil {
		return nil, err
	}
	defer core.QueueUnref(queue)

	fd, err := pollable(core.QueueFd(queue))
	if err != nil {
		return nil, &Error{Code: ErrSystem, Text: "polling the library's queue: " + err.Error()}
	}

	var ring, bytes, jobs uint64
	core.CtxGetLimit(ctx, core.LimitWatchRing, &ring)
	core.CtxGetLimit(ctx, core.LimitMessageBytes, &bytes)
	core.CtxGetLimit(ctx, core.LimitJobs, &jobs)
	h := &hub{
		limits: l,
		ring:   ring,
		bytes:  bytes,
		jobs:   jobs,
		ctx:    core.CtxRef(ctx),
		queue:  core.QueueRef(queue),
		fd:     fd,
		done:   make(chan struct{}),
		sinks:  make(map[uint64]sink),
	}
	go h.read()
	return h, nil
}

func newContext(l limits) (core.Ctx, error) {
	var ctx core.Ctx
	if err := check("making a context", core.CtxNew(&ctx)); err != nil {
		return nil, err
	}
	for limit, value := range l {
		if value == 0 {
			continue
		}
		if err := check(fmt.Sprintf("limit %d of %d", limit, value), core.CtxSetLimit(ctx, limit, value)); err != nil {
			core.CtxUnref(ctx)
			return nil, err
		}
	}
	return ctx, nil
}

// newQueue reads the queue once: that makes the library's room for a batch, so that no later read fails
// for lack of memory.
func newQueue(ctx core.Ctx) (core.Queue, error) {
	var queue core.Queue
	if err := check("making a queue", core.QueueNew(ctx, &queue)); err != nil {
		return nil, err
	}
	batch := core.NewBatch()
	defer batch.Free()

	if err := check("reading a queue", batch.Read(queue)); err != nil {
		core.QueueUnref(queue)
		return nil, err
	}
	return queue, nil
}

// pollable returns a duplicate of fd that the runtime's poller watches: it must own what it watches,
// and the fd is the queue's.
func pollable(fd int) (*os.File, error) {
	syscall.ForkLock.RLock()
	duplicate, err := syscall.Dup(fd)
	if err == nil {
		syscall.CloseOnExec(duplicate)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, err
	}

	err = syscall.SetNonblock(duplicate, true)
	file := os.NewFile(uintptr(duplicate), "blockjob queue")
	if err == nil {
		// Fails for a file that the poller does not watch.
		err = file.SetReadDeadline(time.Time{})
	}
	if err != nil {
		file.Close()
		return nil, err
	}
	return file, nil
}

// read is the hub's goroutine. It parks in the poller, not in a thread.
func (h *hub) read() {
	defer close(h.done)

	batch := core.NewBatch()
	defer batch.Free()

	conn, err := h.fd.SyscallConn()
	if err == nil {
		// Calls the function before each wait for the fd to become readable, until the deadline
		// that close sets.
		conn.Read(func(uintptr) bool {
			h.drain(batch)
			return false
		})
	}
	h.drain(batch)
}

func (h *hub) drain(batch core.Batch) {
	for n := batch.Read(h.queue); n > 0; n = batch.Read(h.queue) {
		for i := 0; i < n; i++ {
			record := batch.Record(i)
			token := record.Token()

			h.mu.Lock()
			sink := h.sinks[token]
			h.mu.Unlock()

			// A call that ended with its context has taken the sink away.
			if sink != nil && !sink.receive(record) {
				h.forget(token)
			}
		}
	}
}

// deliver has the records of a future or a watch brought to a sink; `how` calls bj_future_deliver or
// bj_watch_deliver. False if there will be none: the hub is closed.
func (h *hub) deliver(to sink, how func(queue core.Queue, token uint64) int) (uint64, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if h.closed {
		return 0, false
	}
	h.token++
	h.sinks[h.token] = to
	if how(h.queue, h.token) != core.OK {
		delete(h.sinks, h.token)
		return 0, false
	}
	return h.token, true
}

// keep has the sink replaced by one that refers to more, as long as records are to come.
func (h *hub) keep(token uint64, s sink) {
	h.mu.Lock()
	if h.sinks[token] != nil {
		h.sinks[token] = s
	}
	h.mu.Unlock()
}

func (h *hub) forget(token uint64) {
	h.mu.Lock()
	delete(h.sinks, token)
	h.mu.Unlock()
}

func (h *hub) newGroup() (core.Group, error) {
	h.mu.Lock()
	defer h.mu.Unlock()

	if h.closed {
		return nil, errClosed()
	}
	var handle core.Group
	err := check("making a group", core.GroupNew(h.ctx, &handle))
	return handle, err
}

// close answers all that is pending, and returns when thread and goroutine have ended.
func (h *hub) close() {
	core.CtxClose(h.ctx)

	// What the context still owed is in the queue, and after this nothing more comes.
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()

	h.fd.SetReadDeadline(time.Unix(1, 0))
	<-h.done

	h.fd.Close()
	core.QueueUnref(h.queue)
	core.CtxUnref(h.ctx)
}
